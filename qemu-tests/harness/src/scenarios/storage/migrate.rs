// SPDX-License-Identifier: GPL-2.0

//! The guest is saved to a file and goes on in another QEMU, while fio compares.

use std::time::Duration;

use anyhow::Result;

use crate::scenarios::Context;
use crate::storage::{self, Job, LOAD, MAIN, PLAIN};

const ROUNDS: u32 = 2;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    let job = Job::start(vm, "load", &LOAD.command(&plain))?;
    for _ in 0..ROUNDS {
        std::thread::sleep(Duration::from_secs(1));
        job.expect_running()?;
        vm.migrate()?;
    }
    job.expect_success(storage::JOB)
}
