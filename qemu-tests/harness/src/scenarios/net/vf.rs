// SPDX-License-Identifier: GPL-2.0

//! A virtual function beside the adapter: a card of QEMU with the same address, in the PCI slot that the host
//! names. The other end is a bridge with a port on each way, which learns from what it gets, as the switch of a
//! real host is told: what comes back comes the way the guest has sent.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::drivers::Core;
use crate::failure::expect;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::net::{self, driver_statistic, Wire, IP, PEER, PEER_ADDRESS, PEER_MAC, WIRE, WIRE_MAC};
use crate::scenarios::Context;
use crate::storage::{self, script};
use crate::vm::Vm;

/// Says, half a second after the send buffer is agreed on, that the function with the serial number 7 is there.
const SCRIPT: &str =
    "on send type=11 reqop=104 do inject 6 0 80000000010000000700000000000000 500\n";

/// The second port of the other end.
const PORT_MAC: &str = "52:54:00:00:10:04";

pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-vf",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[text("association", SCRIPT)],
    devices: &[
        "-device vmbus-bridge",
        "-netdev hubport,id=wire,hubid=1",
        "-device hv-net,id=wire,netdev=wire,num-queues=2,mac=52:54:00:00:10:02,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1002,fault-script=@/association",
        "-netdev hubport,id=peer,hubid=1",
        "-device e1000e,netdev=peer,romfile=,mac=52:54:00:00:10:03",
        // The names of slots are those of the ports, not of ACPI.
        "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
        "-device pcie-root-port,id=slot7,slot=7,chassis=1",
        "-netdev hubport,id=vfnet,hubid=2",
        "-device e1000e,id=vf,bus=slot7,netdev=vfnet,romfile=,mac=52:54:00:00:10:02",
        "-netdev hubport,id=port,hubid=2",
        "-device e1000e,netdev=port,romfile=,mac=52:54:00:00:10:04",
    ],
};

/// A card that is to go is looked after 5 s later; and then there is what the guest does.
const CHANGES: Duration = Duration::from_secs(60);
const PINGS: u64 = 5;

/// Makes the other end, unless it is there.
pub(super) fn make_peer(vm: &Vm) -> Result<()> {
    for module in ["e1000e", "bridge"] {
        vm.exec(&["modprobe", module])?;
    }
    if script(vm, &format!("{IP} netns list"))?.contains(PEER) {
        return Ok(());
    }
    let mut commands = vec![
        format!("{IP} netns add {PEER}"),
        Wire::at_peer(&format!("{IP} link set lo up")),
        Wire::at_peer(&format!("{IP} link add br0 type bridge")),
    ];
    for mac in [PEER_MAC, PORT_MAC] {
        let port = vm.wait_until(CHANGES, &format!("a port with {mac}"), || {
            let found = script(vm, &net::by_mac(mac))?;
            Ok(match found.trim() {
                "" => Err("no such interface".into()),
                name => Ok(name.to_owned()),
            })
        })?;
        commands.extend([
            format!("{IP} link set {port} netns {PEER}"),
            Wire::at_peer(&format!("{IP} link set {port} master br0")),
            Wire::at_peer(&format!("{IP} link set {port} up")),
        ]);
    }
    commands.extend([
        Wire::at_peer(&format!("{IP} link set br0 address {PEER_MAC}")),
        Wire::at_peer(&format!("{IP} link set br0 up")),
    ]);
    script(vm, &commands.join("\n")).map(drop)
}

/// The card that is joined to an interface.
fn lower(vm: &Vm, name: &str) -> Result<Option<String>> {
    let files = vm.list(&format!("/sys/class/net/{name}"))?;
    Ok(files
        .iter()
        .find_map(|file| file.strip_prefix("lower_").map(str::to_owned)))
}

/// Waits until one is; gives its name.
pub(super) fn wait_joined(vm: &Vm, name: &str) -> Result<String> {
    vm.wait_until(CHANGES, &format!("a card joined to {name}"), || {
        Ok(lower(vm, name)?.ok_or_else(|| "none".into()))
    })
}

fn wait_left(vm: &Vm, name: &str) -> Result<()> {
    vm.wait_until(CHANGES, &format!("no card joined to {name}"), || {
        Ok(lower(vm, name)?.map_or(Ok(()), Err))
    })
}

/// What went by the function: sent, received.
fn by_function(vm: &Vm, name: &str) -> Result<[u64; 2]> {
    let said = script(vm, &format!("ethtool -S {name}"))?;
    Ok([
        driver_statistic(&said, "vf_tx_packets")?,
        driver_statistic(&said, "vf_rx_packets")?,
    ])
}

/// Waits until questions and answers go by the function, or neither does; then all are answered.
pub(super) fn wait_path(vm: &Vm, wire: &Wire<'_>, function: bool) -> Result<()> {
    let what = format!("frames by the function: {function}");
    let ask = format!("ping -c {PINGS} -i 0.05 -W 1 {PEER_ADDRESS}");
    vm.wait_until(CHANGES, &what, || {
        let before = by_function(vm, &wire.name)?;
        let said = vm.try_exec(&["sh", "-c", &ask])?;
        let after = by_function(vm, &wire.name)?;
        let fits = (0..2).all(|way| (after[way] - before[way] >= PINGS) == function);
        Ok(if fits && said.status == 0 {
            Ok(())
        } else {
            Err(format!("{before:?} before, {after:?} now: {}", said.stdout))
        })
    })?;
    wire.ping("")
}

/// Times that the host was asked for a path.
fn asked(vm: &Vm, path: u32) -> usize {
    let line = format!("active {path}");
    let host = vm.host.since(0);
    host.iter()
        .filter(|l| l.contains("hv_net_data_path") && l.contains(&line))
        .count()
}

fn set_link(vm: &Vm, name: &str, up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    script(vm, &format!("{IP} link set {name} {state}")).map(drop)
}

fn mtu(vm: &Vm, name: &str) -> Result<u32> {
    Ok(vm
        .read(&format!("/sys/class/net/{name}/mtu"))?
        .trim()
        .parse()?)
}

fn is_promiscuous(vm: &Vm, name: &str) -> Result<bool> {
    let flags = vm.read(&format!("/sys/class/net/{name}/flags"))?;
    let flags = flags.trim().trim_start_matches("0x");
    let flags = u32::from_str_radix(flags, 16).context("flags of an interface")?;
    Ok(flags & 0x100 != 0)
}

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    make_peer(vm)?;
    let wire = Wire::connect(vm)?;
    wire_function(vm, &wire)?;
    under_load(vm, &wire)?;
    follows(vm, &wire)?;
    unbound(vm, wire)
}

/// It is joined, used, and what is counted is plausible.
fn wire_function(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    wait_joined(vm, &wire.name)?;
    wait_path(vm, wire, true)?;
    expect(
        asked(vm, 1) >= 1,
        "the host asked to send by the function",
        asked(vm, 1),
    )?;
    let said = script(vm, &format!("ethtool -S {}", wire.name))?;
    let [sent, received] = by_function(vm, &wire.name)?;
    let of_cpus = |counter: &str| -> Result<u64> {
        (0..2).try_fold(0, |sum, cpu| {
            Ok(sum + driver_statistic(&said, &format!("cpu{cpu}_{counter}"))?)
        })
    };
    let [cpus_sent, cpus_received] = [of_cpus("vf_tx_packets")?, of_cpus("vf_rx_packets")?];
    expect(
        cpus_sent > 0 && cpus_sent <= sent && cpus_received > 0 && cpus_received <= received,
        format!("of CPUs at most {sent} sent and {received} received"),
        format!("{cpus_sent}, {cpus_received}"),
    )?;
    let total = net::statistic(vm, &wire.name, "tx_packets")?;
    expect(
        total >= sent,
        format!("{sent} frames among those of the interface"),
        total,
    )
}

/// No connection is lost whatever becomes of the function.
fn under_load(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    wire.serve()?;
    let load = wire.stream()?;

    // its link goes and comes
    net::set_link(vm, "vf", false)?;
    load.expect_flow()?;
    net::set_link(vm, "vf", true)?;
    load.expect_flow()?;
    // the administrator takes it down
    let function = wait_joined(vm, &wire.name)?;
    set_link(vm, &function, false)?;
    load.expect_flow()?;
    let before = asked(vm, 0);
    expect(before >= 1, "the host asked to send by the adapter", before)?;
    set_link(vm, &function, true)?;
    load.expect_flow()?;
    // the host takes it away and gives it back
    for _ in 0..2 {
        storage::unplug(vm, "vf")?;
        wait_left(vm, &wire.name)?;
        load.expect_flow()?;
        let card = json!({
            "driver": "e1000e", "id": "vf", "bus": "slot7", "netdev": "vfnet", "romfile": "",
            "mac": WIRE_MAC,
        });
        vm.plug_when_gone(&card)?;
        wait_joined(vm, &wire.name)?;
        load.expect_flow()?;
    }
    // a new connection with the host
    let function = wait_joined(vm, &wire.name)?;
    for size in [1400, 1500] {
        script(vm, &format!("{IP} link set {} mtu {size}", wire.name))?;
        load.expect_flow()?;
        let found = mtu(vm, &function)?;
        expect(found == size, format!("MTU {size} of {function}"), found)?;
    }
    load.stop()?;
    wait_path(vm, wire, true)
}

/// What is set for the interface is set for the function.
fn follows(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    let name = &wire.name;
    let function = wait_joined(vm, name)?;
    for on in [true, false] {
        let state = if on { "on" } else { "off" };
        script(vm, &format!("{IP} link set {name} promisc {state}"))?;
        let found = is_promiscuous(vm, &function)?;
        expect(found == on, format!("{function} promiscuous: {on}"), found)?;
    }
    let carrier = format!("/sys/class/net/{function}/carrier");
    set_link(vm, name, false)?;
    let down = vm.try_exec(&["cat", &carrier])?;
    expect(down.status != 0, "the function down", down.stdout)?;
    set_link(vm, name, true)?;
    wire.address()?;
    wait_path(vm, wire, true)?;

    // into another namespace and back
    let there = format!("{IP} netns exec elsewhere");
    script(
        vm,
        &format!("{IP} netns add elsewhere; {IP} link set {name} netns elsewhere"),
    )?;
    let lower_there = |namespace: &str| -> Result<()> {
        let list = format!("{namespace} sh -c 'ls -d /sys/class/net/{name}/lower_*'");
        vm.wait_until(CHANGES, "a card that has followed", || {
            let found = vm.try_exec(&["sh", "-c", &list])?;
            Ok(if found.status == 0 {
                Ok(())
            } else {
                Err(found.stderr)
            })
        })
    };
    lower_there(&there)?;
    script(vm, &format!("{there} {IP} link set {name} netns 1"))?;
    lower_there("")?;
    script(vm, &format!("{IP} netns del elsewhere"))?;
    set_link(vm, name, true)?;
    wire.address()?;
    wait_path(vm, wire, true)
}

/// The adapter goes and comes beside a function that stays. One that is up already when the C driver is bound is not
/// used: nothing tells it that it is up.
fn unbound(vm: &Vm, wire: Wire<'_>) -> Result<()> {
    let function = wait_joined(vm, &wire.name)?;
    let driver = format!("/sys/bus/vmbus/drivers/{}", vm.core.net_driver());
    vm.write(&format!("{driver}/unbind"), WIRE)?;
    let master = vm.link_name(&format!("/sys/class/net/{function}/master"))?;
    expect(master.is_none(), "no master", format!("{master:?}"))?;
    vm.write(&format!("{driver}/bind"), WIRE)?;
    let wire = Wire::connect(vm)?;
    wait_joined(vm, &wire.name)?;
    match vm.core {
        Core::Rust | Core::RustOnC => wait_path(vm, &wire, true),
        Core::C => wire.ping(""),
    }
}
