// SPDX-License-Identifier: GPL-2.0

//! Bytes arrive as they were sent, both ways, with offloads and without. On one adapter libslirp's TCP
//! checks what comes; on the other one that of the kernel, behind an adapter that offloads nothing.

use anyhow::Result;

use crate::failure::expect;
use crate::net::{
    self, Wire, ECHO, ECHO_PORT, IP, PEER_ADDRESS, PEER_ADDRESS6, TRANSFER, USER, WIRE_ADDRESS,
    WIRE_ADDRESS6,
};
use crate::scenarios::Context;
use crate::storage::{script, Job};
use crate::vm::Vm;

const MIB: u32 = 2;
const PORT: &str = "5000";

/// What `ethtool -K` calls what the adapter does for the guest.
const OFFLOADS: [&str; 3] = ["tx", "rx", "tso"];

/// Switch some of them, for both kinds of IP where there are two.
fn offload(vm: &Vm, name: &str, offloads: &[&str], on: bool) -> Result<()> {
    let state = if on { "on" } else { "off" };
    let words: Vec<String> = offloads.iter().map(|o| format!("{o} {state}")).collect();
    script(vm, &format!("ethtool -K {name} {}", words.join(" "))).map(drop)
}

/// Send the file to who sends it back.
fn echo(vm: &Vm) -> Result<()> {
    let job = format!("nc {ECHO} {ECHO_PORT} < /tmp/data > /tmp/back");
    Job::start(vm, "echo", &job)?.expect_success(TRANSFER)?;
    script(vm, "cmp /tmp/data /tmp/back; rm /tmp/back").map(drop)
}

/// An end of the wire: runs a command there.
pub(super) type End = fn(&str) -> String;

pub(super) fn here(command: &str) -> String {
    command.to_owned()
}

/// Send the file from one end to the other one's address.
pub(super) fn copy(vm: &Vm, from: End, to: End, address: &str) -> Result<()> {
    let listen = format!("nc -l -p {PORT} -e /bin/dd of=/tmp/there bs=64k");
    let listener = Job::start(vm, "listen", &to(&listen))?;
    vm.wait_until(TRANSFER, "somebody to listen", || {
        let found = script(vm, &to("netstat -ltn"))?;
        listener.expect_running()?;
        Ok(if found.contains(&format!(":{PORT}")) {
            Ok(())
        } else {
            Err(found)
        })
    })?;
    let send = format!("nc {address} {PORT} < /tmp/data");
    Job::start(vm, "send", &from(&format!("sh -c '{send}'")))?.expect_success(TRANSFER)?;
    listener.expect_success(TRANSFER)?;
    script(vm, "cmp /tmp/data /tmp/there; rm /tmp/there").map(drop)
}

/// Both ways over the wire, by IPv4 and IPv6.
fn over_the_wire(vm: &Vm) -> Result<()> {
    for (own, peer) in [(WIRE_ADDRESS, PEER_ADDRESS), (WIRE_ADDRESS6, PEER_ADDRESS6)] {
        copy(vm, here, Wire::at_peer, peer)?;
        copy(vm, Wire::at_peer, here, own)?;
    }
    Ok(())
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    let user = net::wait_for(vm, USER)?;
    script(
        vm,
        &format!(
            "{IP} addr replace 10.0.2.15/24 dev {user}
             dd if=/dev/urandom of=/tmp/data bs=1M count={MIB} 2>/dev/null"
        ),
    )?;

    let frames = || -> Result<u64> {
        let before = net::statistic(vm, &wire.name, "tx_packets")?;
        copy(vm, here, Wire::at_peer, PEER_ADDRESS)?;
        Ok(net::statistic(vm, &wire.name, "tx_packets")? - before)
    };
    let large = frames()?;
    echo(vm)?;
    over_the_wire(vm)?;

    for off in [&OFFLOADS[..], &["tso"], &["rx"]] {
        for name in [&user, &wire.name] {
            offload(vm, name, off, false)?;
        }
        if off.contains(&"tso") {
            let small = frames()?;
            expect(
                // a kernel that is slow has less to put into one
                2 * small > 3 * large,
                "more frames without segmentation by the host",
                format!("{large} with, {small} without"),
            )?;
            *cx.figures = format!("{MIB} MiB in {large} frames with TSO, {small} without");
        }
        echo(vm)?;
        over_the_wire(vm)?;
        for name in [&user, &wire.name] {
            offload(vm, name, off, true)?;
        }
    }
    script(vm, "rm /tmp/data").map(drop)
}
