// SPDX-License-Identifier: GPL-2.0

//! The driver is unbound while it adds memory: the host hears how much was added, and goes on from there.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::ballooning::{expect_no_complaint, memory, request, wait, MIB};
use crate::devices;
use crate::failure::expect;
use crate::machine::ADDABLE;
use crate::qemu::MEMORY;
use crate::storage::Job;

/// Other memory comes and goes meanwhile.
const TOLERANCE: u64 = 4 * MIB;
/// What user space decides for memory that is added.
const POLICY: &str = "/sys/devices/system/memory/auto_online_blocks";
/// The figures of the driver.
const STATUS: &str = "/sys/kernel/debug/hv-balloon-rust/status";
/// Takes the driver away once a block was added, and says how many pages were added by then.
const UNBIND: &str = "added() { busybox awk '$1 == \"pages_added:\" { print $2 }' $status; }
    while [ $(added) = 0 ]; do :; done
    added
    echo $device > /sys/bus/vmbus/devices/$device/driver/unbind";

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let device = devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let before = memory(vm)?.total;

    vm.write(POLICY, "online")?;
    let unbind = format!("status={STATUS} device={device}\n{UNBIND}");
    let unbind = Job::start(vm, "unbind", &unbind)?;
    request(vm, MEMORY + ADDABLE)?;
    let (status, pages) = unbind.wait(Duration::from_secs(60))?;
    expect(
        status == "0" && pages.trim().parse().is_ok_and(|p: u64| p * 4096 < ADDABLE),
        "a driver that goes before all is added",
        format!("status {status}, {pages} pages"),
    )?;
    let module = vm.core.balloon_module();
    vm.exec(&["modprobe", "-r", module])?;

    vm.exec(&["modprobe", module])?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    request(vm, MEMORY + ADDABLE)?;
    wait(vm, MEMORY + ADDABLE)?;
    let total = memory(vm)?.total;
    expect(
        total.abs_diff(before + ADDABLE) <= TOLERANCE,
        format!("MemTotal of {} KiB", (before + ADDABLE) / 1024),
        format!("{} KiB", total / 1024),
    )?;
    let log = vm.dmesg()?;
    let wrong = log
        .lines()
        .find(|line| line.contains("there is memory at these addresses"));
    expect(
        wrong.is_none(),
        "no memory that the host adds twice",
        wrong.unwrap_or_default(),
    )?;
    expect_no_complaint(vm)
}
