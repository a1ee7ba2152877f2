// SPDX-License-Identifier: GPL-2.0

//! The core negotiates with the host, and device events load the driver.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::devices;
use crate::drivers::Core;
use crate::failure::{expect, unmet};
use crate::kernel_log;

const BIND_TIMEOUT: Duration = Duration::from_secs(40);

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    if vm.core == Core::Rust {
        let before = vm.list("/sys/bus/vmbus")?;
        expect(
            before.is_empty(),
            "no /sys/bus/vmbus before modprobe",
            format!("{before:?}"),
        )?;
    }
    vm.load_core()?;
    devices::wait_for_balloon(vm, BIND_TIMEOUT)?;

    let modules = vm.read("/proc/modules")?;
    let module = vm.core.balloon_module();
    expect(
        modules.lines().any(|l| l.split(' ').next() == Some(module)),
        format!("module {module} loaded by its alias"),
        modules
            .lines()
            .map(|l| l.split(' ').next().unwrap_or(""))
            .collect::<Vec<_>>()
            .join(" "),
    )?;

    kernel_log::expect_no_complaint(vm)?;
    let version = kernel_log::negotiated_version(&vm.dmesg()?)
        .ok_or_else(|| unmet("the negotiated version in the kernel log", "no such line"))?;
    expect(version == "4.0", "version 4.0 negotiated", &version)?;

    // The host saw it too: the last version it was asked for.
    let asked = devices::host_contact(vm);
    expect(asked.is_some(), "a contact in the host's trace", "none")
}
