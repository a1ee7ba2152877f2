// SPDX-License-Identifier: GPL-2.0

//! Disks come, go and grow on a controller that stays.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::failure::expect;
use crate::fio::Verify;
use crate::scenarios::Context;
use crate::storage::{self, Address, MAIN, SPARE};
use crate::vm::Vm;

const NEAR: Address = (0, 1, 63);
const FAR: Address = (3, 0, 254);

const CHECK: Verify = Verify {
    pattern: "randwrite",
    block: "4k",
    depth: 8,
    jobs: 1,
    mib: 1,
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    come_and_go(vm, NEAR, true)?;
    // The C driver never takes away what is on another channel than 0.
    come_and_go(vm, FAR, vm.core.has_rust_drivers())?;
    grow(vm)
}

fn come_and_go(vm: &Vm, address: Address, goes: bool) -> Result<()> {
    storage::plug(vm, "main", "extra", address)?;
    let name = storage::wait_for(vm, MAIN, address)?;
    CHECK.run(vm, &name)?;
    storage::unplug(vm, "extra-disk")?;
    if goes {
        storage::wait_gone(vm, MAIN, address)?;
    } else {
        storage::script(vm, &format!("echo 1 > /sys/block/{name}/device/delete"))?;
    }
    Ok(())
}

/// The guest learns of a new size by the disk's unit attention.
fn grow(vm: &Vm) -> Result<()> {
    const BYTES: u64 = 96 << 20;
    let name = storage::wait_for(vm, SPARE, (0, 0, 0))?;
    let resize = json!({ "node-name": "spare", "size": BYTES });
    vm.qmp("block_resize", &resize)?;
    let size = format!("/sys/block/{name}/size");
    let read = format!("dd if=/dev/{name} of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null");
    vm.wait_until(Duration::from_secs(30), "the disk's new size", || {
        vm.exec(&["sh", "-c", &read])?;
        let sectors = vm.read(&size)?;
        Ok(if sectors.trim() == (BYTES / 512).to_string() {
            Ok(())
        } else {
            Err(format!("{} sectors", sectors.trim()))
        })
    })?;
    let last = format!("dd if=/dev/{name} of=/dev/null bs=1M skip=95 count=1 iflag=direct 2>&1");
    let read = vm.exec(&["sh", "-c", &last])?;
    expect(
        read.contains("1+0 records in"),
        "the last MiB to be read",
        read,
    )
}
