// SPDX-License-Identifier: GPL-2.0

//! What the core tests of itself inside the kernel, where that has KUnit.

use anyhow::Result;

use crate::failure::expect;
use crate::scenarios::Context;

const FOLDER: &str = "/sys/kernel/debug/kunit";

/// All of them, in order: neither one that is gone nor one that is new is to be missed silently.
const SUITES: [&str; 9] = [
    "vmbus_buffer",
    "vmbus_completion",
    "vmbus_flags",
    "vmbus_pages",
    "vmbus_rcu_arc",
    "vmbus_ring_memory",
    "vmbus_stock",
    "vmbus_sysfs",
    "vmbus_workqueue",
];

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let mut found = vm.list(FOLDER)?;
    found.retain(|name| name.starts_with("vmbus_"));
    found.sort_unstable();
    expect(found == SUITES, SUITES.join(", "), found.join(", "))?;
    let mut tests = 0;
    for suite in SUITES {
        let folder = format!("{FOLDER}/{suite}");
        vm.write(&format!("{folder}/run"), "1")?;
        let results = vm.read(&format!("{folder}/results"))?;
        let of_tests = results.lines().filter(|line| line.starts_with(' '));
        let (passed, other): (Vec<_>, Vec<_>) = of_tests
            .map(str::trim)
            .filter(|line| line.starts_with("ok ") || line.starts_with("not ok "))
            .partition(|line| line.starts_with("ok ") && !line.contains("# SKIP"));
        expect(
            !passed.is_empty() && other.is_empty(),
            format!("all tests of {suite} to pass"),
            results.trim(),
        )?;
        tests += passed.len();
    }
    *cx.figures = format!("{tests} tests in {} suites", SUITES.len());
    Ok(())
}
