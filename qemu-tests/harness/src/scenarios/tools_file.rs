// SPDX-License-Identifier: GPL-2.0

//! What tools know of the C driver: its file in debugfs, and its trace event.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Context;
use crate::ballooning::{expect_no_complaint, reach, MIB};
use crate::devices;
use crate::failure::expect;
use crate::qemu::MEMORY;
use crate::vm::Vm;

/// The file.
const FILE: &str = "/sys/kernel/debug/hv-balloon";

/// Its lines.
const NAMES: [&str; 9] = [
    "host_version",
    "capabilities",
    "state",
    "page_size",
    "pages_added",
    "pages_onlined",
    "pages_ballooned",
    "total_pages_committed",
    "max_dynamic_page_count",
];

/// What the host takes.
const TAKEN: u64 = 128 * MIB;

/// The event.
const EVENT: &str = "/tmp/tracing/events/hyperv/balloon_status/enable";

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;

    let lines = lines(vm)?;
    let names: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
    expect(
        names == NAMES,
        format!("lines {NAMES:?}"),
        format!("{names:?}"),
    )?;
    for (name, wanted) in [
        ("host_version", "2.0"),
        ("capabilities", "enabled hot_add"),
        ("state", "1 (Initialized)"),
        ("page_size", "4096"),
    ] {
        expect_line(vm, name, wanted)?;
    }

    vm.exec(&[
        "sh",
        "-c",
        "mkdir -p /tmp/tracing && busybox mount -t tracefs tracefs /tmp/tracing",
    ])?;
    vm.write(EVENT, "1")?;
    reach(vm, MEMORY - TAKEN)?;
    let pages = (TAKEN / 4096).to_string();
    expect_line(vm, "pages_ballooned", &pages)?;
    vm.wait_until(
        Duration::from_secs(20),
        "an event with what is ballooned",
        || {
            let trace = vm.read("/tmp/tracing/trace")?;
            let wanted = format!("; pages_ballooned {pages}, pages_added 0, pages_onlined 0");
            let event = trace
                .lines()
                .rev()
                .find(|l| l.contains("balloon_status: available "));
            Ok(match event {
                Some(line) if line.contains(&wanted) => Ok(()),
                Some(line) => Err(line.to_owned()),
                None => Err("no event".to_owned()),
            })
        },
    )?;
    vm.write(EVENT, "0")?;
    vm.exec(&["busybox", "umount", "/tmp/tracing"])?;
    reach(vm, MEMORY)?;
    expect_line(vm, "pages_ballooned", "0")?;
    expect_no_complaint(vm)
}

/// Names and values, as scripts see them.
fn lines(vm: &Vm) -> Result<Vec<(String, String)>> {
    vm.read(FILE)?
        .lines()
        .map(|line| {
            // names in a column
            let (name, value) = line.split_at_checked(22).context("a short line")?;
            let value = value.strip_prefix(':').context("no colon in column 23")?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// The guest's last bookkeeping may come after its answer to the host.
fn expect_line(vm: &Vm, name: &str, wanted: &str) -> Result<()> {
    let what = format!("{name} {wanted} in {FILE}");
    vm.wait_until(Duration::from_secs(10), &what, || {
        let found = lines(vm)?.into_iter().find(|(n, _)| n == name);
        Ok(match found {
            Some((_, value)) if value == wanted => Ok(()),
            found => Err(format!("{found:?}")),
        })
    })
}
