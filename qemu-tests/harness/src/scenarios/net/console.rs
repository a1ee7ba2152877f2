// SPDX-License-Identifier: GPL-2.0

//! What the kernel says goes out over the adapter (netconsole), with interrupts off and without the stack,
//! also while the adapter is busy.

use anyhow::Result;

use crate::failure::expect;
use crate::net::{Wire, PEER_ADDRESS, TRANSFER, WIRE_ADDRESS};
use crate::scenarios::Context;
use crate::storage::{script, Job};

/// How many lines are said; more than there is room for frames at a time.
const LINES: usize = 1500;
/// Of them may get lost: a busy adapter is tried for a tick only.
const LEAST: usize = LINES * 9 / 10;
const PORT: u32 = 6666;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    let (name, peer) = (&wire.name, &wire.peer);
    wire.ping("")?;
    let mac = script(
        vm,
        &Wire::at_peer(&format!("cat /sys/class/net/{peer}/address")),
    )?;
    let listen = Wire::at_peer(&format!("nc -u -l -p {PORT} -w 60"));
    let listener = Job::start(vm, "listener", &format!("{listen} > /tmp/said"))?;
    script(
        vm,
        &format!(
            "modprobe netconsole netconsole={PORT}@{WIRE_ADDRESS}/{name},{PORT}@{PEER_ADDRESS}/{}",
            mac.trim()
        ),
    )?;
    wire.serve()?;
    let load = wire.load("load", "-t 10")?;
    script(
        vm,
        &format!(
            "for n in $(seq {LINES}); do echo \"<3>line $n of the console\" > /dev/kmsg; done"
        ),
    )?;
    load.expect_success(TRANSFER)?;
    script(vm, "sleep 1; rmmod netconsole; killall nc || true")?;
    listener.wait(TRANSFER)?;
    let found = script(
        vm,
        "tr -d '\\000' < /tmp/said | grep -o 'line [0-9]* of the console' | sort -u | wc -l; rm /tmp/said",
    )?;
    let found: usize = found.trim().parse()?;
    expect(
        found >= LEAST,
        format!("at least {LEAST} of {LINES} lines at the other end"),
        found,
    )?;
    wire.ping("")
}
