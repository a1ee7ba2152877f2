// SPDX-License-Identifier: GPL-2.0

//! Controllers that the host takes back while the guest lets go of them, and the host does not take, or does not answer,
//! what it is told for that. A rescind says more than the answer would: nobody waits for that any longer.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::devices::{expect_none, wait_for_post, BUS};
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};
use crate::vm::Vm;

const DISK: storage::Address = (0, 0, 0);

/// What the host does not do for a controller: its id there, its instance, and the line of [`SCRIPT`] that is met first.
struct Case {
    id: &'static str,
    instance: &'static str,
    line: u32,
}

/// With relid 1: CLOSECHANNEL (7) is not taken for 20 s, and GPADL_TEARDOWN (11) behind it never answered. With relid 2:
/// GPADL_TEARDOWN is not taken. With relid 3: it is not answered.
const SCRIPT: &str = "\
on post op=7 u32@8=1 within=20000 do refuse 0x13
on post op=11 u32@8=1 do drop
on post op=11 u32@8=2 within=20000 do refuse 0x13
on post op=11 u32@8=3 do drop
";

const CASES: [Case; 3] = [
    Case {
        id: "closing",
        instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0d01",
        line: 1,
    },
    Case {
        id: "asking",
        instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0d02",
        line: 3,
    },
    Case {
        id: "asked",
        instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0d03",
        line: 4,
    },
];

/// Three controllers with one channel each on that host's bus.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "taken-at-close",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_vmbus_rust.answer_secs=20",
    files: &[
        disk("closing", 16),
        disk("asking", 16),
        disk("asked", 16),
        text("bus", SCRIPT),
    ],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=closing,file.driver=file,file.filename=@/closing",
        "-device hv-scsi,id=closing,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0d01",
        "-device scsi-hd,bus=closing.0,drive=closing,scsi-id=0,lun=0",
        "-blockdev raw,node-name=asking,file.driver=file,file.filename=@/asking",
        "-device hv-scsi,id=asking,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0d02",
        "-device scsi-hd,bus=asking.0,drive=asking,scsi-id=0,lun=0",
        "-blockdev raw,node-name=asked,file.driver=file,file.filename=@/asked",
        "-device hv-scsi,id=asked,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0d03",
        "-device scsi-hd,bus=asked.0,drive=asked,scsi-id=0,lun=0",
    ],
};

/// Half the time that the host does not take a message, or is waited for.
const BOUND: Duration = Duration::from_secs(10);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    for case in CASES {
        let disk = storage::wait_for(vm, case.instance, DISK)?;
        storage::wait_scanned(vm, &disk)?;
        taken(vm, &case)?;
    }
    expect_none(vm, &["timeouts", "leaked_pages", "bad_messages"])
}

fn taken(vm: &Vm, case: &Case) -> Result<()> {
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    let text = format!("echo {} > {driver}/unbind", case.instance);
    let unbind = Job::start(vm, "unbind", &text)?;
    wait_for_post(vm, case.line)?;
    sleep(Duration::from_secs(1));
    unbind.expect_running()?;
    storage::unplug(vm, case.id)?;
    unbind.expect_success(BOUND)?;
    storage::wait_unplugged(vm, case.instance)
}
