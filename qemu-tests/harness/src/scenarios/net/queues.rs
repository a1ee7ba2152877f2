// SPDX-License-Identifier: GPL-2.0

//! Four channels: each sends and receives, the table of receive-side scaling says which, and their
//! number changes under load.

use anyhow::{Context as _, Result};

use crate::failure::expect;
use crate::net::{self, Wire, IP, TRANSFER, WIRE, WIRE_QUEUES};
use crate::scenarios::Context;
use crate::storage::{channels, script};
use crate::vm::Vm;

/// What each queue has sent, or received.
fn packets(vm: &Vm, name: &str, direction: &str) -> Result<Vec<u64>> {
    let statistics = script(vm, &format!("ethtool -S {name}"))?;
    (0..WIRE_QUEUES)
        .map(|n| net::driver_statistic(&statistics, &format!("{direction}_queue_{n}_packets")))
        .collect()
}

/// What each queue has received while many connections were served.
fn received(vm: &Vm, wire: &Wire<'_>) -> Result<Vec<u64>> {
    let before = packets(vm, &wire.name, "rx")?;
    wire.load("load", &format!("{} -R", flows(vm)))?
        .expect_success(TRANSFER)?;
    let after = packets(vm, &wire.name, "rx")?;
    Ok(after.iter().zip(before).map(|(a, b)| a - b).collect())
}

/// What each queue has sent meanwhile.
fn sent(vm: &Vm, wire: &Wire<'_>) -> Result<Vec<u64>> {
    let before = packets(vm, &wire.name, "tx")?;
    wire.load("load", flows(vm))?.expect_success(TRANSFER)?;
    let after = packets(vm, &wire.name, "tx")?;
    Ok(after.iter().zip(before).map(|(a, b)| a - b).collect())
}

/// Where ports do not count, all connections with one address are sent by one queue.
fn without_ports(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    let name = &wire.name;
    let counted = |wanted: bool| {
        let said = script(vm, &format!("ethtool -n {name} rx-flow-hash tcp4"))?;
        expect(
            said.contains("L4 bytes") == wanted,
            format!("ports of TCP that count: {wanted}"),
            said.trim(),
        )
    };
    counted(true)?;
    script(vm, &format!("ethtool -N {name} rx-flow-hash tcp4 sd"))?;
    counted(false)?;
    let found = sent(vm, wire)?;
    let most = found.iter().copied().max().unwrap_or_default();
    let others = found.iter().sum::<u64>() - most;
    expect(
        most > 100 && others < most / 10,
        "one queue that sends",
        format!("{found:?} packets"),
    )?;
    script(
        vm,
        &format!(
            "for refused in 'sctp4 sd' 'tcp4 m'; do
                 ethtool -N {name} rx-flow-hash $refused 2> /dev/null && exit 1
             done
             ethtool -N {name} rx-flow-hash tcp4 sdfn"
        ),
    )?;
    counted(true)?;
    expect_all(&self::sent(vm, wire)?, "send again")
}

/// So many that each queue has some; iperf3 waits 10 s at most for what the other end says of all of them.
fn flows(vm: &Vm) -> &'static str {
    if vm.is_slow() {
        "-t 1 -P 24"
    } else {
        "-t 1 -P 40"
    }
}

/// All queues have their share.
fn expect_all(found: &[u64], what: &str) -> Result<()> {
    expect(
        found.iter().all(|n| *n > 20),
        format!("every queue to {what}"),
        format!("{found:?} packets"),
    )
}

/// Nearly all went to one queue; there is more traffic than the test's.
fn expect_only(found: &[u64], queue: usize) -> Result<()> {
    let others: u64 = found.iter().sum::<u64>() - found[queue];
    expect(
        found[queue] > 100 && others < found[queue] / 10,
        format!("what comes to go to queue {queue}"),
        format!("{found:?} packets"),
    )
}

/// Ask for this many channels, and wait for them.
fn set_channels(vm: &Vm, name: &str, count: usize) -> Result<()> {
    script(vm, &format!("ethtool -L {name} combined {count}"))?;
    vm.wait_until(TRANSFER, &format!("{count} channels"), || {
        let there = channels(vm, WIRE)?.len();
        Ok(if there == count {
            Ok(())
        } else {
            Err(format!("{there} channels"))
        })
    })
}

/// Queues as the netlink family `netdev` names them, with what each has received and sent, as `ethtool -S` has it.
fn by_ethtool(vm: &Vm, name: &str, queues: usize) -> Result<Vec<(String, [Option<u64>; 4])>> {
    let said = script(vm, &format!("ethtool -S {name}"))?;
    let of = |way: &str, queue: usize, what: &str| {
        net::driver_statistic(&said, &format!("{way}_queue_{queue}_{what}")).map(Some)
    };
    let mut found = Vec::new();
    for queue in 0..queues {
        let [packets, bytes] = [of("rx", queue, "packets")?, of("rx", queue, "bytes")?];
        found.push((format!("rx {queue}"), [packets, bytes, None, None]));
        let [packets, bytes] = [of("tx", queue, "packets")?, of("tx", queue, "bytes")?];
        found.push((format!("tx {queue}"), [None, None, packets, bytes]));
    }
    Ok(found)
}

/// What netlink tells of each queue that is used, and of all, lies between what others tell before and after.
fn netlink_agrees(vm: &Vm, name: &str, queues: usize) -> Result<()> {
    let totals = || -> Result<[Option<u64>; 4]> {
        let mut found = [None; 4];
        let counters = ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"];
        for (value, counter) in found.iter_mut().zip(counters) {
            *value = Some(net::statistic(vm, name, counter)?);
        }
        Ok(found)
    };
    // the host answers for a new number of channels, and a work item makes it that of the queues
    vm.wait_until(
        TRANSFER,
        &format!("{queues} queues each way, and all"),
        || {
            let told = vm.queue_statistics(name)?;
            Ok(if told.len() == 2 * queues + 1 {
                Ok(())
            } else {
                Err(format!("{:?}", told.keys()))
            })
        },
    )?;
    let all_before = totals()?;
    let before = by_ethtool(vm, name, queues)?;
    let told = vm.queue_statistics(name)?;
    let after = by_ethtool(vm, name, queues)?;
    let all_after = totals()?;
    expect(
        told.len() == 2 * queues + 1,
        format!("{queues} queues each way by netlink, and all"),
        format!("{told:?}"),
    )?;
    let mut expected: Vec<_> = before
        .into_iter()
        .zip(after)
        .map(|((queue, from), (_, to))| (queue, from, to))
        .collect();
    expected.push(("all".to_owned(), all_before, all_after));
    for (queue, from, to) in expected {
        let found = told.get(&queue).copied().unwrap_or_default();
        expect(
            (0..4).all(|i| from[i] <= found[i] && found[i] <= to[i]),
            format!("{queue} by netlink between {from:?} and {to:?}"),
            format!("{found:?}"),
        )?;
    }
    Ok(())
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    let name = wire.name.clone();
    wire.serve()?;
    set_channels(vm, &name, WIRE_QUEUES)?;
    script(vm, &format!("ethtool -X {name} equal {WIRE_QUEUES}"))?;

    let sent = sent(vm, &wire)?;
    expect_all(&sent, "send")?;
    without_ports(vm, &wire)?;
    let spread = received(vm, &wire)?;
    expect_all(&spread, "receive")?;

    // the table decides
    script(vm, &format!("ethtool -X {name} weight 0 0 1 0"))?;
    expect_only(&received(vm, &wire)?, 2)?;
    // and so does the key: with this one, all hashes are 0
    script(vm, &format!("ethtool -X {name} equal {WIRE_QUEUES}"))?;
    let table = script(vm, &format!("ethtool -x {name}"))?;
    let key = table
        .lines()
        .map(str::trim)
        .find(|line| line.matches(':').count() == 39)
        .context("no hash key of 40 bytes")?
        .to_owned();
    let zeroes = vec!["00"; 40].join(":");
    script(vm, &format!("ethtool -X {name} hkey {zeroes}"))?;
    expect_only(&received(vm, &wire)?, 0)?;
    script(vm, &format!("ethtool -X {name} hkey {key}"))?;
    expect_all(&received(vm, &wire)?, "receive again")?;

    // C has none of these numbers
    let tells_netlink = vm.core.has_rust_drivers();
    if tells_netlink {
        netlink_agrees(vm, &name, WIRE_QUEUES)?;
    }

    // a table that somebody has made forbids fewer channels
    script(vm, &format!("ethtool -X {name} default"))?;
    let load = wire.stream()?;
    for count in [1, 4, 2, 4] {
        set_channels(vm, &name, count)?;
        load.expect_flow()?;
        if tells_netlink {
            netlink_agrees(vm, &name, count)?;
        }
    }
    load.stop()?;
    // what is the default for two is not for four; with C, the first one has everything then
    if vm.core.has_rust_drivers() {
        set_channels(vm, &name, 2)?;
        script(vm, &format!("ethtool -X {name} default"))?;
        set_channels(vm, &name, 4)?;
        expect_all(&received(vm, &wire)?, "receive by default")?;
    }
    script(vm, &format!("{IP} link set {name} up"))?;
    wire.ping("")?;
    cx.figures
        .push_str(&format!("sent by queue {sent:?}, received {spread:?}"));
    Ok(())
}
