// SPDX-License-Identifier: GPL-2.0

//! A host that has another CPU interrupted for a channel and does not say so. Either of two CPUs may be
//! the one, and neither goes before the host has said which. Nor is a channel closed before it has, or is not waited for
//! any more: it would not answer about a channel that is closed.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::devices::{counter, wait_for_post, BUS};
use crate::failure::{expect, unmet};
use crate::fio::Verify;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, script, Job};
use crate::vm::Vm;

/// With relid 1.
const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0401";
/// With relid 2.
const CLOSED: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0403";
const DISK: storage::Address = (0, 0, 0);

/// The first MODIFYCHANNEL_RESPONSE (24) about relid 1 is lost, and the first MODIFYCHANNEL (22) of relid 2.
const SCRIPT: &str = "\
on message op=24 u32@8=1 nth=1 do drop
on post op=22 u32@8=2 nth=1 do drop
";

/// Two controllers with one channel each.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "silent-move",
    qemu: Qemu::Patched,
    cpus: 3,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_vmbus_rust.answer_secs=10",
    files: &[disk("disk", 16), disk("closed", 16), text("bus", SCRIPT)],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0401",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
        "-blockdev raw,node-name=closed,file.driver=file,file.filename=@/closed",
        "-device hv-scsi,id=closed,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0403",
        "-device scsi-hd,bus=closed.0,drive=closed,scsi-id=0,lun=0",
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
    closed_afterwards(vm)?;
    let file = file(vm, INSTANCE)?;
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

/// The file with the CPU that the host interrupts for a channel.
fn file(vm: &Vm, instance: &str) -> Result<String> {
    let channels = storage::channels(vm, instance)?;
    Ok(format!("{}/cpu", channels.first().context("a channel")?))
}

/// The driver lets go of a controller while an answer about its channel is waited for.
fn closed_afterwards(vm: &Vm) -> Result<()> {
    let disk = storage::wait_for(vm, CLOSED, DISK)?;
    storage::wait_scanned(vm, &disk)?;
    let file = file(vm, CLOSED)?;
    let to = if vm.read(&file)?.trim() == "1" { 2 } else { 1 };
    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());

    let asks = Job::start(vm, "asks", &format!("! echo {to} > {file}"))?;
    wait_for_post(vm, 2)?;
    let unbind = Job::start(vm, "unbind", &format!("echo {CLOSED} > {driver}/unbind"))?;
    // Half of the time that the answer is waited for.
    sleep(Duration::from_secs(5));
    let told = closes(vm);
    asks.expect_running()?;
    expect(told == 0, "no CLOSECHANNEL before the answer", told)?;
    unbind.expect_running()?;
    asks.expect_success(NO_ANSWER)?;
    unbind.expect_success(NO_ANSWER)?;
    let told = closes(vm);
    expect(told == 1, "a CLOSECHANNEL afterwards", told)?;
    let timeouts = counter(vm, "timeouts")?;
    expect(timeouts == 1, "one answer waited for in vain", timeouts)?;

    vm.write(&format!("{driver}/bind"), CLOSED)?;
    CHECK.run(vm, &storage::wait_for(vm, CLOSED, DISK)?)
}

/// How often the host was told that the channel of [`CLOSED`] is closed.
fn closes(vm: &Vm) -> usize {
    let trace = vm.host.since(0);
    let closes = trace
        .iter()
        .filter(|line| line.ends_with("vmbus_close_channel channel #2"));
    closes.count()
}
