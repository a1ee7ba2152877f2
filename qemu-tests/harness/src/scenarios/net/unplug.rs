// SPDX-License-Identifier: GPL-2.0

//! The host takes the adapter away, under load where the driver survives that, and offers it again.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::drivers::Core;
use crate::failure::expect;
use crate::net::{self, Wire, IP, TRANSFER, WIRE, WIRE_MAC, WIRE_QUEUES};
use crate::scenarios::Context;
use crate::storage::{self, script};
use crate::vm::Vm;

const ROUNDS: u32 = 3;
/// The end of an adapter whose host is gone.
const GONE: Duration = Duration::from_secs(60);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let mut wire = Wire::connect(vm)?;
    for _ in 0..ROUNDS {
        match vm.core {
            Core::Rust | Core::RustOnC => under_load(vm, &wire)?,
            // The C driver gets no completions any more after the rescind, and waits for those of what
            // it has sent before: a frame of the kernel's own is enough.
            Core::C => {
                script(vm, &format!("{IP} link set {} down", wire.name))?;
                unplug(vm)?;
            }
        }

        let adapter = json!({
            "driver": "hv-net", "id": "wire", "netdev": "wire", "mac": WIRE_MAC,
            "num-queues": WIRE_QUEUES, "instanceid": WIRE,
        });
        vm.plug_when_gone(&adapter)?;
        wire = Wire::connect(vm)?;
        wire.ping("")?;
    }
    Ok(())
}

/// The bus forgets a device before its driver does: the interface is looked for by its address.
fn unplug(vm: &Vm) -> Result<()> {
    storage::unplug(vm, "wire")?;
    storage::wait_unplugged(vm, WIRE)?;
    vm.wait_until(GONE, "no interface", || {
        let name = script(vm, &net::by_mac(WIRE_MAC))?;
        Ok(if name.is_empty() { Ok(()) } else { Err(name) })
    })
}

/// What the driver said of frames that it did not take.
fn refused(vm: &Vm) -> Result<Vec<String>> {
    let log = vm.dmesg()?;
    let of_adapter = |line: &&str| line.contains(WIRE) && line.contains("dropped: ");
    Ok(log.lines().filter(of_adapter).map(str::to_owned).collect())
}

fn under_load(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    wire.serve()?;
    let before = refused(vm)?.len();
    let load = wire.load("load", "-t 60 -P 4 --bidir")?;
    script(vm, "sleep 2")?;
    load.expect_running()?;
    unplug(vm)?;
    // the connections have lost their address
    script(vm, "killall -9 iperf3; rm -f /tmp/iperf3.pid; sleep 1")?;
    load.wait(TRANSFER)?;
    // the host must not use a section again that the guest still has by a channel that is gone
    let refused = refused(vm)?;
    expect(
        refused.len() == before,
        "every frame to be what the host said",
        refused[before.min(refused.len())..].join("; "),
    )
}
