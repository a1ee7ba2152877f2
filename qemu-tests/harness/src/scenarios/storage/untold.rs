// SPDX-License-Identifier: GPL-2.0

//! A host that is not told that a channel is closed, or asked for its memory, since it does not take the message. It may
//! write to the memory until it is: the memory is left to it, it is told again, and the controller can be bound again.

use std::time::Duration;

use anyhow::Result;

use crate::devices::{counter, expect_none, BUS};
use crate::failure::expect;
use crate::fio::LOAD;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage;
use crate::vm::Vm;

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0c01";
const DISK: storage::Address = (0, 0, 0);

/// The first CLOSECHANNEL (7) and the second GPADL_TEARDOWN (11) are refused with a status that means no busy host: they
/// are not posted again at once. The first teardown is that of the first round, after its second close.
const SCRIPT: &str = "\
on post op=7 nth=1 do refuse 5
on post op=11 nth=2 do refuse 5
";

/// A controller with one channel on that host's bus.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "untold",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[disk("disk", 32), text("bus", SCRIPT)],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0c01",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
    ],
};

const BOUND: Duration = Duration::from_secs(10);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    for round in [
        "a channel not closed",
        "memory not asked for",
        "nothing refused",
    ] {
        let disk = storage::wait_for(vm, INSTANCE, DISK)?;
        LOAD.run(vm, &disk)?;
        vm.write(&format!("{driver}/unbind"), INSTANCE)?;
        all_back(vm, round)?;
        vm.write(&format!("{driver}/bind"), INSTANCE)?;
    }
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    LOAD.run(vm, &disk)?;
    expect_none(vm, &["timeouts", "bad_messages"])?;
    let log = vm.dmesg()?;
    for line in ["not closed yet", "not torn down"] {
        let times = log.matches(line).count();
        expect(times == 1, format!("'{line}' once in the log"), times)?;
    }
    Ok(())
}

/// The host has given all memory back.
fn all_back(vm: &Vm, round: &str) -> Result<()> {
    let what = format!("{round}: no page left to the host");
    vm.wait_until(BOUND, &what, || {
        let pages = counter(vm, "leaked_pages")?;
        Ok(if pages == 0 {
            Ok(())
        } else {
            Err(format!("{pages} pages"))
        })
    })
}
