// SPDX-License-Identifier: GPL-2.0

//! The driver is unbound while it adds memory: the host hears how much was added, and goes on from there.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::ballooning::{expect_no_complaint, memory, request, wait, MIB};
use crate::devices;
use crate::failure::expect;
use crate::guest_files::counter;
use crate::machine::ADDABLE;
use crate::qemu::MEMORY;
use crate::storage::Job;

/// Other memory comes and goes meanwhile.
const TOLERANCE: u64 = 4 * MIB;
/// What user space decides for memory that is added.
const POLICY: &str = "/sys/devices/system/memory/auto_online_blocks";
/// The figures of the driver.
const STATUS: &str = "/sys/kernel/debug/hv-balloon-rust/status";
/// Where the kernel shows blocks of memory.
const BLOCKS: &str = "/sys/devices/system/memory";
/// Until the next report comes, where there is one, whatever else the machine does.
const REPORTED: Duration = Duration::from_secs(10);
/// Takes the driver away, which waits for the block that was added to be used, up to 5 s since then.
const UNBIND: &str = "echo $device > /sys/bus/vmbus/devices/$device/driver/unbind &
    unbind=$!
    sleep 2.5
    kill -0 $unbind || { echo 'it has not waited for the block'; exit 1; }
    echo online > $policy
    for state in $blocks/memory*/state; do
        [ $(cat $state) = online ] || echo online > $state
    done
    wait $unbind";

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let device = devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let before = memory(vm)?.total;

    vm.write(POLICY, "offline")?;
    let reported = |when: &str| {
        expect(
            vm.next_event("HV_BALLOON_STATUS_REPORT", REPORTED)?,
            format!("a report {when}"),
            "none",
        )
    };
    // They begin after a while.
    reported("of a driver that is bound")?;
    request(vm, MEMORY + ADDABLE)?;
    let added = vm.wait_until(Duration::from_secs(20), "a block that is added", || {
        Ok(match counter(&vm.read(STATUS)?, "pages_added:") {
            Some(pages) if pages > 0 => Ok(pages),
            pages => Err(format!("{pages:?} pages")),
        })
    })?;
    expect(
        added * 4096 < ADDABLE,
        format!("fewer pages added than {}", ADDABLE / 4096),
        added,
    )?;
    let unbind = format!("device={device} policy={POLICY} blocks={BLOCKS}\n{UNBIND}");
    let unbind = Job::start(vm, "unbind", &unbind)?;
    // One may have been under way.
    for _ in 0..2 {
        reported("while the driver is unbound")?;
    }
    unbind.expect_success(Duration::from_secs(60))?;
    let all = |what: &str| {
        let total = memory(vm)?.total;
        expect(
            total.abs_diff(before + ADDABLE) <= TOLERANCE,
            format!("{what}: MemTotal of {} KiB", (before + ADDABLE) / 1024),
            format!("{} KiB", total / 1024),
        )
    };
    all("what was asked for to be added before the driver goes")?;
    let module = vm.core.balloon_module();
    vm.exec(&["modprobe", "-r", module])?;

    vm.exec(&["modprobe", module])?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    request(vm, MEMORY + ADDABLE)?;
    wait(vm, MEMORY + ADDABLE)?;
    all("the host and the guest to agree once more")?;
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
