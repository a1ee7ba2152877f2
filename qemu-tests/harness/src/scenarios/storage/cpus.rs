// SPDX-License-Identifier: GPL-2.0

//! Channels move between CPUs, and CPUs go and come, while fio compares.

use anyhow::Result;

use crate::scenarios::Context;
use crate::storage::{self, script, Job, Verify, MAIN, PLAIN};

const LOAD: Verify = Verify {
    pattern: "randrw",
    block: "4k-64k",
    depth: 32,
    jobs: 2,
    mib: 96,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    let channels = storage::channels(vm, MAIN)?;
    let job = Job::start(vm, "load", &LOAD.command(&plain))?;
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
    job.expect_running()?;
    script(
        vm,
        "for c in 1 2 3; do echo 1 > /sys/devices/system/cpu/cpu$c/online; done",
    )?;
    for (cpu, channel) in channels.iter().enumerate() {
        vm.write(&format!("{channel}/cpu"), &cpu.to_string())?;
    }
    job.expect_success(storage::JOB)
}
