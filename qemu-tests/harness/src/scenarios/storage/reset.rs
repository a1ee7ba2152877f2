// SPDX-License-Identifier: GPL-2.0

//! The controller is reset again and again while fio compares; with the C driver at another controller.

use std::time::Duration;

use anyhow::Result;

use crate::drivers::Core;
use crate::failure::expect;
use crate::fio::{Passes, Verify};
use crate::scenarios::Context;
use crate::storage::{self, script, MAIN, PLAIN, SPARE};

/// The midlayer sleeps for ten seconds after each reset by the C driver.
fn resets(core: Core) -> u32 {
    match core {
        Core::C => 2,
        Core::Rust | Core::RustOnC => 4,
    }
}

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
    let loaded = match vm.core {
        // It counts a command after it has sent it, by its source: one that ends sooner leaves the reset
        // waiting for ever.
        Core::C => storage::wait_for(vm, SPARE, PLAIN)?,
        Core::Rust | Core::RustOnC => plain.clone(),
    };
    let load = Passes::start(vm, &loaded, &[LOAD])?;
    std::thread::sleep(Duration::from_secs(1));
    let resets = resets(vm.core);
    for _ in 0..resets {
        load.expect_running()?;
        script(vm, &format!("sg_reset -H /dev/{node}"))?;
        std::thread::sleep(Duration::from_millis(500));
    }
    load.stop()?;
    if vm.core.has_rust_drivers() {
        let counted = storage::status(vm, MAIN, "bus_resets")?;
        expect(
            counted == u64::from(resets),
            format!("{resets} bus resets"),
            counted,
        )?;
    }
    Ok(())
}
