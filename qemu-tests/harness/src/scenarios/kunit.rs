// SPDX-License-Identifier: GPL-2.0

//! What the core tests of itself inside the kernel, where that has KUnit.

use anyhow::Result;

use crate::failure::expect;
use crate::scenarios::Context;

/// All of them: one that is gone is not to be missed silently.
const SUITES: [&str; 5] = [
    "vmbus_completion",
    "vmbus_pages",
    "vmbus_published",
    "vmbus_ring_memory",
    "vmbus_workqueue",
];

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let mut tests = 0;
    for suite in SUITES {
        let folder = format!("/sys/kernel/debug/kunit/{suite}");
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
