// SPDX-License-Identifier: GPL-2.0

//! The host receives the guest's memory pressure reports.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::ballooning::{memory, HOST_DELAY, MIB};
use crate::devices;
use crate::failure::{expect, unmet};
use crate::qemu::MEMORY;
use crate::vm::Vm;

/// Reports are a second old, and memory moves.
const TOLERANCE: u64 = 48 * MIB;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;

    let (committed, available) = vm.wait_until(
        HOST_DELAY + Duration::from_secs(60),
        "a status report",
        || report(vm),
    )?;
    let now = memory(vm)?;
    expect(
        committed > 0 && committed <= MEMORY,
        format!("committed memory between 0 and {} MiB", MEMORY / MIB),
        format!("{} MiB", committed / MIB),
    )?;
    expect(
        available.abs_diff(now.available) <= TOLERANCE,
        format!(
            "available memory near the guest's own {} MiB",
            now.available / MIB
        ),
        format!("{} MiB", available / MIB),
    )?;

    // Reports go on: 200 MiB of files show in one of the next.
    vm.exec(&["dd", "if=/dev/zero", "of=/tmp/fill", "bs=1M", "count=200"])?;
    let shown = vm.wait_until(
        Duration::from_secs(20),
        "a report of the 200 MiB in use",
        || {
            Ok(match report(vm)? {
                Ok((_, now)) if available.saturating_sub(now) >= 200 * MIB - TOLERANCE => Ok(()),
                Ok((_, now)) => Err(format!("{} MiB available", now / MIB)),
                Err(e) => Err(e),
            })
        },
    );
    vm.exec(&["rm", "/tmp/fill"])?;
    shown
}

/// Committed and available bytes of the last report; why not, if there is none.
fn report(vm: &Vm) -> Result<std::result::Result<(u64, u64), String>> {
    Ok(
        match vm.try_qmp("query-hv-balloon-status-report", &json!(null))? {
            Ok(value) => match (value["committed"].as_u64(), value["available"].as_u64()) {
                (Some(committed), Some(available)) => Ok((committed, available)),
                _ => return Err(unmet("a report with committed and available", value)),
            },
            Err(refusal) => Err(refusal.desc),
        },
    )
}
