// SPDX-License-Identifier: GPL-2.0

//! A host that takes its time to open a channel and to have another CPU interrupted for one. A CPU that the channel is
//! being opened towards does not go; a channel that is closed while the host is asked for another CPU is opened again
//! afterwards, and no answer is missed. That it is not closed before the answer, storage-silent-move shows: this host
//! answers in any case.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::devices::{expect_none, BUS};
use crate::failure::expect;
use crate::fio::Verify;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, script, Job};
use crate::vm::Vm;

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0b01";
const DISK: storage::Address = (0, 0, 0);

/// The second OPENCHANNEL_RESULT (6) is 6 s late, each MODIFYCHANNEL_RESPONSE (24) 2 s.
const SCRIPT: &str = "\
on message op=6 nth=2 do delay 6000
on message op=24 do delay 2000
";

/// A controller with one channel.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "slow-host",
    qemu: Qemu::Patched,
    cpus: 3,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[disk("disk", 16), text("bus", SCRIPT)],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=1,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0b01",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
    ],
};

const CHECK: Verify = Verify {
    pattern: "randrw",
    block: "4k-64k",
    depth: 8,
    jobs: 1,
    mib: 8,
};

/// Far less than the minute that the guest waits for an answer.
const BOUND: Duration = Duration::from_secs(30);

/// When the channel is closed, after the host was asked for another CPU.
const CLOSED_AFTER_MS: [u64; 4] = [0, 50, 400, 1900];

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    storage::wait_for(vm, INSTANCE, DISK)?;
    cpu_goes_while_opening(vm)?;
    let mut moved = 0;
    for delay in CLOSED_AFTER_MS {
        moved += u32::from(closes_while_moving(vm, Duration::from_millis(delay))?);
    }
    CHECK.run(vm, &storage::wait_for(vm, INSTANCE, DISK)?)?;
    expect_none(vm, &["leaked_pages", "timeouts", "stray_replies"])?;
    *cx.figures = format!(
        "{moved} of {} channels moved before they were closed",
        CLOSED_AFTER_MS.len()
    );
    Ok(())
}

/// The file with the CPU that the host interrupts for the channel.
fn file(vm: &Vm) -> Result<String> {
    let channels = storage::channels(vm, INSTANCE)?;
    Ok(format!("{}/cpu", channels.first().context("a channel")?))
}

fn driver(vm: &Vm, file: &str) -> String {
    format!("{BUS}/drivers/{}/{file}", vm.core.storage_driver())
}

fn online(cpu: u32) -> String {
    format!("/sys/devices/system/cpu/cpu{cpu}/online")
}

/// The channel is opened towards CPU 1, which goes only when the host has said that it is open.
fn cpu_goes_while_opening(vm: &Vm) -> Result<()> {
    vm.write(&file(vm)?, "1")?;
    vm.write(&driver(vm, "unbind"), INSTANCE)?;
    let bind = format!("echo {INSTANCE} > {}", driver(vm, "bind"));
    let opens = Job::start(vm, "opens", &bind)?;
    sleep(Duration::from_secs(2));
    let goes = vm.try_write(&online(1), "0")?;
    vm.write(&online(2), "0")?;
    opens.expect_running()?;
    expect(goes.is_some(), "CPU 1 to stay", "it went")?;
    opens.expect_success(BOUND)?;

    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    let towards = vm.read(&file(vm)?)?;
    expect(towards.trim() == "1", "a channel of CPU 1", towards)?;
    CHECK.run(vm, &disk)?;
    vm.write(&online(1), "0")?;
    CHECK.run(vm, &disk)?;
    script(
        vm,
        &format!("echo 1 > {}; echo 1 > {}", online(1), online(2)),
    )?;
    Ok(())
}

/// Whether the host was asked for another CPU before the controller was let go of; it comes again afterwards.
fn closes_while_moving(vm: &Vm, delay: Duration) -> Result<bool> {
    storage::wait_for(vm, INSTANCE, DISK)?;
    let file = file(vm)?;
    let to = if vm.read(&file)?.trim() == "1" { 2 } else { 1 };
    let start = Instant::now();
    let moves = Job::start(vm, "moves", &format!("echo {to} > {file}"))?;
    sleep(delay);
    vm.write(&driver(vm, "unbind"), INSTANCE)?;
    let (status, _) = moves.wait(BOUND)?;
    expect(
        start.elapsed() < BOUND,
        format!("the channel moved and closed within {BOUND:?}"),
        format!("{:?}", start.elapsed()),
    )?;
    vm.write(&driver(vm, "bind"), INSTANCE)?;
    Ok(status == "0")
}
