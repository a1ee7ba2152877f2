// SPDX-License-Identifier: GPL-2.0

//! Ballooning seen from both sides: what the host says, what the guest says.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::failure::{expect, unmet};
use crate::guest_files::{counter, field_kib};
use crate::qemu::MEMORY;
use crate::vm::Vm;

/// One MiB.
pub(crate) const MIB: u64 = 1 << 20;

/// The packaged host's delay after the handshake is 50 s.
pub(crate) const HOST_DELAY: Duration = Duration::from_secs(50);

/// How long one request may take after that delay.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// A little more than the time from one status report to the next.
const REPORT_INTERVAL: Duration = Duration::from_millis(2500);

/// The accuracy that is asked for: other memory comes and goes meanwhile.
const TOLERANCE: u64 = 2 * MIB;

/// The guest's memory as both sides see it, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// QMP `query-balloon`.
    pub(crate) host: u64,
    /// The guest's `MemTotal`.
    pub(crate) total: u64,
    /// The guest's `MemAvailable`.
    pub(crate) available: u64,
    /// The guest's ballooned memory, where its kernel counts it.
    pub(crate) ballooned: Option<u64>,
}

/// Look at both sides.
pub(crate) fn memory(vm: &Vm) -> Result<Memory> {
    let info = vm.read("/proc/meminfo")?;
    let field = |name| field_kib(&info, name).map(|kib| kib * 1024).context(name);
    let vmstat = vm.exec(&[
        "grep",
        "-E",
        "^(nr_free_pages|nr_balloon_pages) ",
        "/proc/vmstat",
    ])?;
    Ok(Memory {
        host: host_memory(vm)?,
        total: field("MemTotal")?,
        available: field("MemAvailable")?,
        ballooned: counter(&vmstat, "nr_balloon_pages").map(|pages| pages * 4096),
    })
}

/// What the host says that the guest has.
pub(crate) fn host_memory(vm: &Vm) -> Result<u64> {
    vm.qmp("query-balloon", &json!(null))?["actual"]
        .as_u64()
        .context("query-balloon: actual")
}

/// Ask the host to leave the guest this much.
///
/// QEMU aborts (`iter->active`) when a request meets a guest packet that it has
/// not looked at yet, so the request goes right after a report has arrived: the
/// next is a second away. There are none in the first minute.
pub(crate) fn request(vm: &Vm, bytes: u64) -> Result<()> {
    vm.next_event("HV_BALLOON_STATUS_REPORT", REPORT_INTERVAL)?;
    vm.qmp("balloon", &json!({ "value": bytes })).map(drop)
}

/// Ask for a size and wait until the host has it.
pub(crate) fn reach(vm: &Vm, bytes: u64) -> Result<()> {
    request(vm, bytes)?;
    wait(vm, bytes)
}

/// Wait until the host says that the guest has this much.
pub(crate) fn wait(vm: &Vm, bytes: u64) -> Result<()> {
    let what = format!("the host to see {} MiB", bytes / MIB);
    vm.wait_until(HOST_DELAY + REQUEST_TIMEOUT, &what, || {
        let now = host_memory(vm)?;
        Ok(if now.abs_diff(bytes) <= TOLERANCE {
            Ok(())
        } else {
            Err(format!("{} MiB", now / MIB))
        })
    })
}

/// Wait until the host's figure has not changed for a while; gives it.
pub(crate) fn settle(vm: &Vm, quiet: Duration) -> Result<u64> {
    let mut last = (host_memory(vm)?, std::time::Instant::now());
    vm.wait_until(REQUEST_TIMEOUT, "the host's figure to settle", || {
        let now = host_memory(vm)?;
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        Ok(if last.1.elapsed() >= quiet {
            Ok(now)
        } else {
            Err(format!("{} MiB", now / MIB))
        })
    })
}

/// Check that both sides agree on how much is ballooned, against a look from
/// before anything was.
pub(crate) fn expect_agreement(vm: &Vm, before: Memory) -> Result<Memory> {
    // The guest's last bookkeeping may come after its answer to the host.
    vm.wait_until(
        Duration::from_secs(10),
        "both sides to agree on what is ballooned",
        || {
            let now = memory(vm)?;
            let taken = MEMORY - now.host;
            let dropped = before.total.saturating_sub(now.total);
            let counted = now
                .ballooned
                .zip(before.ballooned)
                .map(|(n, b)| n.saturating_sub(b));
            let agree = |value: u64| value.abs_diff(taken) <= TOLERANCE;
            Ok(if agree(dropped) && counted.is_none_or(agree) {
                Ok(now)
            } else {
                Err(format!(
                    "host took {} KiB, MemTotal fell by {} KiB, nr_balloon_pages grew by {} KiB",
                    taken / 1024,
                    dropped / 1024,
                    counted.map_or("nothing (not counted)".into(), |c| (c / 1024).to_string()),
                ))
            })
        },
    )
}

/// Check that QEMU's device had nothing to complain about.
pub(crate) fn expect_no_complaint(vm: &Vm) -> Result<()> {
    const COMPLAINTS: [&str; 5] = [
        "hv-balloon",
        "unexpected DM_",
        "more pages removed",
        "not found in RAM",
        "vmbus: ",
    ];
    // Of the arguments: memory for hot-add begins at a multiple of 32 GiB.
    const ARGUMENTS: &str = "exceeds the expected maximum alignment";
    let complaint = vm.host.since(0).into_iter().find(|l| {
        l.contains("qemu-system")
            && COMPLAINTS.iter().any(|c| l.contains(c))
            && !l.contains(ARGUMENTS)
    });
    match complaint {
        None => Ok(()),
        Some(line) => Err(unmet("no complaint of the host", line)),
    }
}

/// Check that the guest did not run out of memory.
pub(crate) fn expect_no_oom(vm: &Vm) -> Result<()> {
    let log = vm.dmesg()?;
    let oom = log
        .lines()
        .find(|l| l.contains("Out of memory") || l.contains("oom-kill"));
    expect(
        oom.is_none(),
        "no process killed for memory",
        oom.unwrap_or_default(),
    )
}
