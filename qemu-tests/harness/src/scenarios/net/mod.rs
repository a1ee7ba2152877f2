// SPDX-License-Identifier: GPL-2.0

//! Scenarios with networks, on the patched QEMU.

mod coalesce;
mod console;
mod copybreak;
mod crash;
mod faults;
mod fragmented;
mod late_host;
mod link;
mod migrate;
mod mtu;
mod ping;
mod plug_cycles;
mod queues;
mod rebind;
mod reload;
mod selftests;
mod stack;
mod tcp;
mod terms;
mod timeout;
mod two;
mod unkept;
mod unplug;
mod versions;
mod vf;
mod vf_host;
mod vlan;
mod xdp;

use anyhow::Result;

use super::{shared, Context, Guest, Scenario};
use crate::drivers::Core;
use crate::level::Level;

const fn with_networks(
    name: &'static str,
    about: &'static str,
    seconds: u64,
    run: fn(&mut Context<'_>) -> Result<()>,
) -> Scenario {
    Scenario {
        machine: &crate::net::MACHINE,
        ..shared(name, about, seconds, run)
    }
}

/// All of them, in the order in which they share a guest.
pub(super) const ALL: &[Scenario] = &[
    with_networks(
        "net-ping",
        "an address by DHCP, and the host answers",
        120,
        ping::run,
    ),
    with_networks(
        "net-tcp",
        "bytes arrive as they were sent, with offloads and without",
        480,
        tcp::run,
    ),
    with_networks(
        "net-mtu",
        "frames of 576 to 9000 bytes, and sizes that change under load",
        480,
        mtu::run,
    ),
    with_networks(
        "net-vlan",
        "tagged frames, with offloads",
        240,
        vlan::run,
    ),
    Scenario {
        kernel_has: Some("CONFIG_NETFILTER_INGRESS=y"),
        ..with_networks(
            "net-stack",
            "bridge, macvlan, nft, a capture, a flood of pings, HTTP and ssh",
            300,
            stack::run,
        )
    },
    with_networks(
        "net-queues",
        "four channels, receive-side scaling, and channels that change under load",
        480,
        queues::run,
    ),
    with_networks(
        "net-xdp",
        "programs that pass, drop, send back and redirect frames, in one piece or more, and move their ends",
        480,
        xdp::run,
    ),
    Scenario {
        // C has no such setting
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..with_networks(
            "net-copybreak",
            "which received frames are copied to pages of a pool",
            240,
            copybreak::run,
        )
    },
    Scenario {
        // there netpoll takes locks that sleep, its own and those of drivers, with interrupts off
        kernel_has: Some("# CONFIG_PREEMPT_RT is not set"),
        ..with_networks(
            "net-console",
            "the kernel's messages go out over the adapter under load",
            240,
            console::run,
        )
    },
    Scenario {
        machine: &selftests::MACHINE,
        // some wait for times of their own
        level: Some(Level::Emulated),
        // what is skipped depends on the kernel's settings
        kernel_has: Some("CONFIG_MODULE_COMPRESS_XZ=y"),
        ..shared(
            "net-selftests",
            "the kernel's own tests of network drivers that one adapter is enough for",
            900,
            selftests::run,
        )
    },
    Scenario {
        machine: &selftests::MACHINE,
        level: Some(Level::Emulated),
        kernel_has: Some("CONFIG_MODULE_COMPRESS_XZ=y"),
        ..shared(
            "net-selftests-long",
            "those of them that take long",
            3600,
            selftests::run_long,
        )
    },
    Scenario {
        machine: &coalesce::MACHINE,
        ..shared(
            "net-coalesce",
            "a host that joins segments of a TCP connection",
            240,
            coalesce::run,
        )
    },
    Scenario {
        // C does not say so, nor does it switch on again what it has switched off
        only: Some(&[Core::Rust, Core::RustOnC]),
        machine: &terms::MACHINE,
        ..shared(
            "net-terms",
            "a host that agrees on less when the adapter is connected anew, and on all again",
            240,
            terms::run,
        )
    },
    with_networks("net-two", "two adapters at a time", 240, two::run),
    with_networks("net-link", "the link goes and comes", 240, link::run),
    Scenario {
        machine: &link::CHANGED,
        ..shared(
            "net-link-changed",
            "the link leads elsewhere",
            240,
            link::changed,
        )
    },
    with_networks(
        "net-reload",
        "the driver goes and comes",
        240,
        reload::run,
    ),
    Scenario {
        only: Some(&[Core::RustOnC]),
        ..with_networks(
            "net-rebind",
            "an adapter goes from the Rust driver to the C driver and back under load, in one boot",
            480,
            rebind::run,
        )
    },
    with_networks(
        "net-migrate",
        "the guest is saved and goes on under load",
        480,
        migrate::run,
    ),
    with_networks(
        "net-unplug",
        "an adapter goes and comes (Rust: under load)",
        480,
        unplug::run,
    ),
    Scenario {
        // what goes at a bad moment has the C core wait for ever, and it puts channels' folders elsewhere
        only: Some(&[Core::Rust]),
        machine: &plug_cycles::MACHINE,
        ..shared(
            "net-plug-cycles",
            "an adapter comes and goes again and again, under load and at bad moments",
            480,
            plug_cycles::run,
        )
    },
    Scenario {
        machine: &crash::MACHINE,
        guest: Guest::Ends,
        expected_trouble: &["Kernel panic", "sysrq triggered crash"],
        ..shared(
            "net-crash",
            "a crash kernel sends memory to the host",
            480,
            crash::run,
        )
    },
    Scenario {
        // C stops no queue for what the host has, and notices nothing
        only: Some(&[Core::Rust, Core::RustOnC]),
        kernel_has: Some("CONFIG_BQL=y"),
        machine: &timeout::MACHINE,
        ..shared(
            "net-timeout",
            "a host that does not say that it is done with frames",
            900,
            timeout::run,
        )
    },
    Scenario {
        machine: &late_host::MACHINE,
        ..shared(
            "net-late-host",
            "names in the order of the offers, and an adapter for which the host is late",
            240,
            late_host::run,
        )
    },
    Scenario {
        // C waits for ever, under RTNL
        only: Some(&[Core::Rust, Core::RustOnC]),
        machine: &unkept::MACHINE,
        ..shared(
            "net-unkept",
            "a host that promises sub-channels that it never offers",
            240,
            unkept::run,
        )
    },
    Scenario {
        machine: &versions::MACHINE,
        ..shared(
            "net-versions",
            "hosts that know NVSP up to 1, 2, 4, 5 and 6",
            240,
            versions::run,
        )
    },
    Scenario {
        // where locks are checked, the port's driver is complained of when a card goes: its reset_lock is taken
        // with and under that of PCI's list of devices
        kernel_has: Some("# CONFIG_PROVE_LOCKING is not set"),
        machine: &vf::MACHINE,
        ..shared(
            "net-vf",
            "a virtual function beside the adapter comes, goes and changes under load",
            900,
            vf::run,
        )
    },
    Scenario {
        // C waits for the host under RTNL
        only: Some(&[Core::Rust, Core::RustOnC]),
        kernel_has: Some("CONFIG_HOTPLUG_PCI_PCIE=y"),
        machine: &vf_host::MACHINE,
        ..shared(
            "net-vf-host",
            "a host that does not answer, or says nonsense, about a virtual function",
            600,
            vf_host::run,
        )
    },
    Scenario {
        machine: &fragmented::MACHINE,
        // C has no memory for its rings
        only: Some(&[Core::Rust]),
        ..shared(
            "net-fragmented",
            "an adapter comes when memory has no large blocks",
            240,
            fragmented::run,
        )
    },
    Scenario {
        machine: &faults::MACHINE,
        ..shared(
            "net-faults",
            "a host that loses frames, lies about lengths and is late",
            480,
            faults::run,
        )
    },
];
