// SPDX-License-Identifier: GPL-2.0

//! The host adds memory, takes memory away and gives it back; both sides agree each time.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Context;
use crate::ballooning::{
    expect_no_complaint, expect_no_oom, memory, reach, request, wait, Memory, MIB,
};
use crate::devices;
use crate::drivers::Core;
use crate::failure::expect;
use crate::guest_files::field_kib;
use crate::machine::ADDABLE;
use crate::qemu::MEMORY;
use crate::vm::Vm;

/// A memory block of a guest of this size.
const BLOCK: u64 = 128 * MIB;

/// What the host leaves the guest in between.
const LOW: u64 = MEMORY - 256 * MIB;

/// All that the guest can have.
const ALL: u64 = MEMORY + ADDABLE;

/// Other memory comes and goes meanwhile.
const TOLERANCE: u64 = 2 * MIB;

/// Reports are a second old, and memory moves.
const REPORT_TOLERANCE: u64 = 64 * MIB;

/// What user space decides for memory that is added.
const POLICY: &str = "/sys/devices/system/memory/auto_online_blocks";

/// The figures of the Rust driver.
const STATUS: &str = "/sys/kernel/debug/hv-balloon-rust/status";

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    // whatever the kernel was built with
    vm.write(POLICY, "online")?;
    let before = memory(vm)?;
    expect(
        before.host == MEMORY,
        "the host to start with all memory",
        before.host,
    )?;

    // A block more each time, but for the last one, and then what was added before; there it need not go all the
    // way down. The drivers in C take a few times as long.
    let rounds = match vm.core {
        Core::C => cx.rounds.div_ceil(5),
        Core::Rust | Core::RustOnC => cx.rounds,
    };
    for round in 1..=u64::from(rounds) {
        let high = (MEMORY + round * BLOCK).min(ALL - BLOCK);
        let low = if high < ALL - BLOCK {
            LOW
        } else {
            high - 2 * BLOCK
        };
        for target in [high, low, high] {
            reach(vm, target)?;
            expect_agreement(vm, before)?;
        }
        expect_added(vm, high - MEMORY, high - MEMORY)?;
    }
    expect_report(vm)?;
    use_all(vm)?;
    // With few rounds there is more to add.
    reach(vm, ALL - BLOCK)?;

    brought_online_by_hand(vm, before)?;
    expect_no_oom(vm)?;
    if vm.core.has_rust_drivers() {
        module_goes_and_comes(vm, before)?;
    }
    *cx.figures = format!("{rounds} rounds");
    expect_no_complaint(vm)
}

/// The last block is added while nobody brings memory online.
fn brought_online_by_hand(vm: &Vm, before: Memory) -> Result<()> {
    let policy = vm.read(POLICY)?;
    let offline = blocks(vm, "offline")?;
    vm.write(POLICY, "offline")?;
    request(vm, ALL)?;
    wait(vm, ALL)?;
    vm.write(POLICY, policy.trim())?;
    let now = memory(vm)?;
    let unused = ALL - BLOCK - MEMORY;
    expect(
        now.total.abs_diff(before.total + unused) <= TOLERANCE,
        "no more memory in use than before",
        format!(
            "{} KiB, {} at the start",
            now.total / 1024,
            before.total / 1024
        ),
    )?;
    expect_added(vm, ADDABLE, unused)?;
    let added: Vec<String> = blocks(vm, "offline")?
        .into_iter()
        .filter(|name| !offline.contains(name))
        .collect();
    expect(added.len() == 1, "one block offline", format!("{added:?}"))?;
    set_state(vm, &added[0], "online")?;
    expect_agreement(vm, before)?;
    expect_added(vm, ADDABLE, ADDABLE)
}

/// Without the module the memory stays, goes offline and comes online; with it again both sides agree.
fn module_goes_and_comes(vm: &Vm, before: Memory) -> Result<()> {
    reach(vm, LOW)?;
    let module = vm.core.balloon_module();
    vm.exec(&["modprobe", "-r", module])?;
    let all = |what: &str| {
        vm.wait_until(Duration::from_secs(10), what, || {
            let total = field_kib(&vm.read("/proc/meminfo")?, "MemTotal").context("MemTotal")?;
            let wanted = (before.total + ADDABLE) / 1024;
            Ok(if total == wanted {
                Ok(())
            } else {
                Err(format!("MemTotal of {total} KiB, not {wanted}"))
            })
        })
    };
    all("all memory to be back without the module")?;

    // Some have pages that cannot be moved.
    let mut moved = 0;
    for name in blocks(vm, "online")?.iter().rev().take(8) {
        let state = format!("/sys/devices/system/memory/{name}/state");
        if vm.try_write(&state, "offline")?.is_none() {
            set_state(vm, name, "online")?;
            moved += 1;
        }
    }
    expect(moved > 0, "a block that goes offline and comes back", moved)?;
    all("all memory to be online again")?;

    // What the host is told that the guest can do.
    for (argument, wanted) in [("hot_add=0", "enabled"), ("hot_add=1", "enabled hot_add")] {
        vm.exec(&["modprobe", "-r", module])?;
        vm.exec(&["modprobe", module, argument])?;
        devices::wait_for_balloon(vm, Duration::from_secs(40))?;
        let status = vm.read(STATUS)?;
        let said = status
            .lines()
            .find_map(|line| line.strip_prefix("capabilities: "));
        expect(
            said == Some(wanted),
            format!("'{wanted}' with {argument}"),
            format!("{said:?}"),
        )?;
    }
    let log = vm.dmesg()?;
    expect(
        log.contains("the host cannot add memory: the parameter hot_add is off"),
        "a line that says why the host cannot add memory",
        "none",
    )?;

    for target in [LOW, ALL] {
        reach(vm, target)?;
        expect_agreement(vm, before)?;
    }
    expect_added(vm, 0, 0)
}

/// Check that the guest's memory is what the host says, against a look from before anything happened.
fn expect_agreement(vm: &Vm, before: Memory) -> Result<()> {
    // The guest's last bookkeeping may come after its answer to the host.
    vm.wait_until(
        Duration::from_secs(10),
        "both sides to agree on the guest's memory",
        || {
            let now = memory(vm)?;
            let wanted = before.total + now.host - before.host;
            Ok(if now.total.abs_diff(wanted) <= TOLERANCE {
                Ok(())
            } else {
                Err(format!(
                    "host: {} KiB, which is a MemTotal of {} KiB; it is {} KiB",
                    now.host / 1024,
                    wanted / 1024,
                    now.total / 1024
                ))
            })
        },
    )
}

/// Check what the Rust driver says of added memory, in bytes.
fn expect_added(vm: &Vm, added: u64, onlined: u64) -> Result<()> {
    if !vm.core.has_rust_drivers() {
        return Ok(());
    }
    let status = vm.read(STATUS)?;
    let said = |name| field_kib(&status, name).map(|pages| pages * 4096);
    let found = (said("pages_added"), said("pages_onlined"));
    expect(
        found == (Some(added), Some(onlined)),
        format!(
            "{} MiB added, {} MiB of them online",
            added / MIB,
            onlined / MIB
        ),
        format!("{found:?}"),
    )
}

/// Check that the host's last report is what the guest has.
fn expect_report(vm: &Vm) -> Result<()> {
    vm.wait_until(
        Duration::from_secs(20),
        "a report of the memory that is available",
        || {
            let report = vm.qmp("query-hv-balloon-status-report", &json!(null))?;
            let said = report["available"].as_u64().context("available")?;
            let now = memory(vm)?;
            Ok(if said.abs_diff(now.available) <= REPORT_TOLERANCE {
                Ok(())
            } else {
                Err(format!(
                    "{} MiB, not {} MiB",
                    said / MIB,
                    now.available / MIB
                ))
            })
        },
    )
}

/// Fills about as much as the guest had before, so that added memory is among it, and reads samples; to
/// compare all of it takes an emulated guest minutes.
fn use_all(vm: &Vm) -> Result<()> {
    let fill = "set -e
        mkdir -p /fill
        busybox mount -t tmpfs -o size=1100m fill /fill
        free=$(busybox awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
        copies=$(((free - 200) / 32))
        [ $copies -le 33 ] || copies=33
        dd if=/dev/urandom of=/fill/0 bs=1M count=32 2>/dev/null
        i=1
        while [ $i -lt $copies ]; do cp /fill/0 /fill/$i; i=$((i + 1)); done";
    let read = "set -e
        cd /fill
        sum=$(busybox md5sum < 0)
        for i in 1 8 16 24 32; do
            [ ! -e $i ] || [ \"$(busybox md5sum < $i)\" = \"$sum\" ]
        done
        cd /
        busybox umount /fill";
    for script in [fill, read] {
        vm.exec(&["sh", "-c", script])?;
    }
    Ok(())
}

/// Names of the memory blocks in this state.
fn blocks(vm: &Vm, state: &str) -> Result<Vec<String>> {
    let script = format!(
        "cd /sys/devices/system/memory
         for b in memory*; do [ $(cat $b/state) != {state} ] || echo $b; done"
    );
    let names = vm.exec(&["sh", "-c", &script])?;
    let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
    names.sort_by_key(|name| name.trim_start_matches("memory").parse().unwrap_or(0u32));
    Ok(names)
}

fn set_state(vm: &Vm, block: &str, state: &str) -> Result<()> {
    vm.write(&format!("/sys/devices/system/memory/{block}/state"), state)
}
