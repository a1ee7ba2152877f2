// SPDX-License-Identifier: GPL-2.0

//! I/O goes out on the channel of its CPU; channels move between CPUs, and CPUs go and come, while fio compares.

use anyhow::{Context as _, Result};

use crate::failure::expect;
use crate::fio::{Passes, LOAD};
use crate::scenarios::Context;
use crate::storage::{self, script, MAIN, PLAIN};
use crate::vm::Vm;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    let channels = storage::channels(vm, MAIN)?;
    for (cpu, channel) in channels.iter().enumerate() {
        vm.write(&format!("{channel}/cpu"), &cpu.to_string())?;
    }
    at_home(vm, &plain, &channels)?;
    let load = Passes::start(vm, &plain, &[LOAD])?;
    for cpu in [1, 2, 3, 0] {
        for channel in &channels {
            vm.write(&format!("{channel}/cpu"), &cpu.to_string())?;
        }
    }
    for cpu in [3, 2, 1] {
        script(
            vm,
            &format!("echo 0 > /sys/devices/system/cpu/cpu{cpu}/online"),
        )?;
    }
    load.expect_running()?;
    script(
        vm,
        "for c in 1 2 3; do echo 1 > /sys/devices/system/cpu/cpu$c/online; done",
    )?;
    for (cpu, channel) in channels.iter().enumerate() {
        vm.write(&format!("{channel}/cpu"), &cpu.to_string())?;
    }
    load.stop().map(drop)
}

/// What a CPU sends goes out on the channel that interrupts this CPU.
pub(super) fn at_home(vm: &Vm, disk: &str, channels: &[String]) -> Result<()> {
    const READS: u64 = 200;
    for (cpu, channel) in channels.iter().enumerate() {
        let before = events(vm, channel)?;
        script(
            vm,
            &format!(
                "taskset -c {cpu} dd if=/dev/{disk} of=/dev/null bs=4k count={READS} iflag=direct"
            ),
        )?;
        let count = events(vm, channel)? - before;
        // The scheduler or an interrupt may move a few.
        expect(
            count > READS * 3 / 4,
            format!("{READS} reads of CPU {cpu} on its channel {channel}"),
            format!("{count} events there"),
        )?;
    }
    Ok(())
}

fn events(vm: &Vm, channel: &str) -> Result<u64> {
    let text = vm.read(&format!("{channel}/events"))?;
    text.trim().parse().context("a count of events")
}
