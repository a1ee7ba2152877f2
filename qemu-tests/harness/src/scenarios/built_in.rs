// SPDX-License-Identifier: GPL-2.0

//! A kernel with the drivers built in finds its root by them, without an initramfs, takes their parameters from its
//! command line, and the main scenarios pass in it.

use anyhow::{bail, Result};

use super::{all, reboot, Context, Run};
use crate::built_in::ROOT;
use crate::devices::BUS;
use crate::failure::expect;
use crate::storage;
use crate::vm::Vm;

/// What else is run in this kernel.
const MAIN: [&str; 8] = [
    "balloon",
    "bind-unbind",
    "storage-verify",
    "storage-filesystem",
    "storage-unplug",
    "net-ping",
    "net-tcp",
    // moves channels to other CPUs
    "cpu-hotplug",
];

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    is_root(vm)?;
    no_module(vm)?;
    parameter(vm)?;
    for name in MAIN {
        let Some(Run::InGuest(run)) = all().find(|s| s.name == name).map(|s| &s.run) else {
            bail!("no scenario {name} that runs in a guest");
        };
        run(cx).map_err(|e| e.context(name))?;
    }
    MAIN.join(", ").clone_into(cx.figures);
    reboot::ends_in_order(cx.vm, "reboot", "reboot: Restarting system")
}

/// `/` is on the root's controller, which has the driver under test.
fn is_root(vm: &Vm) -> Result<()> {
    let disk = storage::wait_for(vm, ROOT, (0, 0, 0))?;
    let number = vm.read(&format!("/sys/block/{disk}/{disk}1/dev"))?;
    let mounts = vm.read("/proc/1/mountinfo")?;
    let is_root = |line: &&str| line.split(' ').nth(4) == Some("/");
    let root = mounts.lines().find(is_root).unwrap_or_default();
    expect(
        root.split(' ').nth(2) == Some(number.trim()),
        format!("/ on device {}, a partition of {disk}", number.trim()),
        root,
    )?;
    let bound = vm.link_name(&format!("{BUS}/devices/{ROOT}/driver"))?;
    let driver = vm.core.storage_driver();
    expect(
        bound.as_deref() == Some(driver),
        format!("driver {driver} for the controller"),
        format!("{bound:?}"),
    )
}

/// Nothing was loaded.
fn no_module(vm: &Vm) -> Result<()> {
    let modules = vm.read("/proc/modules")?;
    expect(modules.is_empty(), "no module", modules)
}

/// A word of the command line is a driver's parameter.
fn parameter(vm: &Vm) -> Result<()> {
    let module = vm.core.storage_module();
    let found = vm.read(&format!(
        "/sys/module/{module}/parameters/storvsc_answer_secs"
    ))?;
    expect(
        found.trim() == "177",
        "storvsc_answer_secs 177",
        found.trim(),
    )
}
