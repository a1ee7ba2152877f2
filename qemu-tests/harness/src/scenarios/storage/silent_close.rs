// SPDX-License-Identifier: GPL-2.0

//! A host that does not say that it gives rings back. All channels of a controller wait for it at the same
//! time, so that letting go of the controller takes as long as for one of them.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::devices::{counter, BUS};
use crate::failure::expect;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0801";
const DISK: storage::Address = (0, 0, 0);

const SCRIPT: &str = "on message op=12 do drop\non message op=2 do drop\n";

/// Four channels; no GPADL_TORNDOWN (12) arrives, nor a rescind (2) of those that go with the first one.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "silent-close",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_vmbus_rust.answer_secs=20",
    files: &[disk("disk", 16), text("bus", SCRIPT)],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0801",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
    ],
};

/// As long as the guest waits for one answer.
const ANSWER: Duration = Duration::from_secs(20);
/// For all of it; if but two of them wait one after the other, it takes longer.
const CLOSED: Duration = Duration::from_secs(40);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    storage::wait_for(vm, INSTANCE, DISK)?;
    let channels = storage::channels(vm, INSTANCE)?.len();
    expect(channels == 4, "four channels", channels)?;

    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    let start = Instant::now();
    Job::start(vm, "unbind", &format!("echo {INSTANCE} > {driver}/unbind"))?
        .expect_success(CLOSED * 2)?;
    let took = start.elapsed();
    expect(
        took >= ANSWER && took < CLOSED,
        format!("all let go of after {ANSWER:?}, and before {CLOSED:?}"),
        format!("{took:?}"),
    )?;
    let (timeouts, pages) = (counter(vm, "timeouts")?, counter(vm, "leaked_pages")?);
    expect(
        timeouts == 4 && pages > 0,
        "four answers missed, and the rings left to the host",
        format!("{timeouts} missed, {pages} pages"),
    )
}
