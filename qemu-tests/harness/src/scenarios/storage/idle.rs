// SPDX-License-Identifier: GPL-2.0

//! Suspend to idle: devices are suspended and resumed, the bus takes no part in it.

use anyhow::Result;

use crate::fio::Verify;
use crate::scenarios::Context;
use crate::storage::{self, script, MAIN, PLAIN};

const CHECK: Verify = Verify {
    pattern: "randrw",
    block: "4k-64k",
    depth: 8,
    jobs: 1,
    mib: 4,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let disk = storage::wait_for(vm, MAIN, PLAIN)?;
    CHECK.run(vm, &disk)?;
    // The kernel wakes up by itself once all devices are suspended.
    script(
        vm,
        "echo 1 > /sys/module/suspend/parameters/pm_test_delay
         echo devices > /sys/power/pm_test
         echo freeze > /sys/power/state
         echo none > /sys/power/pm_test",
    )?;
    CHECK.run(vm, &disk)
}
