// SPDX-License-Identifier: GPL-2.0

//! Frames of other sizes than usual, and sizes that change under load.

use anyhow::Result;

use crate::failure::expect;
use crate::net::{self, Wire, IP, TRANSFER};
use crate::scenarios::Context;
use crate::storage::script;

/// Headers of IPv4 and of a ping.
const HEADERS: u32 = 28;

/// Both ends.
fn set(cx: &Context<'_>, wire: &Wire<'_>, mtu: u32) -> Result<()> {
    let (name, peer) = (&wire.name, &wire.peer);
    let at_peer = Wire::at_peer(&format!("{IP} link set {peer} mtu {mtu}"));
    script(cx.vm, &format!("{IP} link set {name} mtu {mtu}\n{at_peer}"))?;
    net::wait_carrier(cx.vm, name, true)
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    wire.serve()?;
    for mtu in [9000, 576, 4000, 1500] {
        set(cx, &wire, mtu)?;
        wire.ping("")?;
        // one frame each: nothing is fragmented
        let before = net::statistic(vm, &wire.name, "tx_packets")?;
        wire.ping(&format!("-s {}", mtu - HEADERS))?;
        let frames = net::statistic(vm, &wire.name, "tx_packets")? - before;
        expect(
            (3..=9).contains(&frames),
            format!("four frames for four pings at MTU {mtu}, and a few others"),
            frames,
        )?;
        for options in ["-n 2M", "-n 2M -R"] {
            wire.load("load", options)?.expect_success(TRANSFER)?;
        }
    }

    let load = wire.stream()?;
    for mtu in [3000, 1500, 3000, 1500] {
        set(cx, &wire, mtu)?;
        load.expect_flow()?;
    }
    load.stop()?;
    wire.ping("")?;

    // buffers that end within a page, and sections that are shorter or longer afterwards
    for sections in [33, 34] {
        script(vm, &format!("ethtool -G {} rx {sections}", wire.name))?;
        for mtu in [600, 1500] {
            set(cx, &wire, mtu)?;
            wire.ping("-s 1400")?;
        }
    }
    script(vm, &format!("ethtool -G {} rx 4096", wire.name))?;
    wire.ping("")
}
