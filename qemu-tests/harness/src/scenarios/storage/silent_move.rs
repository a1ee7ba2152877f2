// SPDX-License-Identifier: GPL-2.0

//! A host that has another CPU interrupted for a channel and does not say so. Either of two CPUs may be
//! the one, and neither goes before the host has said which.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::failure::{expect, unmet};
use crate::fio::Verify;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, script, Job};

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0401";
const DISK: storage::Address = (0, 0, 0);

/// A controller with one channel; the first MODIFYCHANNEL_RESPONSE (24) is lost.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "silent-move",
    qemu: Qemu::Patched,
    cpus: 3,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_vmbus_rust.answer_secs=10",
    files: &[
        disk("disk", 16),
        text("bus", "on message op=24 nth=1 do drop\n"),
    ],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0401",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
    ],
};

/// The guest waits 10 s.
const NO_ANSWER: Duration = Duration::from_secs(40);

const CHECK: Verify = Verify {
    pattern: "randrw",
    block: "4k-64k",
    depth: 8,
    jobs: 1,
    mib: 8,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    let channels = storage::channels(vm, INSTANCE)?;
    let file = format!("{}/cpu", channels.first().context("a channel")?);
    let from: u32 = vm.read(&file)?.trim().parse().context("a CPU")?;
    // CPU 0 cannot go offline.
    let mut others = [1, 2, 0].into_iter().filter(|cpu| *cpu != from);
    let (Some(to), Some(third)) = (others.next(), others.next()) else {
        return Err(unmet("two other CPUs", from));
    };

    let asks = Job::start(vm, "asks", &format!("! echo {to} > {file}"))?;
    asks.expect_success(NO_ANSWER)?;
    let refused = vm.try_write(&file, &third.to_string())?;
    expect(refused.is_some(), "no third CPU", "one was taken")?;
    script(
        vm,
        &format!("echo 0 > /sys/devices/system/cpu/cpu{to}/online"),
    )?;
    let now = vm.read(&file)?;
    expect(now.trim() == from.to_string(), from, now)?;
    CHECK.run(vm, &disk)?;
    script(
        vm,
        &format!("echo 1 > /sys/devices/system/cpu/cpu{to}/online"),
    )?;
    vm.write(&file, &third.to_string())?;
    CHECK.run(vm, &disk)
}
