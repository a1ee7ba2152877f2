// SPDX-License-Identifier: GPL-2.0

//! A host that joins segments of a TCP connection, and hands the packet over in parts. Their bytes arrive as they were sent,
//! in fewer packets.

use anyhow::Result;

use super::tcp::{copy, here};
use crate::failure::expect;
use crate::machine::{Initramfs, Machine, Qemu};
use crate::net::{self, Wire, WIRE_ADDRESS, WIRE_ADDRESS6};
use crate::scenarios::Context;
use crate::storage::script;
use crate::vm::Vm;

/// An adapter on a wire, whose host joins what the other end sends.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-coalesce",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[],
    devices: &[
        "-device vmbus-bridge",
        "-netdev hubport,id=wire,hubid=1",
        "-device hv-net,id=wire,netdev=wire,rsc=on,num-queues=2,mac=52:54:00:00:10:02,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1002",
        "-netdev hubport,id=peer,hubid=1",
        "-device e1000e,netdev=peer,romfile=,mac=52:54:00:00:10:03",
    ],
};

const MIB: u32 = 4;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    let name = &wire.name;
    script(
        vm,
        &format!("dd if=/dev/urandom of=/tmp/data bs=1M count={MIB} 2>/dev/null"),
    )?;
    for (kind, own) in [("IPv4", WIRE_ADDRESS), ("IPv6", WIRE_ADDRESS6)] {
        let mut packets = Vec::new();
        // what the host does at first is not what C says that it does
        for on in [false, true, false, true] {
            coalesce(vm, name, on)?;
            packets.push(received(vm, name, own)?);
        }
        let [off, on, off_again, on_again] = packets[..] else {
            anyhow::bail!("four turns");
        };
        expect(
            2 * on < off && 2 * on_again < off_again,
            format!("{kind}: less than half as many packets when they are joined"),
            format!("{packets:?}"),
        )?;
        cx.figures.push_str(&format!(
            "{kind}: {MIB} MiB in {off} packets, joined {on}; "
        ));
    }
    // Nobody can check the checksum of a packet that was joined; C goes on, and loses them, by its source.
    if vm.core.has_rust_drivers() {
        script(vm, &format!("ethtool -K {name} rx off"))?;
        expect_coalesce(vm, name, false)?;
        received(vm, name, WIRE_ADDRESS)?;
        script(vm, &format!("ethtool -K {name} rx on"))?;
        expect_coalesce(vm, name, true)?;
    }
    // with few sections
    script(vm, &format!("ethtool -G {name} rx 256"))?;
    received(vm, name, WIRE_ADDRESS)?;
    script(vm, "rm /tmp/data").map(drop)
}

fn coalesce(vm: &Vm, name: &str, on: bool) -> Result<()> {
    let state = if on { "on" } else { "off" };
    script(vm, &format!("ethtool -K {name} lro {state}"))?;
    expect_coalesce(vm, name, on)
}

fn expect_coalesce(vm: &Vm, name: &str, on: bool) -> Result<()> {
    let state = if on { "on" } else { "off" };
    let features = script(vm, &format!("ethtool -k {name}"))?;
    let line = format!("large-receive-offload: {state}");
    expect(features.contains(&line), line, features.trim())
}

/// Packets that the adapter has received while the other end sent it the file.
fn received(vm: &Vm, name: &str, own: &str) -> Result<u64> {
    let before = net::statistic(vm, name, "rx_packets")?;
    copy(vm, Wire::at_peer, here, own)?;
    Ok(net::statistic(vm, name, "rx_packets")? - before)
}
