// SPDX-License-Identifier: GPL-2.0

//! A host that opens a channel, and one that takes memory, after the guest has given up waiting. What it
//! did late is undone: nothing is left to it, and both controllers come back by themselves.

use std::time::Duration;

use anyhow::Result;

use crate::devices::{counter, BUS};
use crate::failure::expect;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};
use crate::vm::Vm;

/// With relid 1. Its second OPENCHANNEL_RESULT (6) is 30 s late, and all that the host says meanwhile.
const OPENED: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0601";
/// With relid 2. Its second GPADL_CREATED (10) is 15 s late.
const TAKEN: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0602";
const DISK: storage::Address = (0, 0, 0);

/// VERSION_RESPONSE (15) comes later than other answers are waited for: nothing can be done without a connection.
const SCRIPT: &str = "\
on message op=15 nth=1 do delay 14000
on message op=6 u32@8=1 nth=2 do delay 30000
on message op=10 u32@8=2 nth=2 do delay 15000
";

/// A guest of that host.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "late-answers",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_vmbus_rust.answer_secs=10",
    files: &[disk("opened", 16), disk("taken", 16), text("bus", SCRIPT)],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=opened,file.driver=file,file.filename=@/opened",
        "-device hv-scsi,id=s1,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0601",
        "-device scsi-hd,bus=s1.0,drive=opened,scsi-id=0,lun=0",
        "-blockdev raw,node-name=taken,file.driver=file,file.filename=@/taken",
        "-device hv-scsi,id=s2,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0602",
        "-device scsi-hd,bus=s2.0,drive=taken,scsi-id=0,lun=0",
    ],
};

/// Until a device for which the host was late is probed again.
const AGAIN: Duration = Duration::from_secs(90);

/// The number of `EBUSY`.
const EBUSY: i32 = 16;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let bind = format!("{BUS}/drivers/{}/bind", vm.core.storage_driver());
    for instance in [OPENED, TAKEN] {
        storage::wait_for(vm, instance, DISK)?;
        vm.write(&format!("{BUS}/devices/{instance}/driver/unbind"), instance)?;
    }

    // Nobody binds them again by hand.
    let taken = Job::start(vm, "taken", &format!("! echo {TAKEN} > {bind}"))?;
    taken.expect_success(Duration::from_secs(90))?;
    expect(
        counter(vm, "leaked_pages")? > 0,
        "pages left to the host",
        0,
    )?;
    wait_unleaked(vm)?;
    read(vm, TAKEN)?;

    // 10 s for the answer, and 10 s for the ring that the host had been told about.
    let opened = Job::start(vm, "opened", &format!("! echo {OPENED} > {bind}"))?;
    opened.expect_success(Duration::from_secs(150))?;
    expect(
        counter(vm, "leaked_pages")? > 0,
        "pages left to the host",
        0,
    )?;
    let refused = vm.try_write(&bind, OPENED)?;
    expect(
        refused == Some(EBUSY),
        "no second open before the first is answered",
        format!("{refused:?}"),
    )?;
    wait_unleaked(vm)?;
    let late = counter(vm, "late_replies")?;
    expect(late >= 2, "late answers counted", late)?;
    read(vm, OPENED)?;

    // One that was unbound by hand stays so, though it is not long ago that it was to be probed again.
    vm.write(&format!("{BUS}/devices/{OPENED}/driver/unbind"), OPENED)?;
    std::thread::sleep(Duration::from_secs(25));
    let driver = format!("{BUS}/devices/{OPENED}/driver");
    let bound = vm.try_exec(&["test", "-e", &driver])?.status == 0;
    expect(!bound, "no driver for what was unbound by hand", bound)
}

fn wait_unleaked(vm: &Vm) -> Result<()> {
    vm.wait_until(Duration::from_secs(90), "no page left to the host", || {
        let pages = counter(vm, "leaked_pages")?;
        Ok(if pages == 0 {
            Ok(())
        } else {
            Err(format!("{pages}"))
        })
    })
}

fn read(vm: &Vm, instance: &str) -> Result<()> {
    let disk = storage::wait_for_long(vm, instance, DISK, AGAIN)?;
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct");
    storage::script(vm, &read).map(drop)
}
