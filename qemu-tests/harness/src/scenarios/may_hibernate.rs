// SPDX-License-Identifier: GPL-2.0

//! A guest that could hibernate keeps its memory.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::ballooning::{expect_agreement, expect_no_complaint, host_memory, memory, request, MIB};
use crate::devices;
use crate::failure::expect;
use crate::qemu::MEMORY;

/// What the Rust driver says, and how often.
const SAID: &str = "the machine has ACPI S4";

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let before = memory(vm)?;
    // The C driver does not answer, so its host does not ask a second time.
    let requests = if vm.core.has_rust_drivers() { 3 } else { 1 };
    for _ in 0..requests {
        request(vm, MEMORY - 512 * MIB)?;
        std::thread::sleep(Duration::from_secs(4));
    }
    let left = host_memory(vm)?;
    expect(left == MEMORY, "no memory to go to the host", left)?;
    expect_agreement(vm, before)?;

    let log = vm.dmesg()?;
    if vm.core.has_rust_drivers() {
        let status = vm.read("/sys/kernel/debug/hv-balloon-rust/status")?;
        expect(
            status.contains("capabilities: disabled (hibernation is possible)")
                && status.contains("pages_given: 0\n"),
            "capabilities that are disabled, and no pages given",
            &status,
        )?;
        let asked = status
            .lines()
            .find_map(|line| line.strip_prefix("balloon_requests: "))
            .and_then(|n| n.parse::<u32>().ok());
        expect(
            asked.is_some_and(|n| n >= requests),
            format!("{requests} requests, each answered"),
            format!("{asked:?}"),
        )?;
        let lines = log.matches(SAID).count();
        expect(lines == 1, "one line about hibernation", lines)?;
    } else {
        expect(
            log.contains("Ignore balloon-up request!"),
            "the C driver to say that it ignores the request",
            "nothing",
        )?;
    }
    expect_no_complaint(vm)
}
