// SPDX-License-Identifier: GPL-2.0

//! Memory goes to the host and comes back, and the guest keeps what it needs.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::ballooning::{
    expect_agreement, expect_no_complaint, expect_no_oom, host_memory, memory, reach, request,
    settle, MIB, REQUEST_TIMEOUT,
};
use crate::devices;
use crate::failure::expect;
use crate::qemu::MEMORY;

/// What a guest can still use at the floor. The floor is a part of all memory; a kernel that checks
/// locks takes more of it for itself: with PREEMPT_RT and lockdep 52 MiB are left with C.
const LEFT: u64 = 32 * MIB;

/// For the last range to be the guest's again.
const BACK: Duration = Duration::from_secs(10);

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let before = memory(vm)?;
    expect(
        before.host == MEMORY,
        "the host to start with all memory",
        before.host,
    )?;

    for target in [MEMORY - 512 * MIB, MEMORY, MEMORY - 300 * MIB, MEMORY] {
        reach(vm, target)?;
        expect_agreement(vm, before)?;
    }

    // Below what the guest can give: it stops by itself, and goes on living.
    request(vm, 64 * MIB)?;
    vm.wait_until(REQUEST_TIMEOUT, "the guest to begin to give memory", || {
        let now = host_memory(vm)?;
        Ok(if now < MEMORY {
            Ok(())
        } else {
            Err(format!("{} MiB", now / MIB))
        })
    })?;
    let floor = settle(vm, Duration::from_secs(6))?;
    expect(
        floor > 64 * MIB && floor < MEMORY - 512 * MIB,
        "the guest to give much, but not all down to 64 MiB",
        format!("{} MiB left", floor / MIB),
    )?;
    let at_floor = expect_agreement(vm, before)?;
    expect(
        at_floor.available > LEFT,
        format!("more than {} MiB available at the floor", LEFT / MIB),
        format!("{} MiB", at_floor.available / MIB),
    )?;
    expect_no_oom(vm)?;

    reach(vm, MEMORY)?;
    expect_agreement(vm, before)?;
    // They agree within a range that is still on its way: the host has given it back when it has said so.
    let what = format!("MemTotal back at {} KiB", before.total / 1024);
    vm.wait_until(BACK, &what, || {
        let now = memory(vm)?.total;
        Ok(if now == before.total {
            Ok(())
        } else {
            Err(format!("{} KiB", now / 1024))
        })
    })?;
    expect_no_complaint(vm)
}
