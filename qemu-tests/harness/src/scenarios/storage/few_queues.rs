// SPDX-License-Identifier: GPL-2.0

//! One hardware queue for four CPUs: what a CPU sends still goes out on its own channel.

use anyhow::Result;

use crate::fio::Verify;
use crate::scenarios::storage::cpus;
use crate::scenarios::Context;
use crate::storage::{self, MAIN, PLAIN};

const CHECK: Verify = Verify {
    pattern: "randwrite",
    block: "4k-64k",
    depth: 32,
    jobs: 4,
    mib: 4,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    let channels = storage::channels(vm, MAIN)?;
    for (cpu, channel) in channels.iter().enumerate() {
        vm.write(&format!("{channel}/cpu"), &cpu.to_string())?;
    }
    cpus::at_home(vm, &plain, &channels)?;
    CHECK.run(vm, &plain)
}
