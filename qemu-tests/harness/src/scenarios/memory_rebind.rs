// SPDX-License-Identifier: GPL-2.0

//! In one boot the balloon goes from the Rust driver on the C core to the C driver and back; each gives memory to the
//! host and takes it back. The Rust driver leaves nothing with the host when it goes; the C driver, by its source, would.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::ballooning::{
    expect_agreement, expect_no_complaint, expect_no_oom, memory, reach, wait, MIB,
};
use crate::devices::{self, change_driver, forget_override};
use crate::drivers::Core;
use crate::failure::expect;
use crate::qemu::MEMORY;
use crate::storage::script;

const ROUNDS_TO_ONE: u32 = 10;
const LESS: u64 = MEMORY - 256 * MIB;
/// The C driver's name on the bus, and the Rust driver's.
const DRIVERS: [&str; 2] = ["hv_balloon", "hv_balloon_rust"];
/// Other memory comes and goes meanwhile.
const TOLERANCE: u64 = 4 * MIB;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let [c, rust] = DRIVERS;
    vm.load_core()?;
    let device = devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    script(
        vm,
        &format!(
            "modprobe {}; head -c 33554432 /dev/urandom > /tmp/kept; md5sum /tmp/kept > /tmp/kept.md5",
            Core::C.balloon_module()
        ),
    )?;
    let before = memory(vm)?;

    let rounds = cx.rounds.div_ceil(ROUNDS_TO_ONE);
    for _ in 0..rounds {
        reach(vm, MEMORY)?;
        reach(vm, LESS)?;
        change_driver(vm, &device, rust, c)?;
        let now = memory(vm)?;
        expect(
            now.total + TOLERANCE >= before.total,
            format!("all memory back, {} KiB", before.total / 1024),
            format!("{} KiB", now.total / 1024),
        )?;
        // the host begins anew with the driver
        wait(vm, MEMORY)?;
        reach(vm, LESS)?;
        reach(vm, MEMORY)?;
        // the host says so when it has asked for that; what the C driver has then it keeps
        expect_agreement(vm, before)?;
        change_driver(vm, &device, c, rust)?;
    }
    forget_override(vm, &device)?;
    reach(vm, LESS)?;
    reach(vm, MEMORY)?;
    script(vm, "md5sum -c /tmp/kept.md5; rm /tmp/kept /tmp/kept.md5")?;
    expect_no_oom(vm)?;
    expect_no_complaint(vm)?;
    *cx.figures = format!("{rounds} rounds");
    Ok(())
}
