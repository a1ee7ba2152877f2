// SPDX-License-Identifier: GPL-2.0

//! The driver goes and comes again, with I/O in between. The C driver's module
//! is removed too; only its bus stays.

use anyhow::Result;

use crate::failure::expect;
use crate::fio::Verify;
use crate::scenarios::Context;
use crate::storage::{self, script, MAIN, MAIN_QUEUES, PLAIN};

const ROUNDS: u32 = 5;

const CHECK: Verify = Verify {
    pattern: "randwrite",
    block: "4k-64k",
    depth: 32,
    jobs: 1,
    mib: 4,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let module = vm.core.storage_module();
    for _ in 0..ROUNDS {
        script(vm, &format!("rmmod {module}; modprobe {module}"))?;
        let disk = storage::wait_for(vm, MAIN, PLAIN)?;
        CHECK.run(vm, &disk)?;
    }
    let channels = storage::channels(vm, MAIN)?;
    expect(
        channels.len() == MAIN_QUEUES,
        format!("{MAIN_QUEUES} channels"),
        channels.len(),
    )
}
