// SPDX-License-Identifier: GPL-2.0

//! A panic with the core loaded prints its message and ends: the core's own
//! panic work (telling the host) must not hang.

use std::time::Duration;

use anyhow::Result;
use vmbus_guest::protocol::GuestRequest;

use super::Context;
use crate::devices;
use crate::failure::expect;
use crate::vm::Vm;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    vm.tell(GuestRequest::Write {
        path: "/proc/sysrq-trigger".into(),
        data: "c".into(),
    })?;
    let ended = vm.wait_for_end(
        Duration::from_secs(60),
        "the guest to reset after its panic",
    )?;
    expect(
        ended.status == Some(0),
        "QEMU to end with status 0",
        format!("{ended:?}"),
    )?;
    let console = vm.console.since(0);
    expect(
        console
            .iter()
            .any(|l| l.contains("Kernel panic - not syncing: sysrq triggered crash")),
        "the panic's message on the console",
        "no such line",
    )?;
    expect_unload(vm, 0)
}

/// The host got an UNLOAD (message 16) from this line of its trace on, and its answer was seen at once, whichever CPU
/// read it.
pub(super) fn expect_unload(vm: &Vm, seen: usize) -> Result<()> {
    let messages = vm.host.since(seen);
    let unload = messages
        .iter()
        .any(|l| l.contains("vmbus_recv_message") && l.contains(" type 16 "));
    let last = messages
        .iter()
        .rev()
        .find(|l| l.contains("vmbus_recv_message"));
    expect(
        unload,
        "an UNLOAD in the host's trace",
        last.map_or("no message", |l| l.as_str()),
    )?;
    let console = vm.console.since(0);
    let waits = console.iter().find(|l| l.contains("VMBus UNLOAD"));
    expect(
        waits.is_none(),
        "the answer to UNLOAD within 5 s",
        waits.map_or("", |l| l.as_str()),
    )
}
