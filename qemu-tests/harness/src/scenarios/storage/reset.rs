// SPDX-License-Identifier: GPL-2.0

//! The controller is reset again and again while fio compares.

use std::time::Duration;

use anyhow::Result;

use crate::drivers::Core;
use crate::failure::expect;
use crate::fio::{Passes, Verify};
use crate::scenarios::Context;
use crate::storage::{self, script, MAIN, PLAIN};

const RESETS: u32 = 4;

const LOAD: Verify = Verify {
    pattern: "randwrite",
    block: "4k-64k",
    depth: 32,
    jobs: 1,
    mib: 16,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    script(vm, "modprobe sg")?;
    let node = vm.list(&format!("/sys/block/{plain}/device/scsi_generic"))?;
    let node = node.first().map_or("none", String::as_str).to_owned();
    let load = Passes::start(vm, &plain, &[LOAD])?;
    std::thread::sleep(Duration::from_secs(1));
    for _ in 0..RESETS {
        load.expect_running()?;
        script(vm, &format!("sg_reset -H /dev/{node}"))?;
        std::thread::sleep(Duration::from_millis(500));
    }
    load.stop()?;
    if vm.core == Core::Rust {
        let resets = storage::status(vm, MAIN, "bus_resets")?;
        expect(
            resets == u64::from(RESETS),
            format!("{RESETS} bus resets"),
            resets,
        )?;
    }
    Ok(())
}
