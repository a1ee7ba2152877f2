// SPDX-License-Identifier: GPL-2.0

//! A host that has much to do and takes no messages for as long as half a minute. The guest posts them again until
//! it does, and everything is as if it had taken them at once.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::devices::{counter, expect_none, BUS};
use crate::drivers::Core;
use crate::failure::expect;
use crate::fio::LOAD;
use crate::machine::{disk, text, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, Job};

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0a01";
const DISK: storage::Address = (0, 0, 0);

/// In the middle of a list of pages (GPADL_BODY, 9), before a channel is opened (OPENCHANNEL, 5), and when it is
/// closed (CLOSECHANNEL, 7), each with another of the statuses that a full host gives: no buffers, no such connection,
/// no memory.
const SCRIPT: &str = "\
on post op=9 within=30000 do refuse 0x13
on post op=5 within=10000 do refuse 0x12
on post op=7 within=3000 do refuse 0xb
";

/// A controller with two channels on that host's bus.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "full-host",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[disk("disk", 32), text("bus", SCRIPT)],
    devices: &[
        "-device vmbus-bridge,fault-script=@/bus",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
        "-device hv-scsi,id=main,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0a01",
        "-device scsi-hd,bus=main.0,drive=disk,scsi-id=0,lun=0",
    ],
};

/// Without room before the disk can come, and before its controller has gone.
const FULL_AT_OPEN: Duration = Duration::from_secs(40);
const FULL_AT_CLOSE: Duration = Duration::from_secs(3);
/// The guest sees soon that there is room again.
const BOUND: Duration = Duration::from_secs(120);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let start = Instant::now();
    vm.load_core()?;
    let disk = storage::wait_for_long(vm, INSTANCE, DISK, BOUND)?;
    lasted("the disk to come", start, FULL_AT_OPEN)?;
    LOAD.run(vm, &disk)?;

    let driver = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    let start = Instant::now();
    Job::start(vm, "unbind", &format!("echo {INSTANCE} > {driver}/unbind"))?
        .expect_success(BOUND)?;
    lasted("the controller to be let go of", start, FULL_AT_CLOSE)?;

    vm.write(&format!("{driver}/bind"), INSTANCE)?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    LOAD.run(vm, &disk)?;
    match vm.core {
        Core::C => Ok(()),
        Core::RustOnC => expect_none(vm, &[]),
        Core::Rust => {
            expect_none(vm, &["leaked_pages", "timeouts", "stray_replies"])?;
            tells(cx)
        }
    }
}

/// The time that the host was full is in this, so that the script has done what it is for.
fn lasted(what: &str, start: Instant, full: Duration) -> Result<()> {
    let took = start.elapsed();
    expect(
        took >= full,
        format!("{what} after {full:?}"),
        format!("{took:?}"),
    )
}

/// A few words about it, not one for each try.
fn tells(cx: &mut Context<'_>) -> Result<()> {
    let refused = counter(cx.vm, "refused_posts")?;
    expect(refused > 100, "more than 100 refused posts", refused)?;
    let log = cx.vm.dmesg()?;
    // Who gives up too early is tried again, which hides that.
    for line in ["the host was late", "no room for a message for too long"] {
        let said = log.lines().find(|said| said.contains(line));
        expect(
            said.is_none(),
            format!("no line '{line}'"),
            said.unwrap_or(""),
        )?;
    }
    let lines = log
        .matches("the host has had no room for a message")
        .count();
    expect(
        lines == 2,
        "a line for each of the two messages that waited long",
        lines,
    )?;
    *cx.figures = format!("{refused} posts refused, {lines} lines about it");
    Ok(())
}
