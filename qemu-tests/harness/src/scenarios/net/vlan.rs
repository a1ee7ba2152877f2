// SPDX-License-Identifier: GPL-2.0

//! Tagged frames: the tag, with its priority, is no part of the frame on VMBus.

use anyhow::Result;

use crate::failure::expect;
use crate::net::{Wire, IP, TRANSFER};
use crate::scenarios::Context;
use crate::storage::script;
use crate::vm::Vm;

const ID: u32 = 4000;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    let (name, peer) = (&wire.name, &wire.peer);
    let at_peer = |command: &str| Wire::at_peer(&format!("{IP} {command}"));
    let commands = [
        format!("{IP} link add link {name} name tagged type vlan id {ID} egress-qos-map 0:5"),
        format!("{IP} addr add 192.168.8.1/24 dev tagged"),
        format!("{IP} link set tagged up"),
        at_peer(&format!(
            "link add link {peer} name tagged type vlan id {ID} ingress-qos-map 5:3"
        )),
        at_peer("addr add 192.168.8.2/24 dev tagged"),
        at_peer("link set tagged up"),
    ];
    script(vm, &commands.join("\n"))?;
    crate::net::ping(vm, "192.168.8.2", "-s 1472")?;

    // tags, segmentation and checksums at once
    wire.serve()?;
    for options in ["-t 3", "-t 3 -R"] {
        let load = format!("iperf3 -c 192.168.8.2 {options}");
        crate::storage::Job::start(vm, "tagged", &load)?.expect_success(TRANSFER)?;
    }

    priority_only(vm, &wire)?;

    // another id is another network
    script(
        vm,
        &format!(
            "{IP} link add link {name} name other type vlan id 7; {IP} link set other up
                  {IP} addr del 192.168.8.1/24 dev tagged; {IP} addr add 192.168.8.1/24 dev other"
        ),
    )?;
    let lost = vm.try_exec(&["sh", "-c", "ping -c 1 -W 2 192.168.8.2"])?;
    expect(lost.status != 0, "no answer from another VLAN", lost.stdout)?;
    let gone = [
        format!("{IP} link del other"),
        format!("{IP} link del tagged"),
        at_peer("link del tagged"),
    ];
    script(vm, &gone.join("\n")).map(drop)
}

/// Frames of VLAN 0 have a priority, and are of no VLAN: who sends them tagged is answered.
fn priority_only(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    let (name, peer) = (&wire.name, &wire.peer);
    let mac = crate::net::WIRE_MAC;
    let commands = [
        format!("{IP} addr add 192.168.9.1/24 dev {name}"),
        Wire::at_peer(&format!(
            "{IP} link add link {peer} name zero type vlan id 0 egress-qos-map 0:5"
        )),
        Wire::at_peer(&format!("{IP} addr add 192.168.9.2/24 dev zero")),
        Wire::at_peer(&format!("{IP} link set zero up")),
        Wire::at_peer(&format!(
            "{IP} neigh replace 192.168.9.1 lladdr {mac} dev zero"
        )),
        format!(
            "{IP} neigh replace 192.168.9.2 lladdr {} dev {name}",
            crate::net::PEER_MAC
        ),
    ];
    script(vm, &commands.join("\n"))?;
    let asked = Wire::at_peer("ping -c 3 -W 5 -s 1000 192.168.9.1");
    let done = vm.try_exec(&["sh", "-c", &asked])?;
    expect(
        done.stdout.contains(" 0% packet loss"),
        "frames of VLAN 0 answered",
        format!("{}{}", done.stdout, done.stderr),
    )?;
    let gone = [
        Wire::at_peer(&format!("{IP} link del zero")),
        format!("{IP} addr del 192.168.9.1/24 dev {name}"),
    ];
    script(vm, &gone.join("\n")).map(drop)
}
