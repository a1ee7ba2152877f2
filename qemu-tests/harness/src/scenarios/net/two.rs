// SPDX-License-Identifier: GPL-2.0

//! Two adapters of one driver at a time: what happens to one is nothing to the other.

use std::time::Duration;

use anyhow::Result;

use crate::failure::expect;
use crate::net::{self, Wire, GATEWAY, IP, USER, WIRE};
use crate::scenarios::Context;
use crate::storage::script;

/// TCP gives up on its last segments sooner.
const QUIET: Duration = Duration::from_secs(60);

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    wire.serve()?;
    let user = net::wait_for(vm, USER)?;
    let address = format!("{IP} addr replace 10.0.2.15/24 dev");
    script(vm, &format!("{address} {user}"))?;
    net::ping(vm, GATEWAY, "")?;

    let load = wire.stream()?;
    net::ping(vm, GATEWAY, "-c 20 -i 0.05 -s 1400")?;
    script(
        vm,
        &format!("{IP} link set {user} down; {IP} link set {user} mtu 1400"),
    )?;
    load.expect_flow()?;
    let driver = format!("/sys/bus/vmbus/drivers/{}", vm.core.net_driver());
    vm.write(&format!("{driver}/unbind"), USER)?;
    let interface = net::find(vm, USER)?;
    expect(
        interface.is_none(),
        "no interface",
        format!("{interface:?}"),
    )?;
    load.expect_flow()?;
    vm.write(&format!("{driver}/bind"), USER)?;
    let user = net::wait_for(vm, USER)?;
    script(vm, &format!("{address} {user}"))?;
    net::ping(vm, GATEWAY, "-c 20 -i 0.05 -s 1400")?;
    load.stop()?;

    // each has its own frames; what the load's end has left to be said again is said by then
    let mut sent = 0;
    vm.wait_until(QUIET, "nothing more on the wire", || {
        let before = std::mem::replace(&mut sent, net::statistic(vm, &wire.name, "tx_packets")?);
        Ok(if sent == before {
            Ok(())
        } else {
            std::thread::sleep(Duration::from_secs(1));
            Err(format!("{before} frames, then {sent}"))
        })
    })?;
    net::ping(vm, GATEWAY, "-c 20 -i 0.05")?;
    let meanwhile = net::statistic(vm, &wire.name, "tx_packets")? - sent;
    expect(
        meanwhile < 20,
        "none of 20 pings of the one on the other",
        meanwhile,
    )?;
    expect(
        net::find(vm, WIRE)?.as_deref() == Some(&wire.name),
        "the other one is what it was",
        "another name",
    )?;
    wire.ping("")
}
