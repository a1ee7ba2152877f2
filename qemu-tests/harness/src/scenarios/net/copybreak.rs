// SPDX-License-Identifier: GPL-2.0

//! Where received frames are copied to: short ones to memory of their own, others to pages of the queue's
//! pool, and the administrator says what is short. The kernel's trace tells of pages that come to pools.

use anyhow::Result;

use crate::failure::expect;
use crate::net::{self, Wire, IP};
use crate::scenarios::Context;
use crate::storage::script;
use crate::vm::Vm;

const TRACE: &str = "/sys/kernel/tracing";
/// As long as frames get at the MTU of this machine, and longer.
const MOST: u32 = 2048;

/// How many pages have come to pools while the peer asked with frames of this size, on new channels.
fn pages(vm: &Vm, wire: &Wire<'_>, size: u32) -> Result<usize> {
    let name = &wire.name;
    // Other channels, so other pools. They get many pages with their first frame, which may be anybody's as soon as
    // there is a link.
    script(
        vm,
        &format!(
            "echo > {TRACE}/trace; echo 1 > {TRACE}/events/page_pool/page_pool_state_hold/enable
             {IP} link set {name} mtu 1400\n{IP} link set {name} mtu 1500"
        ),
    )?;
    net::wait_carrier(vm, name, true)?;
    wire.ping(&format!("-c 20 -i 0.05 -s {size}"))?;
    let found = script(
        vm,
        &format!(
            "echo 0 > {TRACE}/events/page_pool/page_pool_state_hold/enable
             grep -c page_pool_state_hold: {TRACE}/trace || true"
        ),
    )?;
    Ok(found.trim().parse()?)
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    let name = &wire.name;
    let get = format!("ethtool --get-tunable {name} rx-copybreak");
    let before = script(vm, &get)?;
    script(
        vm,
        &format!("grep -q ' {TRACE} ' /proc/mounts || mount -t tracefs tracefs {TRACE}"),
    )?;

    for (bytes, size, pool) in [
        (0, 56, true),
        (MOST, 56, false),
        (MOST, 1400, false),
        (256, 1400, true),
    ] {
        script(
            vm,
            &format!("ethtool --set-tunable {name} rx-copybreak {bytes}"),
        )?;
        let found = script(vm, &get)?;
        expect(
            found.trim() == format!("rx-copybreak: {bytes}"),
            format!("rx-copybreak {bytes}"),
            &found,
        )?;
        let pages = pages(vm, &wire, size)?;
        expect(
            (pages != 0) == pool,
            format!("rx-copybreak {bytes}, {size} bytes: pages of a pool: {pool}"),
            pages,
        )?;
    }
    let beyond = format!("ethtool --set-tunable {name} rx-copybreak {}", MOST + 1);
    let beyond = vm.try_exec(&["sh", "-c", &beyond])?;
    expect(beyond.status != 0, "more than that refused", beyond.stderr)?;
    let value = before.trim().rsplit(' ').next().unwrap_or_default();
    script(
        vm,
        &format!("ethtool --set-tunable {name} rx-copybreak {value}"),
    )
    .map(drop)
}
