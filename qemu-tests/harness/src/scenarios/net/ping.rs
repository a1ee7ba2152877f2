// SPDX-License-Identifier: GPL-2.0

//! An interface comes up, gets an address from the host's DHCP, and the host answers.

use std::time::Duration;

use anyhow::Result;

use crate::failure::expect;
use crate::net::{self, GATEWAY, GATEWAY6, IP, USER};
use crate::scenarios::Context;
use crate::storage::script;

const ROUTER: Duration = Duration::from_secs(40);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    let name = net::wait_for(vm, USER)?;
    net::lease(vm, &name)?;
    let addresses = script(vm, &format!("{IP} -4 -o addr show dev {name}"))?;
    expect(
        addresses.contains("10.0.2.15/24"),
        "10.0.2.15 by DHCP",
        addresses,
    )?;

    // one byte, a full frame, and fragments of a longer one
    for size in [1, 56, 1472, 1473, 8000] {
        net::ping(vm, GATEWAY, &format!("-s {size}"))?;
    }

    // by router advertisement and neighbour discovery, which are multicast
    vm.wait_until(ROUTER, "an IPv6 address", || {
        let found = script(vm, &format!("{IP} -6 -o addr show dev {name} -tentative"))?;
        Ok(if found.contains("fec0:") {
            Ok(())
        } else {
            Err(found)
        })
    })?;
    net::ping(vm, GATEWAY6, "")?;

    let (sent, received) = (
        net::statistic(vm, &name, "tx_packets")?,
        net::statistic(vm, &name, "rx_packets")?,
    );
    cx.figures
        .push_str(&format!("{sent} frames sent, {received} received"));
    Ok(())
}
