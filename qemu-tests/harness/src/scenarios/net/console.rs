// SPDX-License-Identifier: GPL-2.0

//! What the kernel says goes out over the adapter (netconsole), with interrupts off and without the stack,
//! also while the adapter is busy.

use anyhow::Result;

use crate::failure::expect;
use crate::net::{Wire, PEER_ADDRESS, PEER_MAC, TRANSFER, WIRE_ADDRESS};
use crate::scenarios::Context;
use crate::storage::{script, Job};

/// How many lines are said.
const LINES: usize = 500;
/// Of them may get lost: a busy adapter is tried for a tick only, and the console's buffer has an end.
const LEAST: usize = LINES * 9 / 10;
const PORT: u32 = 6666;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    let (name, peer) = (&wire.name, &wire.peer);
    wire.ping("")?;
    wire.serve()?;
    let capture = Wire::at_peer(&format!(
        "timeout 120 tcpdump -Z root -U -n -Q in -s 200 -w /tmp/said -i {peer} udp port {PORT}"
    ));
    let listener = Job::start(vm, "listener", &capture)?;
    script(
        vm,
        &format!(
            "sleep 3
             modprobe netconsole netconsole={PORT}@{WIRE_ADDRESS}/{name},{PORT}@{PEER_ADDRESS}/{PEER_MAC}"
        ),
    )?;
    let load = wire.load("load", "-n 8M")?;
    script(
        vm,
        &format!(
            "for n in $(seq {LINES}); do echo \"<3>line $n of the console\" > /dev/kmsg; done"
        ),
    )?;
    load.expect_success(TRANSFER)?;
    script(vm, "sleep 2; rmmod netconsole; killall tcpdump")?;
    listener.wait(TRANSFER)?;
    let found = script(
        vm,
        "tr -d '\\000' < /tmp/said | grep -a -o 'line [0-9]* of the console' | sort -u | wc -l; rm /tmp/said",
    )?;
    let found: usize = found.trim().parse()?;
    expect(
        found >= LEAST,
        format!("at least {LEAST} of {LINES} lines at the other end"),
        found,
    )?;
    *cx.figures = format!("{found} of {LINES} lines at the other end");
    wire.ping("")
}
