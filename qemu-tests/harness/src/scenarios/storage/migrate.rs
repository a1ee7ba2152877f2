// SPDX-License-Identifier: GPL-2.0

//! The guest is saved to a file and goes on in another QEMU, while fio compares.

use std::time::Duration;

use anyhow::Result;

use crate::fio::{Passes, LOAD};
use crate::scenarios::Context;
use crate::storage::{self, MAIN, PLAIN};

const ROUNDS: u32 = 2;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    let load = Passes::start(vm, &plain, &[LOAD])?;
    for _ in 0..ROUNDS {
        std::thread::sleep(Duration::from_secs(1));
        load.expect_running()?;
        vm.migrate()?;
    }
    load.stop().map(drop)
}
