// SPDX-License-Identifier: GPL-2.0

//! The controller is reset again and again while fio compares.

use std::time::Duration;

use anyhow::Result;

use crate::scenarios::Context;
use crate::storage::{self, script, Job, Verify, MAIN, PLAIN};

const RESETS: u32 = 4;

const LOAD: Verify = Verify {
    pattern: "randwrite",
    block: "4k-64k",
    depth: 32,
    jobs: 1,
    mib: 128,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    script(vm, "modprobe sg")?;
    let node = vm.list(&format!("/sys/block/{plain}/device/scsi_generic"))?;
    let node = node.first().map_or("none", String::as_str).to_owned();
    let job = Job::start(vm, "load", &LOAD.command(&plain))?;
    std::thread::sleep(Duration::from_secs(1));
    for _ in 0..RESETS {
        job.expect_running()?;
        script(vm, &format!("sg_reset -H /dev/{node}"))?;
        std::thread::sleep(Duration::from_millis(500));
    }
    job.expect_success(storage::JOB)
}
