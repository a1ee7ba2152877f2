// SPDX-License-Identifier: GPL-2.0

//! Networks on VMBus: the machine that has them, finding their interfaces, and using them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::failure::expect;
use crate::machine::{Initramfs, Machine, Qemu};
use crate::storage::{script, Job};
use crate::vm::Vm;

/// The program; the shell takes `ip` for busybox's, which knows less.
pub(crate) const IP: &str = "/usr/sbin/ip";

/// Instance of the adapter that QEMU's user network is behind.
pub(crate) const USER: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001";
/// Instance of the adapter that a wire connects with the [`PEER`].
pub(crate) const WIRE: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1002";
/// Ethernet address of the adapter at [`WIRE`], as its device is given.
pub(crate) const WIRE_MAC: &str = "52:54:00:00:10:02";
/// Ethernet address of the other end of the wire: an emulated adapter of another kind, with a driver
/// of another kind, in a network namespace of the same guest.
pub(crate) const PEER_MAC: &str = "52:54:00:00:10:03";
/// Channels of the adapter at [`WIRE`].
pub(crate) const WIRE_QUEUES: usize = 4;

/// The network namespace of the other end.
pub(crate) const PEER: &str = "peer";
/// Addresses of the two ends.
pub(crate) const WIRE_ADDRESS: &str = "192.168.7.1";
/// See [`WIRE_ADDRESS`].
pub(crate) const PEER_ADDRESS: &str = "192.168.7.2";
/// The same for IPv6.
pub(crate) const WIRE_ADDRESS6: &str = "fd00:7::1";
/// See [`WIRE_ADDRESS6`].
pub(crate) const PEER_ADDRESS6: &str = "fd00:7::2";

/// What the user network says it is.
pub(crate) const GATEWAY: &str = "10.0.2.2";
/// See [`GATEWAY`].
pub(crate) const GATEWAY6: &str = "fec0::2";
/// Who sends back what comes to [`ECHO_PORT`], for as long as the connection lasts.
pub(crate) const ECHO: &str = "10.0.2.100";
/// See [`ECHO`].
pub(crate) const ECHO_PORT: &str = "7";

/// Two adapters: one with QEMU's user network behind it, whose protocols are libslirp's; one on a wire.
pub(crate) const MACHINE: Machine = Machine {
    name: "net",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[],
    devices: &[
        "-device vmbus-bridge",
        "-netdev user,id=user,restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:cat",
        "-device hv-net,id=user,netdev=user,num-queues=4,mac=52:54:00:00:10:01,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001",
        "-netdev hubport,id=wire,hubid=1",
        "-device hv-net,id=wire,netdev=wire,num-queues=4,mac=52:54:00:00:10:02,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1002",
        "-netdev hubport,id=peer,hubid=1",
        "-device e1000e,netdev=peer,romfile=,mac=52:54:00:00:10:03",
    ],
};

const APPEAR: Duration = Duration::from_secs(60);
const CARRIER: Duration = Duration::from_secs(20);
/// Bytes that only a load moves.
const FLOW: u64 = 1 << 20;
/// For a transfer of some megabytes.
pub(crate) const TRANSFER: Duration = Duration::from_secs(120);

/// Prints the name of the interface with an Ethernet address, also where it has none yet.
pub(crate) fn by_mac(mac: &str) -> String {
    format!("cd /sys/class/net; grep -l '^{mac}$' */address | head -n 1 | cut -d/ -f1")
}

/// The network interface of a VMBus device, if it is there.
pub(crate) fn find(vm: &Vm, instance: &str) -> Result<Option<String>> {
    let names = vm.list(&format!("/sys/bus/vmbus/devices/{instance}/net"))?;
    Ok(names.into_iter().next())
}

/// Wait for the network interface of a VMBus device, with its carrier, and all its channels; gives
/// its name.
pub(crate) fn wait_for(vm: &Vm, instance: &str) -> Result<String> {
    let what = format!("a network interface of {instance}");
    let name = vm.wait_until(APPEAR, &what, || {
        Ok(find(vm, instance)?.ok_or_else(|| "no interface".into()))
    })?;
    script(vm, &format!("{IP} link set {name} up"))?;
    wait_carrier(vm, &name, true)?;
    Ok(name)
}

/// Wait until an interface that is up has a carrier, or none.
pub(crate) fn wait_carrier(vm: &Vm, name: &str, there: bool) -> Result<()> {
    wait_carrier_within(vm, name, there, CARRIER)
}

/// The same, for so long.
pub(crate) fn wait_carrier_within(
    vm: &Vm,
    name: &str,
    there: bool,
    timeout: Duration,
) -> Result<()> {
    let wanted = if there { "1" } else { "0" };
    vm.wait_until(timeout, &format!("carrier {wanted} at {name}"), || {
        let carrier = format!("cat /sys/class/net/{name}/carrier 2>/dev/null");
        let found = vm.try_exec(&["sh", "-c", &carrier])?.stdout;
        Ok(if found.trim() == wanted {
            Ok(())
        } else {
            Err(format!("carrier '{}'", found.trim()))
        })
    })
}

/// A number that an interface counts, as `/sys/class/net` has it.
pub(crate) fn statistic(vm: &Vm, name: &str, counter: &str) -> Result<u64> {
    let text = vm.read(&format!("/sys/class/net/{name}/statistics/{counter}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("{counter} of {name}: {text}"))
}

/// A number that the driver counts, as `ethtool` shows it.
pub(crate) fn driver_statistic(statistics: &str, counter: &str) -> Result<u64> {
    statistics
        .lines()
        .find_map(|line| {
            let (name, value) = line.trim().split_once(": ")?;
            (name == counter).then(|| value.parse().ok())?
        })
        .with_context(|| format!("no '{counter}' among the driver's statistics: {statistics}"))
}

/// The two ends of the wire.
pub(crate) struct Wire<'a> {
    vm: &'a Vm,
    /// The interface under test.
    pub(crate) name: String,
    /// The other one; see [`Self::at_peer`].
    pub(crate) peer: String,
}

impl<'a> Wire<'a> {
    /// Load the drivers, and give both ends their addresses.
    pub(crate) fn connect(vm: &'a Vm) -> Result<Self> {
        vm.load_core()?;
        let name = wait_for(vm, WIRE)?;
        let wire = Self {
            vm,
            peer: peer(vm)?,
            name,
        };
        wire.address()?;
        Ok(wire)
    }

    /// Give both ends their addresses; they lose them with a device, and those of IPv6 with an MTU that
    /// is too low for it.
    pub(crate) fn address(&self) -> Result<()> {
        let (name, peer) = (&self.name, &self.peer);
        let commands = [
            format!("{IP} addr replace {WIRE_ADDRESS}/24 dev {name}"),
            format!("{IP} -6 addr replace {WIRE_ADDRESS6}/64 dev {name} nodad"),
            Self::at_peer(&format!("{IP} addr replace {PEER_ADDRESS}/24 dev {peer}")),
            Self::at_peer(&format!(
                "{IP} -6 addr replace {PEER_ADDRESS6}/64 dev {peer} nodad"
            )),
        ];
        script(self.vm, &commands.join("\n")).map(drop)
    }

    /// A command as it is to run in the other end's namespace.
    pub(crate) fn at_peer(command: &str) -> String {
        format!("{IP} netns exec {PEER} {command}")
    }

    /// Wait until the other end answers, which takes it a while when it has begun anew, and then let it
    /// answer all.
    pub(crate) fn ping(&self, options: &str) -> Result<()> {
        let once = format!("ping -c 1 -W 1 {PEER_ADDRESS}");
        self.vm.wait_until(CARRIER, "the other end", || {
            let done = self.vm.try_exec(&["sh", "-c", &once])?;
            Ok(if done.status == 0 {
                Ok(())
            } else {
                Err(done.stdout)
            })
        })?;
        ping(self.vm, PEER_ADDRESS, options)
    }

    /// Start a server of iperf3 at the other end.
    pub(crate) fn serve(&self) -> Result<()> {
        let serve = Self::at_peer("iperf3 -s -D --pidfile /tmp/iperf3.pid");
        script(
            self.vm,
            &format!(
                "[ -e /tmp/iperf3.pid ] && kill -0 $(tr -d '\\0' < /tmp/iperf3.pid) || {serve}"
            ),
        )?;
        self.vm
            .wait_until(CARRIER, "a server of iperf3 at the other end", || {
                let listens = Self::at_peer("netstat -ltn");
                let found = script(self.vm, &listens)?;
                Ok(if found.contains(":5201") {
                    Ok(())
                } else {
                    Err(found)
                })
            })
    }

    /// Start a client of iperf3, which sends or (`-R`) receives.
    pub(crate) fn load(&self, name: &'static str, options: &str) -> Result<Job<'a>> {
        let load = format!("iperf3 -c {PEER_ADDRESS} {options}");
        Job::start(self.vm, name, &load)
    }

    /// Start a load both ways that lasts until it is told to end.
    pub(crate) fn stream(&self) -> Result<Stream<'a>> {
        let job = self.load("load", "-t 600 -P 4 --bidir")?;
        let stream = Stream {
            vm: self.vm,
            interface: self.name.clone(),
            job,
        };
        stream.expect_flow()?;
        Ok(stream)
    }
}

/// A load on the wire both ways, for as long as something takes.
pub(crate) struct Stream<'a> {
    vm: &'a Vm,
    interface: String,
    job: Job<'a>,
}

impl Stream<'_> {
    /// The interface that it goes by is another one now.
    pub(crate) fn goes_by(&mut self, wire: &Wire<'_>) {
        self.interface.clone_from(&wire.name);
    }

    /// It must be under way, and bytes must come and go from now on: the connections have survived what
    /// was done. Those without flow wait for their retransmission, longer each time.
    pub(crate) fn expect_flow(&self) -> Result<()> {
        wait_flow(self.vm, &self.interface, || self.job.expect_running())
    }

    /// End it, after a last look that it is under way.
    pub(crate) fn stop(self) -> Result<()> {
        self.expect_flow()?;
        // The server at the other end stays, and so does the shell that waits for the client. One that was told
        // to end (SIGINT), which has it report to the other end first, did not within 120 s, once.
        script(self.vm, END_CLIENTS)?;
        self.job.wait(TRANSFER).map(drop)
    }
}

/// Wait until a load that is under way has moved bytes both ways from now on.
pub(crate) fn wait_flow(vm: &Vm, name: &str, under_way: impl Fn() -> Result<()>) -> Result<()> {
    let bytes = || -> Result<[u64; 2]> {
        Ok([
            statistic(vm, name, "tx_bytes")?,
            statistic(vm, name, "rx_bytes")?,
        ])
    };
    let before = bytes()?;
    vm.wait_until(TRANSFER, &format!("bytes both ways at {name}"), || {
        under_way()?;
        let now = bytes()?;
        Ok(if (0..2).all(|i| now[i] >= before[i] + FLOW) {
            Ok(())
        } else {
            Err(format!("{before:?} bytes before, {now:?} now"))
        })
    })
}

/// Ends the clients of iperf3, by what is installed in a guest.
const END_CLIENTS: &str = "for pid in $(pidof iperf3); do
        case $(tr '\\0' ' ' < /proc/$pid/cmdline) in
        'iperf3 -c '*) kill -KILL $pid ;;
        esac
    done";

/// The other end of the wire, in its namespace, with its addresses.
fn peer(vm: &Vm) -> Result<String> {
    let there = Wire::at_peer(&format!("sh -c \"{}\"", by_mac(PEER_MAC)));
    let found = vm.try_exec(&["sh", "-c", &there])?.stdout;
    if !found.trim().is_empty() {
        return Ok(found.trim().to_owned());
    }
    vm.exec(&["modprobe", "e1000e"])?;
    let name = vm.wait_until(APPEAR, "the other end of the wire", || {
        let found = script(vm, &by_mac(PEER_MAC))?;
        Ok(match found.trim() {
            "" => Err("no such interface".into()),
            name => Ok(name.to_owned()),
        })
    })?;
    let commands = [
        format!("{IP} netns add {PEER}"),
        format!("{IP} link set {name} netns {PEER}"),
        Wire::at_peer(&format!("{IP} link set lo up")),
        Wire::at_peer(&format!("{IP} link set {name} up")),
    ];
    script(vm, &commands.join("\n"))?;
    Ok(name)
}

/// What udhcpc calls with what it got.
const ON_LEASE: &str = r#"#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr replace "$ip/24" dev "$interface"
ip route replace default via "$router" dev "$interface"
"#;

/// Let an interface have an address by DHCP.
pub(crate) fn lease(vm: &Vm, name: &str) -> Result<()> {
    vm.write("/tmp/on-lease", ON_LEASE)?;
    let ask = format!("chmod +x /tmp/on-lease; udhcpc -i {name} -n -q -t 5 -s /tmp/on-lease");
    script(vm, &ask).map(drop)
}

/// All of some pings are answered.
pub(crate) fn ping(vm: &Vm, address: &str, options: &str) -> Result<()> {
    let command = format!("ping -c 3 -i 0.2 -W 5 {options} {address}");
    let done = vm.try_exec(&["sh", "-c", &command])?;
    expect(
        done.stdout.contains(" 0% packet loss"),
        format!("'{command}' answered"),
        format!("{}{}", done.stdout, done.stderr),
    )
}

/// Let the host's side of an adapter lose, or get, its link.
pub(crate) fn set_link(vm: &Vm, id: &str, up: bool) -> Result<()> {
    vm.qmp("set_link", &json!({ "name": id, "up": up }))
        .map(drop)
}
