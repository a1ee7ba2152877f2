// SPDX-License-Identifier: GPL-2.0

//! The example driver talks to a controller in place of the storage driver, and gives it back. When it forgets
//! its open channel, the core closes that: the module can go, and another driver opens the channel. So it does when the
//! driver was bound, and has forgotten a sub-channel, too; what sends on the channel says so from then on.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Context;
use crate::devices::BUS;
use crate::failure::expect;
use crate::storage::{self, script, SPARE};
use crate::vm::Vm;

const DRIVER: &str = "hv_example_rust";
const DISK: storage::Address = (0, 0, 0);

/// Until the host has offered a sub-channel, and it is open.
const SUB_CHANNEL: Duration = Duration::from_secs(20);

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    storage::wait_for(vm, SPARE, DISK)?;
    let bind = format!("{BUS}/drivers/{DRIVER}/bind");
    let unbind = format!("{BUS}/drivers/{DRIVER}/unbind");

    take(vm, "")?;
    vm.write(&bind, SPARE)?;
    vm.write(&unbind, SPARE)?;
    script(vm, &format!("rmmod {}", vm.core.example_module()))?;
    for line in [
        &seen_before_open(cx)?,
        "the host answers: status 0x0",
        "given back",
        &format!("unregistering driver {DRIVER}"),
    ] {
        expect(
            vm.dmesg()?.contains(line),
            format!("'{line}' in the log"),
            "it is not there",
        )?;
    }
    give(vm)?;

    take(vm, "leave_open=1")?;
    let refused = vm.try_write(&bind, SPARE)?;
    expect(refused.is_some(), "a failed probe", "none")?;
    script(vm, &format!("rmmod {}", vm.core.example_module()))?;
    expect_line(vm, "left its channel open", 1)?;
    give(vm)?;

    take(vm, "leave_open=2")?;
    vm.write(&bind, SPARE)?;
    vm.wait_until(SUB_CHANNEL, "a sub-channel opened and forgotten", || {
        let said = vm.dmesg()?.contains("sub-channel forgotten: Ok(())");
        Ok(if said {
            Ok(())
        } else {
            Err("no line about it".to_owned())
        })
    })?;
    let before = closes(vm);
    vm.write(&unbind, SPARE)?;
    expect_line(vm, "left its channel open", 2)?;
    let closed = closes(vm) - before;
    expect(closed == 2, "both channels closed", closed)?;
    vm.write(&bind, SPARE)?;
    // Some kernels have no names for errors.
    let log = vm.dmesg()?;
    let sent = ["ENODEV", "Error(19)"]
        .map(|error| format!("sent on the channel of before: Err({error})"))
        .map(|line| log.matches(&line).count());
    expect(
        sent.iter().sum::<usize>() == 1,
        "ENODEV from what sends on the channel of before",
        format!("{sent:?} lines"),
    )?;
    vm.write(&unbind, SPARE)?;
    script(vm, &format!("rmmod {}", vm.core.example_module()))?;
    give(vm)
}

/// What the driver is told of the device before it opens it, as sysfs says it.
fn seen_before_open(cx: &Context<'_>) -> Result<String> {
    let device = format!("{BUS}/devices/{SPARE}");
    let channels = cx.vm.read(&format!("{device}/channel_vp_mapping"))?;
    let primary = channels.lines().next().and_then(|l| l.split_once(':'));
    let (_, cpu) = primary.context("the primary channel and its CPU")?;
    let node = cx.vm.read(&format!("{device}/numa_node"))?;
    Ok(format!(
        "VMBus {}, CPU {cpu}, node {}",
        cx.bus_version,
        node.trim()
    ))
}

fn expect_line(vm: &Vm, line: &str, wanted: usize) -> Result<()> {
    let times = vm.dmesg()?.matches(line).count();
    expect(
        times == wanted,
        format!("'{line}' {wanted} times in the log"),
        times,
    )
}

/// How many channels the guest has closed, by the host's trace.
fn closes(vm: &Vm) -> usize {
    let trace = vm.host.since(0);
    let closes = trace
        .iter()
        .filter(|line| line.contains("vmbus_close_channel"));
    closes.count()
}

/// From the storage driver to the example.
fn take(vm: &Vm, parameters: &str) -> Result<()> {
    let storage = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    vm.write(&format!("{storage}/unbind"), SPARE)?;
    script(
        vm,
        &format!("modprobe {} {parameters}", vm.core.example_module()),
    )?;
    // It would be bound as soon as the driver is there.
    vm.write(&format!("{BUS}/devices/{SPARE}/driver_override"), DRIVER)
}

/// And back.
fn give(vm: &Vm) -> Result<()> {
    let storage = format!("{BUS}/drivers/{}", vm.core.storage_driver());
    vm.write(&format!("{BUS}/devices/{SPARE}/driver_override"), "\n")?;
    vm.write(&format!("{storage}/bind"), SPARE)?;
    let disk = storage::wait_for(vm, SPARE, DISK)?;
    script(
        vm,
        &format!("dd if=/dev/{disk} of=/dev/null bs=4k count=100 iflag=direct"),
    )
    .map(drop)
}
