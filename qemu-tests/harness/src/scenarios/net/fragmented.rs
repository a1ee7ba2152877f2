// SPDX-License-Identifier: GPL-2.0

//! An adapter comes at run time, when memory has no large blocks: its buffers and rings are of single pages.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::failure::expect;
use crate::machine::Machine;
use crate::net::{self, Wire, TRANSFER, WIRE, WIRE_MAC, WIRE_QUEUES};
use crate::scenarios::storage::fragmented;
use crate::scenarios::Context;
use crate::storage::{channels, script, Job};

/// The other end of the wire alone.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-fragmented",
    devices: &[
        "-device vmbus-bridge",
        "-netdev hubport,id=wire,hubid=1",
        "-netdev hubport,id=peer,hubid=1",
        "-device e1000e,netdev=peer,romfile=,mac=52:54:00:00:10:03",
    ],
    ..net::MACHINE
};

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    // the other end gets its memory before
    vm.exec(&["modprobe", "e1000e"])?;
    script(vm, "sleep 2")?;
    let holes = Job::start(vm, "fragment", "fragment /tmp/fragmented")?;
    fragmented::wait(vm, &holes)?;

    let adapter = json!({
        "driver": "hv-net", "id": "wire", "netdev": "wire", "mac": WIRE_MAC,
        "num-queues": WIRE_QUEUES, "instanceid": WIRE,
    });
    vm.qmp("device_add", &adapter)?;
    let wire = Wire::connect(vm)?;
    vm.wait_until(Duration::from_secs(30), "all channels", || {
        let there = channels(vm, WIRE)?.len();
        Ok(if there == WIRE_QUEUES {
            Ok(())
        } else {
            Err(format!("{there} channels"))
        })
    })?;
    wire.serve()?;
    wire.load("load", "-t 3 --bidir")?
        .expect_success(TRANSFER)?;
    // buffers and rings anew
    script(vm, &format!("{} link set {} mtu 1400", net::IP, wire.name))?;
    net::wait_carrier(vm, &wire.name, true)?;
    holes.expect_running()?;
    wire.ping("-s 1300")?;
    let found = vm.try_exec(&["sh", "-c", "dmesg | grep 'page allocation failure'"])?;
    expect(
        found.stdout.is_empty(),
        "no allocation that failed aloud",
        found.stdout,
    )
}
