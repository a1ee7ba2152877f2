// SPDX-License-Identifier: GPL-2.0

//! The module of the core that cannot work here says so and goes.

use anyhow::Result;

use super::Context;
use crate::drivers::Core;
use crate::failure::expect;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let (module, line) = match vm.core {
        Core::C | Core::RustOnC => ("hv_vmbus_rust", "the built-in C core has the bus"),
        Core::Rust => (
            "hv_vmbus_rust_on_c",
            "the kernel's own VMBus core does not run here",
        ),
    };
    let status = vm.try_exec(&["modprobe", module])?.status;
    expect(status != 0, format!("{module} to be refused"), status)?;
    let log = vm.dmesg()?;
    expect(
        log.matches(line).count() == 1,
        format!("one line '{line}' in the log"),
        log.lines().last().unwrap_or_default(),
    )
}
