// SPDX-License-Identifier: GPL-2.0

//! Tagged frames: the tag, with its priority, is no part of the frame on VMBus.

use anyhow::Result;

use crate::failure::expect;
use crate::net::{Wire, IP, TRANSFER};
use crate::scenarios::Context;
use crate::storage::script;
use crate::vm::Vm;

/// Between what was captured at the one end and at the other.
const END: &str = "--";

const ID: u32 = 4000;
/// Of frames of the interface under test, and of those of the other end.
const PRIORITY: u32 = 5;
/// See [`PRIORITY`].
const ANSWER_PRIORITY: u32 = 6;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    let (name, peer) = (&wire.name, &wire.peer);
    let at_peer = |command: &str| Wire::at_peer(&format!("{IP} {command}"));
    let commands = [
        format!(
            "{IP} link add link {name} name tagged type vlan id {ID} egress-qos-map 0:{PRIORITY}"
        ),
        format!("{IP} addr add 192.168.8.1/24 dev tagged"),
        format!("{IP} link set tagged up"),
        at_peer(&format!(
            "link add link {peer} name tagged type vlan id {ID} egress-qos-map 0:{ANSWER_PRIORITY}"
        )),
        at_peer("addr add 192.168.8.2/24 dev tagged"),
        at_peer("link set tagged up"),
    ];
    script(vm, &commands.join("\n"))?;
    crate::net::ping(vm, "192.168.8.2", "-s 1472")?;
    priorities(vm, &wire)?;

    // tags, segmentation and checksums at once
    wire.serve()?;
    for options in ["-n 4M", "-n 4M -R"] {
        let load = format!("iperf3 -c 192.168.8.2 {options}");
        crate::storage::Job::start(vm, "tagged", &load)?.expect_success(TRANSFER)?;
    }

    priority_only(vm, &wire)?;
    if vm.core.has_rust_drivers() {
        two_tags(vm)?;
    }

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

/// Each end sees the tag and the priority that the other one gave.
fn priorities(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    let (name, peer) = (&wire.name, &wire.peer);
    let capture = |interface: &str, file: &str| {
        format!(
            "timeout 30 tcpdump -Z root -l -e -n -Q in -c 3 -i {interface} vlan and icmp > {file} 2>/dev/null &"
        )
    };
    let text = format!(
        "{}
         {}
         sleep 2
         ping -c 3 -W 5 192.168.8.2 > /dev/null
         wait
         cat /tmp/there
         echo {END}
         cat /tmp/here",
        Wire::at_peer(&capture(peer, "/tmp/there")),
        capture(name, "/tmp/here"),
    );
    let seen = script(vm, &text)?;
    let (there, here) = seen.split_once(END).unwrap_or((&seen, ""));
    for (end, frames, priority, what) in [
        ("the other end", there, PRIORITY, "ICMP echo request"),
        ("the interface", here, ANSWER_PRIORITY, "ICMP echo reply"),
    ] {
        let tag = format!("vlan {ID}, p {priority}, ");
        let right = |line: &&str| line.contains(&tag) && line.contains(what);
        expect(
            frames.lines().filter(right).count() == 3,
            format!("3 times '{tag}' with '{what}' at {end}"),
            &seen,
        )?;
    }
    Ok(())
}

/// Of two tags one is beside the frame, and one is in it.
fn two_tags(vm: &Vm) -> Result<()> {
    let end = |address: &str, at: &dyn Fn(&str) -> String| {
        [
            at(&format!(
                "{IP} link add link tagged name inner type vlan id 6"
            )),
            at(&format!("{IP} addr add {address}/24 dev inner")),
            at(&format!("{IP} link set inner up")),
        ]
        .join("\n")
    };
    script(vm, &end("192.168.10.1", &str::to_owned))?;
    script(vm, &end("192.168.10.2", &|command| Wire::at_peer(command)))?;
    crate::net::ping(vm, "192.168.10.2", "-s 1000")?;
    let at_peer = Wire::at_peer(&format!("{IP} link del inner"));
    script(vm, &format!("{IP} link del inner; {at_peer}")).map(drop)
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
