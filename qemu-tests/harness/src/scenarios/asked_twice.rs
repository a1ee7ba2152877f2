// SPDX-License-Identifier: GPL-2.0

//! A host that asks again before it has an answer.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Context;
use crate::ballooning::{expect_no_oom, host_memory, memory, request, wait, MIB};
use crate::devices::{self, BUS};
use crate::failure::expect;
use crate::guest_files::field_kib;
use crate::qemu::MEMORY;

/// What each request asks for.
const ASKED: u64 = 128 * MIB;

/// The driver's figures.
const STATUS: &str = "/sys/kernel/debug/hv-balloon-rust/status";

/// What the host returns besides.
const REFUSED: &str =
    "last_refused: return of pages refused: frames 0x40000 to 0x40001 were not all given away";

/// Other memory comes and goes meanwhile.
const TOLERANCE: u64 = 2 * MIB;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let device = devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let before = memory(vm)?;

    // The host's device takes the second answer for one that nobody has asked for.
    request(vm, MEMORY - ASKED)?;
    wait(vm, MEMORY - ASKED)?;
    vm.wait_until(
        Duration::from_secs(10),
        "both requests to be served",
        || {
            let status = vm.read(STATUS)?;
            let figure = |name| field_kib(&status, name).context("a figure");
            let (requests, given) = (figure("balloon_requests")?, figure("pages_given")?);
            Ok(if requests == 2 && given * 4096 == 2 * ASKED {
                Ok(())
            } else {
                Err(format!("{requests} requests, {given} pages given"))
            })
        },
    )?;
    vm.wait_until(
        Duration::from_secs(10),
        "a line for what was refused",
        || {
            let status = vm.read(STATUS)?;
            let line = status.lines().find(|l| l.starts_with("last_refused: "));
            Ok(match line {
                Some(line) if line == REFUSED => Ok(()),
                line => Err(format!("{line:?}")),
            })
        },
    )?;
    let answers = |line: &String| line.contains("unexpected DM_BALLOON_RESPONSE");
    let heard = vm.host.since(0).iter().filter(|line| answers(line)).count();
    expect(heard == 1, "a second answer at the host", heard)?;
    let now = memory(vm)?;
    expect(
        (before.total - now.total).abs_diff(2 * ASKED) <= TOLERANCE,
        format!("MemTotal to fall by {} MiB", 2 * ASKED / MIB),
        format!("{} MiB", (before.total - now.total) / MIB),
    )?;

    // All comes back with the device, also what the host does not know of.
    let driver = vm
        .link_name(&format!("{BUS}/devices/{device}/driver"))?
        .context("the device is bound")?;
    vm.write(&format!("{BUS}/drivers/{driver}/unbind"), &device)?;
    let total = memory(vm)?.total;
    expect(
        total == before.total,
        format!("MemTotal back at {} KiB", before.total / 1024),
        format!("{} KiB", total / 1024),
    )?;
    vm.write(&format!("{BUS}/drivers/{driver}/bind"), &device)?;
    let host = host_memory(vm)?;
    expect(host == MEMORY, "the host to have forgotten all", host)?;
    expect_no_oom(vm)
}
