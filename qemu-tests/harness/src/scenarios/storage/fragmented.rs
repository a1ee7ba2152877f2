// SPDX-License-Identifier: GPL-2.0

//! A controller comes at run time, when memory has no large blocks; it goes, and comes again.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::failure::expect;
use crate::fio::Verify;
use crate::machine::{disk, Initramfs, Machine, Qemu};
use crate::scenarios::Context;
use crate::storage::{self, add_disk, Job};
use crate::vm::Vm;

const INSTANCE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0701";
const DISK: storage::Address = (0, 0, 0);
const CHANNELS: usize = 2;

/// A bus without a disk on it yet. With rings of 4 MiB a channel is larger than any block can be.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "fragmented",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "hv_storvsc_rust.storvsc_ringbuffer_size=4194304",
    files: &[disk("disk", 16)],
    devices: &[
        "-device vmbus-bridge",
        "-blockdev raw,node-name=disk,file.driver=file,file.filename=@/disk",
    ],
};

const CHECK: Verify = Verify {
    pattern: "randrw",
    block: "4k-64k",
    depth: 16,
    jobs: 1,
    mib: 8,
};

/// Blocks of up to 2^4 pages are small: the holes that are made.
const SMALL: u32 = 4;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let holes = Job::start(vm, "fragment", "fragment /tmp/fragmented")?;
    wait(vm, &holes)?;

    let controller = json!({
        "driver": "hv-scsi", "id": "plugged", "num-queues": CHANNELS, "instanceid": INSTANCE,
    });
    vm.qmp("device_add", &controller)?;
    comes(vm)?;
    storage::unplug(vm, "plugged")?;
    storage::wait_unplugged(vm, INSTANCE)?;
    vm.plug_when_gone(&controller)?;
    comes(vm)
}

/// The controller gets its disk, and all its channels are opened.
fn comes(vm: &Vm) -> Result<()> {
    add_disk(
        vm,
        &json!({ "driver": "scsi-hd", "bus": "plugged.0", "drive": "disk" }),
    )?;
    let disk = storage::wait_for(vm, INSTANCE, DISK)?;
    let channels = storage::channels(vm, INSTANCE)?.len();
    expect(channels == CHANNELS, CHANNELS, channels)?;
    CHECK.run(vm, &disk)
}

/// Wait until the job `fragment` has done its work.
pub(in crate::scenarios) fn wait(vm: &Vm, holes: &Job<'_>) -> Result<()> {
    vm.wait_until(Duration::from_secs(120), "memory fragmented", || {
        holes.expect_running()?;
        let there = vm.try_exec(&["cat", "/tmp/fragmented"])?;
        Ok(if there.stdout.is_empty() {
            Err(vm.read("/proc/meminfo")?)
        } else {
            Ok(())
        })
    })?;
    let free = vm.read("/proc/buddyinfo")?;
    let (small, all) = pages(&free);
    expect(
        small > all / 2,
        "most of the free memory in small blocks",
        &free,
    )
}

/// Free pages in small blocks, and in all.
fn pages(buddyinfo: &str) -> (u64, u64) {
    let (mut small, mut all) = (0, 0);
    for line in buddyinfo
        .lines()
        .filter_map(|line| line.split("zone").nth(1))
    {
        for (order, count) in (0u32..).zip(line.split_whitespace().skip(1)) {
            let pages = count.parse::<u64>().unwrap_or(0) << order;
            all += pages;
            small += if order <= SMALL { pages } else { 0 };
        }
    }
    (small, all)
}
