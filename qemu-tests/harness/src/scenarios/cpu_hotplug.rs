// SPDX-License-Identifier: GPL-2.0

//! CPU 1 goes offline and comes back while memory moves.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::ballooning::{expect_agreement, expect_no_complaint, memory, request, wait, MIB};
use crate::devices;
use crate::failure::expect;
use crate::qemu::MEMORY;
use crate::vm::Vm;

const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
const ROUNDS: u32 = 3;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let before = memory(vm)?;
    for _ in 0..ROUNDS {
        request(vm, MEMORY - 400 * MIB)?;
        set_online(vm, false)?;
        wait(vm, MEMORY - 400 * MIB)?;
        request(vm, MEMORY)?;
        set_online(vm, true)?;
        wait(vm, MEMORY)?;
        expect_agreement(vm, before)?;
    }
    expect_no_complaint(vm)
}

fn set_online(vm: &Vm, online: bool) -> Result<()> {
    let value = if online { "1" } else { "0" };
    vm.write(ONLINE, value)?;
    let now = vm.read(ONLINE)?;
    expect(
        now.trim() == value,
        format!("CPU 1 online = {value}"),
        now.trim(),
    )
}
