// SPDX-License-Identifier: GPL-2.0

//! The guest's VMBus devices, as sysfs shows them.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::drivers::Core;
use crate::failure::expect;
use crate::vm::Vm;

/// The bus in sysfs.
pub(crate) const BUS: &str = "/sys/bus/vmbus";

/// Class of the Dynamic Memory device.
pub(crate) const DYNAMIC_MEMORY: &str = "525074dc-8985-46e2-8057-a307dc18a502";

/// Attributes of a device that do not depend on the moment.
pub(crate) const ATTRIBUTES: [&str; 5] = ["id", "class_id", "device_id", "modalias", "state"];

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// Its name on the bus.
    pub(crate) name: String,
    /// [`ATTRIBUTES`], in that order.
    pub(crate) values: Vec<String>,
    /// The driver bound to it.
    pub(crate) driver: Option<String>,
}

/// One of the counters of the Rust core.
pub(crate) fn counter(vm: &Vm, name: &str) -> Result<u64> {
    let path = format!("{BUS}/counters/{name}");
    vm.read(&path)?.trim().parse().context(path)
}

/// Expect that nothing was counted there since the core was loaded. On the C core, which counts nothing, that
/// no line says that memory was left to the host.
pub(crate) fn expect_none(vm: &Vm, names: &[&str]) -> Result<()> {
    if vm.core == Core::RustOnC {
        let log = vm.dmesg()?;
        let left = log.lines().find(|line| line.contains("left to the host"));
        return expect(
            left.is_none(),
            "no memory left to the host",
            format!("{left:?}"),
        );
    }
    names.iter().try_for_each(|name| {
        let found = counter(vm, name)?;
        expect(found == 0, format!("no {name}"), found)
    })
}

/// The devices on the bus.
pub(crate) fn list(vm: &Vm) -> Result<Vec<Device>> {
    vm.list(&format!("{BUS}/devices"))?
        .into_iter()
        .map(|name| read(vm, name))
        .collect()
}

fn read(vm: &Vm, name: String) -> Result<Device> {
    let folder = format!("{BUS}/devices/{name}");
    let values = ATTRIBUTES
        .iter()
        .map(|a| Ok(vm.read(&format!("{folder}/{a}"))?.trim().to_owned()))
        .collect::<Result<_>>()?;
    let driver = vm.link_name(&format!("{folder}/driver"))?;
    Ok(Device {
        name,
        values,
        driver,
    })
}

/// The Dynamic Memory device's name, once a driver is bound to it.
pub(crate) fn wait_for_balloon(vm: &Vm, timeout: Duration) -> Result<String> {
    vm.wait_until(timeout, "a driver bound to the balloon device", || {
        let found = list(vm)?;
        let bound = found.iter().find(|d| is_balloon(d) && d.driver.is_some());
        Ok(bound
            .map(|d| d.name.clone())
            .ok_or_else(|| format!("{found:?}")))
    })
}

fn is_balloon(device: &Device) -> bool {
    device.values[1].contains(DYNAMIC_MEMORY)
}

/// Give a device to another driver, as an administrator does.
pub(crate) fn change_driver(vm: &Vm, device: &str, from: &str, to: &str) -> Result<()> {
    vm.write(&format!("{BUS}/devices/{device}/driver_override"), to)?;
    vm.write(&format!("{BUS}/drivers/{from}/unbind"), device)?;
    vm.write(&format!("{BUS}/drivers/{to}/bind"), device)?;
    let bound = vm.link_name(&format!("{BUS}/devices/{device}/driver"))?;
    expect(
        bound.as_deref() == Some(to),
        format!("the driver {to}"),
        format!("{bound:?}"),
    )
}

/// Let any driver have it again.
pub(crate) fn forget_override(vm: &Vm, device: &str) -> Result<()> {
    vm.write(&format!("{BUS}/devices/{device}/driver_override"), "\n")
}

/// How long until the host meets what its script waits for.
const MET: Duration = Duration::from_secs(40);

/// Wait until the host has met what this line of the bus's script is about, a message that the guest posts.
pub(crate) fn wait_for_post(vm: &Vm, line: u32) -> Result<()> {
    let wanted = format!("vmbus_fault line {line}: on post");
    vm.wait_until(MET, &format!("'{wanted}' in the host's trace"), || {
        let met = vm.host.since(0).iter().any(|l| l.contains(&wanted));
        Ok(if met {
            Ok(())
        } else {
            Err("no such line".to_owned())
        })
    })
}

/// The last contact in the host's trace.
pub(crate) fn host_contact(vm: &Vm) -> Option<String> {
    vm.host
        .since(0)
        .into_iter()
        .rev()
        .find(|l| l.contains("vmbus_initiate_contact"))
}
