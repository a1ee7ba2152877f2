// SPDX-License-Identifier: GPL-2.0

//! A CPU that the administrator keeps from device interrupts gets no channel, and can do I/O.

use anyhow::Result;

use crate::failure::expect;
use crate::fio::{Verify, LOAD};
use crate::scenarios::Context;
use crate::storage::{self, ISOLATED_CPU, MAIN, PLAIN};

/// The error number for a CPU that cannot be chosen.
const EINVAL: i32 = 22;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    for channel in storage::channels(vm, MAIN)? {
        let file = format!("{channel}/cpu");
        let cpu = vm.read(&file)?;
        expect(
            cpu.trim() != ISOLATED_CPU,
            format!("{channel} on a CPU that is not isolated"),
            cpu.trim(),
        )?;
        let refused = vm.try_write(&file, ISOLATED_CPU)?;
        expect(
            refused == Some(EINVAL),
            format!("EINVAL for the isolated CPU in {file}"),
            format!("{refused:?}"),
        )?;
    }
    let jobs = vm.machine.cpus;
    Verify { jobs, ..LOAD }.run_on_each_cpu(vm, &plain)
}
