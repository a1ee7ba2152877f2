// SPDX-License-Identifier: GPL-2.0

//! A host that breaks a ring under I/O. The controller is given up, once by itself in use again, once
//! unbound and bound again.

use std::time::Duration;

use anyhow::Result;

use crate::devices::{expect_none, BUS};
use crate::failure::expect;
use crate::fio::Verify;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};
use crate::vm::Vm;

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0901";
const DISK: storage::Address = (0, 0, 0);

/// Instead of two of its answers to READ(10) the ring says that the host has written beyond its end.
const SCRIPT: &str = "\
on send reqop=3 req.u8@28=0x28 nth=100 do drop ; index 0xfffffff0
on send reqop=3 req.u8@28=0x28 nth=300 do drop ; index 0xfffffff0
";

/// A controller with two channels, since the one that is broken need not be the only one.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "broken-ring",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        disk("disk", 16),
        text("broken", SCRIPT),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0901,fault-script=@/broken",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0,serial=BROKEN",
    ],
};

/// How long it may take until a reader is told.
const TOLD: Duration = Duration::from_secs(30);

const CHECK: Verify = Verify {
    pattern: "write",
    block: "4k-64k",
    depth: 8,
    jobs: 1,
    mib: 8,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    breaks(vm, &disk)?;
    storage::wait_for_revival(vm, INSTANCE)?;
    let again = storage::wait_for(vm, INSTANCE, DISK)?;
    expect(again == disk, format!("the same disk {disk}"), &again)?;

    breaks(vm, &disk)?;
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    vm.write(&format!("{driver}/unbind"), INSTANCE)?;
    vm.write(&format!("{driver}/bind"), INSTANCE)?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    CHECK.run(vm, &disk)?;
    expect_none(vm, &["timeouts", "leaked_pages"])
}

/// Reads until the ring breaks, which the reader is told soon.
fn breaks(vm: &Vm, disk: &str) -> Result<()> {
    let said_before = said_of_ring(vm)?;
    let reads = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=1000 iflag=direct");
    let (status, said) = Job::start(vm, "reader", &reads)?.wait(TOLD)?;
    expect(status != "0", "an error for the reader", said)?;
    let said = said_of_ring(vm)? - said_before;
    expect(said == 1, "one line about a ring that is corrupt", said)
}

/// How often the core has said so.
fn said_of_ring(vm: &Vm) -> Result<usize> {
    Ok(vm.dmesg()?.matches("inbound ring corrupt").count())
}
