// SPDX-License-Identifier: GPL-2.0

//! A host that agrees on less when the adapter is connected anew, and on all of it again: the stack is told, what is
//! left to the host is what it does, and no frame is longer than it takes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::tcp::{copy, here};
use crate::failure::{expect, unmet};
use crate::machine::{text, Machine};
use crate::net::{Wire, IP, PEER_ADDRESS, PEER_ADDRESS6, TRANSFER};
use crate::scenarios::Context;
use crate::storage::{script, Job};
use crate::vm::Vm;

/// Of an answer to a query (0x80000004), 16 is the length of the value, which begins at 24. In that of 156 bytes, which
/// says what the host does, checksums are at 8 (IPv4) and 24 (IPv6), the most that is segmented at 84 and 96, and
/// coalescing at 144 and 145. The longest frame is a number.
///
/// The first connection has no coalescing, the second one all, the third one nothing and frames of 4000 bytes at most,
/// the fourth, sixth and eighth one all, but the host segments packets of 8192 bytes at most. The fifth one is told of
/// its sub-channels late; all behind it are promised a thousand of them. From the tenth one on every second one has
/// nothing.
const SCRIPT: &str = "\
    on buffer op=0x80000004 u32@16=156 nth=1 do u16 168 0\n\
    on buffer op=0x80000004 u32@16=156 nth=3 do u32 32 0 ; u32 48 0 ; u16 168 0\n\
    on buffer op=0x80000004 u32@16=4 u32@24=9000 nth=2 do u32 24 4000\n\
    on buffer op=0x80000004 u32@16=156 nth=4 do u32 108 8192 ; u32 120 8192\n\
    on buffer op=0x80000004 u32@16=156 nth=6 do u32 108 8192 ; u32 120 8192\n\
    on buffer op=0x80000004 u32@16=156 nth=8 do u32 108 8192 ; u32 120 8192\n\
    on send type=11 op=133 nth=5 do delay 4000\n\
    on send type=11 op=133 from=6 do u32 8 1000\n\
    on buffer op=0x80000004 u32@16=156 every=2 from=10 do u32 32 0 ; u32 48 0\n";

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-terms",
    files: &[text("terms", SCRIPT)],
    devices: &[
        "-device vmbus-bridge",
        "-netdev hubport,id=wire,hubid=1",
        "-device hv-net,id=wire,netdev=wire,rsc=on,num-queues=2,mac=52:54:00:00:10:02,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1002,fault-script=@/terms",
        "-netdev hubport,id=peer,hubid=1",
        "-device e1000e,netdev=peer,romfile=,mac=52:54:00:00:10:03",
    ],
    ..super::coalesce::MACHINE
};

const LONG: u32 = 9000;
const SHORT: u32 = 4000;
/// Most that the host segments where it segments less, and with a frame's header.
const LESS_SEGMENTED: u32 = 8192;
const MOST_SEGMENTED: u32 = LESS_SEGMENTED + 14;
/// What an administrator makes of the stack's limit: more than that, and less.
const SET_LONG: u32 = 10_000;
const SET_SHORT: u32 = 6000;
const SET_IPV4: u32 = 5000;
const KIB: u32 = 512;
/// Of an Ethernet that has none of its own, and when the stack is to have been told of it.
const STANDARD: u32 = 1500;
const TOLD: Duration = Duration::from_millis(1500);
/// Connections under load, pauses in between, and the most that all of it takes, in seconds.
const CHANGES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(300);
const LOAD: u32 = 120;
/// How long the driver waits for sub-channels that were promised.
const COME: Duration = Duration::from_secs(2);

/// What the host has a say in, as `ethtool -k` names it.
const OFFLOADS: [&str; 5] = [
    "tx-checksum-ipv4",
    "tx-checksum-ipv6",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "large-receive-offload",
];

fn expect_features(vm: &Vm, name: &str, wanted: [bool; 5]) -> Result<()> {
    let features = script(vm, &format!("ethtool -k {name}"))?;
    for (feature, on) in OFFLOADS.into_iter().zip(wanted) {
        let line = format!("{feature}: {}", if on { "on" } else { "off" });
        expect(features.contains(&line), line, features.trim())?;
    }
    Ok(())
}

fn expect_mtu(vm: &Vm, name: &str, wanted: u32) -> Result<()> {
    let found = script(vm, &format!("cat /sys/class/net/{name}/mtu"))?;
    expect(
        found.trim() == wanted.to_string(),
        format!("an MTU of {wanted}"),
        found.trim(),
    )
}

/// A number that `ip` shows of a device.
fn shown(vm: &Vm, name: &str, number: &str) -> Result<u32> {
    let link = script(vm, &format!("{IP} -d link show dev {name}"))?;
    let mut words = link.split_whitespace().skip_while(|word| *word != number);
    let found = words.nth(1).and_then(|found| found.parse().ok());
    found.ok_or_else(|| unmet(format!("a number '{number}'"), link.trim()))
}

/// How long packets are at most that the stack leaves to the host to segment: all, and those of IPv4.
fn expect_packets(vm: &Vm, name: &str, wanted: [u32; 2]) -> Result<()> {
    let found = [
        shown(vm, name, "gso_max_size")?,
        shown(vm, name, "gso_ipv4_max_size")?,
    ];
    expect(
        found == wanted,
        format!("packets of {wanted:?} bytes at most"),
        format!("{found:?}"),
    )
}

/// Lines that say that another connection has agreed on less, or more.
fn told(vm: &Vm, what: &str) -> Result<Vec<String>> {
    let line = format!("the host agrees on {what} than before");
    let log = vm.dmesg()?;
    Ok(log
        .lines()
        .filter_map(|l| l.split_once(&line).map(|(_, rest)| rest.trim().to_owned()))
        .collect())
}

fn expect_told(vm: &Vm, what: &str, wanted: &[&str]) -> Result<()> {
    let found = told(vm, what)?;
    expect(
        found == wanted,
        format!("of {what}: {wanted:?}"),
        format!("{found:?}"),
    )
}

/// A frame as the host has got it.
struct Frame {
    len: u32,
    /// The host is to fill in a checksum, or to segment it.
    offloaded: bool,
    segmented: bool,
}

/// Frames that bring bytes to the other end, by IPv4 and IPv6, where they arrive as they were sent.
fn sent(vm: &Vm) -> Result<Vec<Frame>> {
    frames_of(vm, || {
        for peer in [PEER_ADDRESS, PEER_ADDRESS6] {
            copy(vm, here, Wire::at_peer, peer)?;
        }
        Ok(())
    })
}

/// Frames that the host gets meanwhile; of its last connection, if there is another one.
fn frames_of(vm: &Vm, load: impl FnOnce() -> Result<()>) -> Result<Vec<Frame>> {
    let trace = |on: bool| {
        for name in ["hv_net_initialize", "hv_net_transmit"] {
            let event = json!({ "name": name, "enable": on });
            vm.qmp("trace-event-set-state", &event)?;
        }
        anyhow::Ok(())
    };
    let start = vm.host.len();
    trace(true)?;
    load()?;
    trace(false)?;
    let lines = vm.host.since(start);
    let last = lines
        .rsplit(|line| line.contains("hv_net_initialize"))
        .next();
    Ok(last
        .into_iter()
        .flatten()
        .filter_map(|l| frame(l))
        .collect())
}

/// What a line of the trace says of a frame.
fn frame(line: &str) -> Option<Frame> {
    let words: Vec<&str> = line
        .split_once("hv_net_transmit")?
        .1
        .split_whitespace()
        .collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    Some(Frame {
        len: after("len")?.parse().ok()?,
        offloaded: after("csum")? != "0x0" || after("lso")? != "0x0",
        segmented: after("lso")? != "0x0",
    })
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    let (name, peer) = (&wire.name, &wire.peer);
    script(
        vm,
        &format!("dd if=/dev/urandom of=/tmp/data bs=1k count={KIB} 2>/dev/null"),
    )?;
    expect_features(vm, name, [true, true, true, true, false])?;

    // more than before
    script(
        vm,
        &Wire::at_peer(&format!("{IP} link set {peer} mtu {LONG}")),
    )?;
    script(vm, &format!("{IP} link set {name} mtu {LONG}"))?;
    // A router, for one, has switched off before what there was not: it does not come by itself.
    expect_features(vm, name, [true, true, true, true, false])?;
    script(vm, &format!("ethtool -K {name} lro on"))?;
    expect_features(vm, name, [true; 5])?;
    expect_mtu(vm, name, LONG)?;
    wire.ping(&format!("-s {}", LONG - 28))?;

    // nothing, and shorter frames
    script(vm, &format!("ethtool -G {name} rx 1000"))?;
    expect_features(vm, name, [false; 5])?;
    expect_mtu(vm, name, SHORT)?;
    wire.ping(&format!("-s {}", LONG - 28))?;
    let frames = sent(vm)?;
    let (longest, left) = (
        frames.iter().map(|f| f.len).max().unwrap_or_default(),
        frames.iter().filter(|f| f.offloaded).count(),
    );
    expect(
        left == 0 && (1400..=SHORT + 14).contains(&longest),
        format!(
            "frames of {} bytes at most of which nothing is left to the host",
            SHORT + 14
        ),
        format!("{longest} bytes, {left} of {} frames", frames.len()),
    )?;

    // all again, but less is segmented
    script(vm, &format!("ethtool -G {name} rx 2000"))?;
    expect_features(vm, name, [true; 5])?;
    expect_mtu(vm, name, SHORT)?;
    wire.ping("")?;
    let frames = sent(vm)?;
    let (longest, segmented) = (
        frames.iter().map(|f| f.len).max().unwrap_or_default(),
        frames.iter().filter(|f| f.segmented).count(),
    );
    expect(
        segmented > 0 && (SHORT + 14..=MOST_SEGMENTED).contains(&longest),
        format!("frames that the host segments, of {MOST_SEGMENTED} bytes at most"),
        format!("{longest} bytes, {segmented} of {} frames", frames.len()),
    )?;
    script(vm, &format!("{IP} link set {name} mtu {LONG}"))?;
    expect_mtu(vm, name, LONG)?;
    wire.ping(&format!("-s {}", LONG - 28))?;
    no_longer_than_told(vm, &wire)?;

    // as much as ever is segmented; how long packets are depends on how fast the guest is
    let most = shown(vm, name, "gso_max_size")?;
    expect(
        most > MOST_SEGMENTED,
        format!("packets of more than {MOST_SEGMENTED} bytes"),
        most,
    )?;
    script(vm, "rm /tmp/data")?;

    let sums =
        |ip: &str| format!("checksums of TCP ({ip}), checksums of UDP ({ip}), segmentation ({ip})");
    let all = format!("{}, {}, coalesced packets", sums("IPv4"), sums("IPv6"));
    let less = format!(", without {all}, frames of more than {SHORT} bytes");
    expect_told(vm, "less", &[&less])?;
    expect_told(
        vm,
        "more",
        &[
            ", with coalesced packets",
            &format!(", with {all}"),
            ", with segmentation of more than 8192 bytes",
        ],
    )?;
    // the lines that follow are limited
    what_was_set_stays(vm, name, most)?;
    nothing_of_before(vm, &wire)
}

/// Shorter frames are asked for. They are it as soon as the host knows, also while it is late with sub-channels.
fn no_longer_than_told(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    // its answers are not to be longer, either
    let peer = Wire::at_peer(&format!("{IP} link set {} mtu {STANDARD}", wire.peer));
    script(vm, &peer)?;
    let change = format!("{IP} link set {} mtu {STANDARD}", wire.name);
    let change = Job::start(vm, "change", &change)?;
    sleep(TOLD);
    // IPv6 has an MTU of its own for each device
    let pings = format!(
        "for peer in {PEER_ADDRESS} {PEER_ADDRESS6}; do
             ping -c 3 -i 0.1 -W 1 -s {} $peer || true
         done",
        LONG - 48
    );
    let frames = frames_of(vm, || {
        change.expect_running()?;
        script(vm, &pings).map(drop)
    })?;
    change.expect_success(TRANSFER)?;
    expect_mtu(vm, &wire.name, STANDARD)?;
    let longest = frames.iter().map(|f| f.len).max().unwrap_or_default();
    expect(
        longest == STANDARD + 14,
        format!("frames of {} bytes at most", STANDARD + 14),
        format!("{longest} bytes, of {} frames", frames.len()),
    )
}

/// How long packets are at most is as an administrator has set it wherever the host segments as much, by turns; in the
/// end it is as it was.
fn what_was_set_stays(vm: &Vm, name: &str, most: u32) -> Result<()> {
    let set = |limit: &str, bytes: u32| {
        script(vm, &format!("{IP} link set {name} {limit} {bytes}")).map(drop)
    };
    let next = |sections: u32, wanted: [u32; 2]| {
        script(vm, &format!("ethtool -G {name} rx {sections}"))?;
        expect_packets(vm, name, wanted)
    };
    set("gso_max_size", SET_LONG)?;
    next(1000, [LESS_SEGMENTED; 2])?;
    next(2000, [SET_LONG; 2])?;
    set("gso_ipv4_max_size", SET_IPV4)?;
    next(1000, [LESS_SEGMENTED, SET_IPV4])?;
    // this is of both
    set("gso_max_size", SET_SHORT)?;
    next(2000, [SET_SHORT; 2])?;
    set("gso_max_size", most)
}

/// What the stack had ready for a host that segments does not go to one that does not. And nobody waits for more
/// sub-channels than were asked for.
fn nothing_of_before(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    wire.serve()?;
    let load = wire.load("load", &format!("-t {LOAD} -P 4"))?;
    sleep(TOLD);
    let (mut without, mut seen, mut segmented, mut quickest) = (0, 0, 0, COME);
    for n in 0..CHANGES {
        let change = format!("ethtool -G {} rx {}", wire.name, 1000 + 500 * (n % 2));
        let frames = frames_of(vm, || {
            let start = Instant::now();
            script(vm, &change)?;
            quickest = quickest.min(start.elapsed());
            sleep(PAUSE);
            Ok(())
        })?;
        let features = script(vm, &format!("ethtool -k {}", wire.name))?;
        if features.contains("tx-tcp-segmentation: off") {
            without += 1;
            seen += frames.len();
            segmented += frames.iter().filter(|f| f.segmented).count();
        }
    }
    load.expect_running()?;
    script(vm, "killall -9 iperf3; rm -f /tmp/iperf3.pid")?;
    load.wait(TRANSFER)?;
    expect(
        without == CHANGES / 2,
        format!("{} connections without segmentation", CHANGES / 2),
        without,
    )?;
    expect(
        quickest < COME,
        format!("a change in less than {COME:?}"),
        "none",
    )?;
    // a change may be over before TCP sends again: not each of them has some
    expect(
        seen > 0 && segmented == 0,
        "frames of the load, none of them for such a host to segment",
        format!("{segmented} of {seen}"),
    )
}
