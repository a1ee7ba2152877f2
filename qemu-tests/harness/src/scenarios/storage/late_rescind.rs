// SPDX-License-Identifier: GPL-2.0

//! A host that takes a sub-channel back late, when its controller is open a second time and about to be closed again:
//! the guest hears of it, but cannot handle it before another controller is closed. Nobody waits for more than that,
//! and the sub-channel is there again afterwards, with the relid that it had.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::devices::BUS;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};
use crate::vm::Vm;

/// It has relids 1 and 2.
const MAIN: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0d01";
/// It has relid 3.
const OTHER: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0d02";
const DISK: storage::Address = (0, 0, 0);
const QUEUES: u64 = 2;

/// The first rescind (2) of the sub-channel does not come when it should. It comes four seconds after a channel is
/// moved, before the guest is told of that (24). The third GPADL_TORNDOWN (12), after those of both channels of the
/// main controller, is the other one's, and late.
const SCRIPT: &str = "on message op=2 u32@8=2 nth=1 do drop
on message op=24 nth=1 do dup 1 ; raw 02000000000000000200000000000000 ; delay 4000
on message op=12 nth=3 do delay 12000
";
/// From the move on: when the guest has heard of the rescind, and the other controller is not closed yet.
const BETWEEN: Duration = Duration::from_secs(8);
const CLOSED: Duration = Duration::from_secs(40);

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "late-rescind",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("main-disk", 16),
        disk("other-disk", 16),
        text("bus", SCRIPT),
    ],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=one,file.driver=file,file.filename=@/main-disk",
        "-device hv-scsi,id=main,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0d01",
        "-device scsi-hd,bus=main.0,drive=one,scsi-id=0,lun=0",
        "-blockdev raw,node-name=two,file.driver=file,file.filename=@/other-disk",
        "-device hv-scsi,id=other,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0d02",
        "-device scsi-hd,bus=other.0,drive=two,scsi-id=0,lun=0",
    ],
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    storage::wait_for(vm, MAIN, DISK)?;
    storage::wait_for(vm, OTHER, DISK)?;
    wait_for_channels(vm)?;
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    let unbind =
        |name, instance| Job::start(vm, name, &format!("echo {instance} > {driver}/unbind"));

    unbind("first", MAIN)?.expect_success(CLOSED)?;
    vm.write(&format!("{driver}/bind"), MAIN)?;
    storage::wait_for(vm, MAIN, DISK)?;
    let cpu = format!("{BUS}/devices/{MAIN}/channels/1/cpu");
    let to = if vm.read(&cpu)?.trim() == "0" { 1 } else { 0 };
    let start = Instant::now();
    let moving = Job::start(vm, "move", &format!("echo {to} > {cpu}"))?;
    let other = unbind("other", OTHER)?;
    sleep(BETWEEN.saturating_sub(start.elapsed()));
    other.expect_running()?;
    unbind("second", MAIN)?.expect_success(CLOSED)?;
    other.expect_success(CLOSED)?;
    moving.expect_success(CLOSED)?;

    vm.write(&format!("{driver}/bind"), MAIN)?;
    let name = storage::wait_for(vm, MAIN, DISK)?;
    wait_for_channels(vm)?;
    let read = format!("dd if=/dev/{name} of=/dev/null bs=64k count=64 iflag=direct");
    storage::script(vm, &read).map(drop)
}

/// Waits until the driver uses all channels of the main controller.
fn wait_for_channels(vm: &Vm) -> Result<()> {
    vm.wait_until(Duration::from_secs(30), "channels of a controller", || {
        let count = storage::status(vm, MAIN, "channels")?;
        Ok(if count == QUEUES {
            Ok(())
        } else {
            Err(format!("{count} channels"))
        })
    })
}
