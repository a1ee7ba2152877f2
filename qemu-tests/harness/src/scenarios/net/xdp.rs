// SPDX-License-Identifier: GPL-2.0

//! XDP: programs that see received frames before the stack does. The peer asks, and who answers depends on
//! the program.

use anyhow::Result;

use crate::failure::expect;
use crate::image::XDP;
use crate::net::{self, Wire, IP, TRANSFER, WIRE_ADDRESS, WIRE_MAC};
use crate::scenarios::Context;
use crate::storage::script;
use crate::vm::Vm;

/// Questions of one test.
const PINGS: u64 = 10;

const COUNTERS: [&str; 4] = ["xdp_drop", "xdp_tx", "xdp_redirect", "xdp_xmit"];

/// What all queues together have counted, for each of the counters.
fn counted(vm: &Vm, name: &str) -> Result<[u64; COUNTERS.len()]> {
    let statistics = script(vm, &format!("ethtool -S {name}"))?;
    let of_queues: Vec<_> = statistics
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(name, _)| name.contains("_queue_"))
        .collect();
    Ok(COUNTERS.map(|counter| {
        let suffix = format!("_{counter}");
        let of_counter = of_queues.iter().filter(|(name, _)| name.ends_with(&suffix));
        of_counter
            .filter_map(|(_, value)| value.parse::<u64>().ok())
            .sum()
    }))
}

/// What they have sent back.
fn sent_back(vm: &Vm, name: &str) -> Result<u64> {
    let [_, sent, ..] = counted(vm, name)?;
    Ok(sent)
}

/// Questions that the stack has seen.
fn seen(vm: &Vm) -> Result<u64> {
    let found = script(
        vm,
        "awk '/^Icmp:/ { if (n++) print $10; else if ($10 != \"InEchos\") exit 1 }' /proc/net/snmp",
    )?;
    Ok(found.trim().parse()?)
}

/// Let a program see the frames.
fn attach(vm: &Vm, name: &str, program: &str) -> Result<()> {
    let section = if program.ends_with("-frags") {
        "xdp.frags"
    } else {
        "xdp"
    };
    script(
        vm,
        &format!(
            "{IP} -force link set dev {name} xdpdrv obj {XDP}/{program}.o sec {section}
             {IP} -d link show dev {name} | grep -q 'prog/xdp'"
        ),
    )
    .map(drop)
}

fn detach(vm: &Vm, name: &str) -> Result<()> {
    script(vm, &format!("{IP} link set dev {name} xdpdrv off")).map(drop)
}

/// How many of the peer's questions were answered.
fn asked(vm: &Vm, size: u32) -> Result<u64> {
    asked_at(vm, WIRE_ADDRESS, size)
}

fn asked_at(vm: &Vm, whom: &str, size: u32) -> Result<u64> {
    let ping = Wire::at_peer(&format!("ping -c {PINGS} -i 0.1 -W 1 -s {size} {whom}"));
    let done = vm.try_exec(&["sh", "-c", &ping])?;
    Ok(done.stdout.matches("bytes from").count() as u64)
}

/// What a program makes of questions: how many are answered, how many the stack sees, and what is counted
/// for each of them.
struct Case {
    program: &'static str,
    answered: bool,
    seen: bool,
    counters: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case {
        program: "pass",
        answered: true,
        seen: true,
        counters: &[],
    },
    Case {
        program: "drop",
        answered: false,
        seen: false,
        counters: &["xdp_drop"],
    },
    Case {
        program: "tx",
        answered: true,
        seen: false,
        counters: &["xdp_tx"],
    },
    Case {
        program: "redirect",
        answered: true,
        seen: false,
        counters: &["xdp_redirect", "xdp_xmit"],
    },
    Case {
        program: "abort",
        answered: false,
        seen: false,
        counters: &["xdp_drop"],
    },
    Case {
        program: "unknown",
        answered: false,
        seen: false,
        counters: &["xdp_drop"],
    },
];

impl Case {
    fn run(&self, vm: &Vm, name: &str, suffix: &str, size: u32) -> Result<()> {
        let program = format!("{}{suffix}", self.program);
        let all = |yes: bool| if yes { PINGS } else { 0 };
        attach(vm, name, &program)?;
        let (before, seen_before) = (counted(vm, name)?, seen(vm)?);
        let answered = asked(vm, size)?;
        let (after, seen) = (counted(vm, name)?, seen(vm)? - seen_before);
        let what = format!("{program}, frames of {size} bytes");
        expect(
            answered == all(self.answered),
            format!("{what}: {} answers", all(self.answered)),
            answered,
        )?;
        expect(
            seen == all(self.seen),
            format!("{what}: the stack to see {}", all(self.seen)),
            seen,
        )?;
        for ((counter, before), after) in COUNTERS.iter().zip(before).zip(after) {
            let wanted = all(self.counters.contains(counter));
            expect(
                after - before == wanted,
                format!("{what}: {wanted} more {counter}"),
                after - before,
            )?;
        }
        Ok(())
    }
}

/// A tag is beside the frame on VMBus: the program does not see it, and the answer has it all the same.
fn keeps_tag(vm: &Vm, wire: &Wire<'_>, program: &str) -> Result<()> {
    let peer = &wire.peer;
    let at_peer = |command: &str| Wire::at_peer(&format!("{IP} {command}"));
    let commands = [
        at_peer(&format!("link add link {peer} name tagged type vlan id 5")),
        at_peer("addr add 192.168.8.2/24 dev tagged"),
        at_peer("link set tagged up"),
        at_peer(&format!(
            "neigh replace 192.168.8.1 lladdr {WIRE_MAC} dev tagged"
        )),
    ];
    script(vm, &commands.join("\n"))?;
    attach(vm, &wire.name, program)?;
    let sent = sent_back(vm, &wire.name)?;
    // the answer has to come in there: the address is good for every interface
    let answered = asked_at(vm, "-I tagged 192.168.8.1", 1000)?;
    let sent = sent_back(vm, &wire.name)? - sent;
    script(vm, &at_peer("link del tagged"))?;
    expect(
        (answered, sent) == (PINGS, PINGS),
        format!("{program}: {PINGS} tagged frames sent back with their tags"),
        format!("{sent} sent back, {answered} answers"),
    )
}

/// Both ends.
fn set_mtu(vm: &Vm, wire: &Wire<'_>, mtu: u32) -> Result<()> {
    let at_peer = Wire::at_peer(&format!("{IP} link set {} mtu {mtu}", wire.peer));
    script(
        vm,
        &format!("{IP} link set {} mtu {mtu}\n{at_peer}", wire.name),
    )?;
    net::wait_carrier(vm, &wire.name, true)?;
    wire.ping("")
}

/// Bytes arrive as they were sent under a program that lets them pass; it comes and goes meanwhile.
fn under_load(vm: &Vm, wire: &Wire<'_>, program: &str) -> Result<()> {
    attach(vm, &wire.name, program)?;
    for options in ["-t 1", "-t 1 -R"] {
        wire.load("load", options)?.expect_success(TRANSFER)?;
    }
    let load = wire.stream()?;
    for _ in 0..10 {
        detach(vm, &wire.name)?;
        attach(vm, &wire.name, program)?;
    }
    load.stop()
}

/// A program that moves the ends of frames beyond all measure: nothing is sure but that all goes on.
fn edges(vm: &Vm, wire: &Wire<'_>, program: &str, size: u32) -> Result<()> {
    attach(vm, &wire.name, program)?;
    let flood = Wire::at_peer(&format!(
        "ping -q -c 1000 -i 0.002 -W 1 -s {size} {WIRE_ADDRESS} || true"
    ));
    script(vm, &flood)?;
    detach(vm, &wire.name)?;
    let answered = asked(vm, size)?;
    expect(
        answered == PINGS,
        format!("{PINGS} answers after {program}"),
        answered,
    )
}

/// What a program for frames in one piece cannot have.
fn one_piece_only(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    let name = &wire.name;
    attach(vm, name, "pass")?;
    let larger = vm.try_exec(&["sh", "-c", &format!("{IP} link set {name} mtu 9000")])?;
    expect(larger.status != 0, "an MTU of 9000 refused", larger.stderr)?;
    wire.ping("")?;
    detach(vm, name)?;
    set_mtu(vm, wire, 9000)?;
    let refused = format!("{IP} link set dev {name} xdpdrv obj {XDP}/pass.o sec xdp");
    let refused = vm.try_exec(&["sh", "-c", &refused])?;
    expect(
        refused.status != 0,
        "a program for one piece refused at MTU 9000",
        refused.stderr,
    )
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    let name = &wire.name;
    wire.serve()?;
    wire.ping("")?;

    for case in CASES {
        case.run(vm, name, "", 56)?;
        case.run(vm, name, "", 1400)?;
    }
    keeps_tag(vm, &wire, "tx")?;
    under_load(vm, &wire, "pass")?;
    edges(vm, &wire, "edges", 1000)?;
    edges(vm, &wire, "edges", 56)?;

    // C: by its source, frames in one piece only
    if vm.core.has_rust_drivers() {
        one_piece_only(vm, &wire)?;
        for case in CASES {
            case.run(vm, name, "-frags", 56)?;
            case.run(vm, name, "-frags", 8900)?;
        }
        keeps_tag(vm, &wire, "tx-frags")?;
        under_load(vm, &wire, "pass-frags")?;
        edges(vm, &wire, "edges-frags", 8900)?;
        set_mtu(vm, &wire, 1500)?;
    }
    wire.ping("-s 1400")
}
