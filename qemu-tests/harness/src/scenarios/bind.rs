// SPDX-License-Identifier: GPL-2.0

//! Drivers are bound and unbound by hand, as sysfs offers it.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Context;
use crate::devices::{self, BUS};
use crate::failure::expect;
use crate::vm::Vm;

const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// A class that no driver and no device has.
const FOREIGN: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let device = devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    let driver = driver_of(vm, &device)?.context("the device is bound")?;
    let driver_folder = format!("{BUS}/drivers/{driver}");
    let override_file = format!("{BUS}/devices/{device}/driver_override");

    // by hand
    vm.write(&format!("{driver_folder}/unbind"), &device)?;
    expect_driver(vm, &device, None)?;
    let again = vm.try_write(&format!("{driver_folder}/unbind"), &device)?;
    expect(
        again == Some(ENODEV),
        "ENODEV for a second unbind",
        format!("{again:?}"),
    )?;
    vm.write(&format!("{driver_folder}/bind"), &device)?;
    expect_driver(vm, &device, Some(&driver))?;

    // driver_override: only a driver of that name may bind
    vm.write(&format!("{driver_folder}/unbind"), &device)?;
    vm.write(&override_file, "no_such_driver")?;
    let shown = vm.read(&override_file)?;
    expect(
        shown.trim() == "no_such_driver",
        "driver_override to show its value",
        shown.trim(),
    )?;
    // the write succeeds or not; what counts is that nothing is bound
    vm.try_write(&format!("{BUS}/drivers_probe"), &device)?;
    expect_driver(vm, &device, None)?;
    vm.write(&override_file, "\n")?;
    vm.write(&format!("{BUS}/drivers_probe"), &device)?;
    expect_driver(vm, &device, Some(&driver))?;

    // dynamic ids
    let new_id = format!("{driver_folder}/new_id");
    let remove_id = format!("{driver_folder}/remove_id");
    let nonsense = vm.try_write(&new_id, "not-a-guid")?;
    expect(
        nonsense == Some(EINVAL),
        "EINVAL for a malformed GUID",
        format!("{nonsense:?}"),
    )?;
    vm.write(&new_id, FOREIGN)?;
    vm.write(&remove_id, FOREIGN)?;
    let gone = vm.try_write(&remove_id, FOREIGN)?;
    expect(
        gone == Some(ENODEV),
        "ENODEV for an id that is not there",
        format!("{gone:?}"),
    )?;
    expect_driver(vm, &device, Some(&driver))
}

fn driver_of(vm: &Vm, device: &str) -> Result<Option<String>> {
    vm.link_name(&format!("{BUS}/devices/{device}/driver"))
}

fn expect_driver(vm: &Vm, device: &str, want: Option<&str>) -> Result<()> {
    let found = driver_of(vm, device)?;
    expect(
        found.as_deref() == want,
        format!("driver {}", want.unwrap_or("(none)")),
        found.as_deref().unwrap_or("(none)"),
    )
}
