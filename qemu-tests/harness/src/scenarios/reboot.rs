// SPDX-License-Identifier: GPL-2.0

//! The guest reboots in order; the Rust core tells the host that it goes.

use std::time::Duration;

use anyhow::Result;
use vmbus_guest::protocol::GuestRequest;

use super::Context;
use crate::devices;
use crate::drivers::Core;
use crate::failure::expect;
use crate::vm::Vm;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    ends_in_order(vm, "reboot", "reboot: Restarting system")
}

/// An end by this command, as the kernel, which says this, QEMU and the host see it.
pub(super) fn ends_in_order(vm: &Vm, command: &str, last_words: &str) -> Result<()> {
    let seen = vm.host.len();
    let argv = vec![command.to_owned(), "-f".to_owned()];
    vm.tell(GuestRequest::Exec { argv })?;
    // `-no-reboot` makes the reset QEMU's end
    let ended = vm.wait_for_end(Duration::from_secs(60), "the guest to end")?;
    expect(
        ended.status == Some(0),
        "QEMU to end with status 0",
        format!("{ended:?}"),
    )?;
    let said = vm.console.since(0).iter().any(|l| l.contains(last_words));
    expect(
        said,
        format!("'{last_words}' on the console"),
        "no such line",
    )?;
    // the C core says nothing to the host here
    match vm.core {
        Core::Rust => super::panic::expect_unload(vm, seen),
        Core::C | Core::RustOnC => Ok(()),
    }
}
