// SPDX-License-Identifier: GPL-2.0

//! What an administrator allows.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::ballooning::{expect_no_complaint, host_memory, memory, request, settle, wait, MIB};
use crate::devices;
use crate::failure::expect;
use crate::qemu::MEMORY;

/// What is to stay with the guest, of `MemTotal`.
const KEPT: u64 = 700 * MIB;

/// The guest gives whole blocks of 2 MiB there, and other memory comes and goes.
const TOLERANCE: u64 = 6 * MIB;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let folder = format!("/sys/module/{}/parameters", vm.core.balloon_module());
    let before = memory(vm)?;

    vm.write(&format!("{folder}/never_below"), &(KEPT / MIB).to_string())?;
    request(vm, MEMORY / 2)?;
    // the request is on its way for a while
    std::thread::sleep(Duration::from_secs(2));
    settle(vm, Duration::from_secs(4))?;
    let now = memory(vm)?;
    expect(
        now.total >= KEPT && now.total <= KEPT + TOLERANCE,
        format!("MemTotal of {} MiB, and little more", KEPT / MIB),
        format!("{} KiB of {}", now.total / 1024, before.total / 1024),
    )?;
    vm.write(&format!("{folder}/never_below"), "0")?;
    request(vm, MEMORY / 2)?;
    wait(vm, MEMORY / 2)?;
    request(vm, MEMORY)?;
    wait(vm, MEMORY)?;

    // The host asks, and takes the answer for its last word.
    vm.write(
        &format!("{folder}/never_above"),
        &(MEMORY / MIB).to_string(),
    )?;
    request(vm, MEMORY + 256 * MIB)?;
    vm.wait_until(Duration::from_secs(20), "a line about the limit", || {
        Ok(
            if vm.dmesg()?.contains("the limit never_above is reached") {
                Ok(())
            } else {
                Err("none".to_owned())
            },
        )
    })?;
    std::thread::sleep(Duration::from_secs(2));
    let now = memory(vm)?;
    expect(
        now.total == before.total,
        format!("MemTotal to stay at {} KiB", before.total / 1024),
        format!("{} KiB", now.total / 1024),
    )?;
    let host = host_memory(vm)?;
    expect(host == MEMORY, "the host to have added nothing", host)?;
    expect_no_complaint(vm)
}
