// SPDX-License-Identifier: GPL-2.0

//! The guest scenarios. One file each; this table is the only list of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;

use crate::drivers::Core;
use crate::lane::Common;
use crate::level::Level;
use crate::machine::Machine;
use crate::paths::Paths;
use crate::races;
use crate::vm::Vm;

mod balloon;
mod bind;
mod boot;
mod cpu_hotplug;
mod demo;
mod device_list;
mod direct_level;
mod example;
mod hypercall_fuzz;
mod kunit;
mod levels_agree;
mod net;
mod panic;
mod reboot;
mod reload;
mod status_report;
mod storage;

/// What a scenario needs of the guest it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guest {
    /// Any guest, also one that earlier scenarios used; leaves it usable.
    Shared,
    /// Any guest; it is gone afterwards.
    Ends,
}

/// What a scenario gets.
pub(crate) struct Context<'a> {
    /// The guest.
    pub(crate) vm: &'a Vm,
    /// Where things are.
    pub(crate) paths: &'a Paths,
    /// What earlier scenarios noted, to compare the two cores.
    pub(crate) notes: &'a Mutex<Notes>,
    /// What the report shows of it, besides that it passed.
    pub(crate) figures: &'a mut String,
}

/// How a scenario runs.
#[derive(Debug)]
pub(crate) enum Run {
    /// In a guest of its machine, on the level of the run.
    InGuest(fn(&mut Context<'_>) -> Result<()>),
    /// Without one: it starts what it needs, where it needs it.
    Alone(fn(&mut AloneContext<'_>) -> Result<()>),
    /// In guests to which the harness does not talk, once for each seed.
    Race(races::Kind),
}

/// What a scenario gets that runs alone.
pub(crate) struct AloneContext<'a> {
    /// What all of the run have in common.
    pub(crate) common: &'a Common,
    /// Whose drivers.
    pub(crate) core: Core,
    /// How long it may take.
    pub(crate) timeout: Duration,
    /// What the report shows of it, besides that it passed.
    pub(crate) figures: &'a mut String,
}

/// Notes of scenarios: by core and name.
pub(crate) type Notes = BTreeMap<(Core, &'static str), String>;

/// One scenario.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Its name, for `SCENARIO=`.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) about: &'static str,
    /// How long it may take; in a guest, without booting.
    pub(crate) timeout: Duration,
    /// What guest it needs, if it runs in one.
    pub(crate) machine: &'static Machine,
    /// Whose drivers it is for; those of C do not survive everything.
    pub(crate) only: Option<Core>,
    /// The level that it belongs to: on others it runs only if it is named.
    pub(crate) level: Option<Level>,
    /// A line of the configuration that the guest's kernel must have.
    pub(crate) kernel_has: Option<&'static str>,
    /// And in which state.
    pub(crate) guest: Guest,
    /// Signs of trouble on the console that belong to it.
    pub(crate) expected_trouble: &'static [&'static str],
    /// The scenario itself.
    pub(crate) run: Run,
}

const fn shared(
    name: &'static str,
    about: &'static str,
    seconds: u64,
    run: fn(&mut Context<'_>) -> Result<()>,
) -> Scenario {
    Scenario {
        name,
        about,
        timeout: Duration::from_secs(seconds),
        machine: &Machine::BALLOON,
        only: None,
        level: None,
        kernel_has: None,
        guest: Guest::Shared,
        expected_trouble: &[],
        run: Run::InGuest(run),
    }
}

const fn packaged(
    name: &'static str,
    about: &'static str,
    seconds: u64,
    run: fn(&mut Context<'_>) -> Result<()>,
) -> Scenario {
    Scenario {
        machine: &Machine::PACKAGED,
        ..shared(name, about, seconds, run)
    }
}

const fn race(name: &'static str, about: &'static str, kind: races::Kind) -> Scenario {
    Scenario {
        name,
        about,
        timeout: Duration::from_secs(300),
        machine: &races::MACHINE,
        only: None,
        level: Some(Level::Emulated),
        kernel_has: None,
        guest: Guest::Ends,
        expected_trouble: &[],
        run: Run::Race(kind),
    }
}

const fn with_disks(
    name: &'static str,
    about: &'static str,
    seconds: u64,
    run: fn(&mut Context<'_>) -> Result<()>,
) -> Scenario {
    Scenario {
        machine: &crate::storage::MACHINE,
        ..shared(name, about, seconds, run)
    }
}

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

const fn alone(
    name: &'static str,
    about: &'static str,
    seconds: u64,
    run: fn(&mut AloneContext<'_>) -> Result<()>,
) -> Scenario {
    Scenario {
        name,
        about,
        timeout: Duration::from_secs(seconds),
        machine: &Machine::BALLOON,
        only: None,
        // they start level 1 themselves
        level: Some(Level::Nested),
        kernel_has: None,
        guest: Guest::Ends,
        expected_trouble: &[],
        run: Run::Alone(run),
    }
}

/// All scenarios, in the order in which they share a guest.
pub(crate) const ALL: &[Scenario] = &[
    packaged(
        "boot-and-negotiate",
        "version 4.0, drivers loaded by device events",
        90,
        boot::run,
    ),
    Scenario {
        only: Some(Core::Rust),
        kernel_has: Some("CONFIG_KUNIT=y"),
        ..packaged(
            "kunit",
            "the core's tests of itself inside the kernel",
            60,
            kunit::run,
        )
    },
    packaged(
        "device-list",
        "sysfs shows the host's devices as the C core does",
        60,
        device_list::run,
    ),
    packaged(
        "status-report",
        "the host receives memory pressure reports",
        150,
        status_report::run,
    ),
    shared(
        "balloon",
        "memory goes to the host and comes back",
        300,
        balloon::run,
    ),
    shared(
        "cpu-hotplug",
        "CPU 1 goes and comes while ballooning",
        240,
        cpu_hotplug::run,
    ),
    shared(
        "bind-unbind",
        "unbind, bind, driver_override, new_id, remove_id",
        120,
        bind::run,
    ),
    shared(
        "reload",
        "20 reloads leak no slab, vmalloc or page",
        300,
        reload::run,
    ),
    Scenario {
        guest: Guest::Ends,
        ..shared(
            "reboot",
            "the guest reboots with the core loaded",
            120,
            reboot::run,
        )
    },
    Scenario {
        guest: Guest::Ends,
        expected_trouble: &["Kernel panic", "sysrq triggered crash"],
        ..shared(
            "panic",
            "a panic with the core loaded ends without a hang",
            120,
            panic::run,
        )
    },
    with_disks(
        "storage-probe",
        "disks, a CD-ROM, an IDE-class disk and four channels are found",
        90,
        storage::probe::run,
    ),
    with_disks(
        "storage-filesystem",
        "partitions, ext4 and discard, sectors of 512 and 4096 bytes",
        480,
        storage::filesystem::run,
    ),
    with_disks(
        "storage-verify",
        "fio compares: 512 B to 1 MiB, depth 1 to 256, 1 to 4 jobs",
        900,
        storage::verify::run,
    ),
    with_disks(
        "storage-hotplug",
        "disks come, go and grow",
        120,
        storage::hotplug::run,
    ),
    with_disks(
        "storage-cpus",
        "channels and CPUs move under I/O",
        480,
        storage::cpus::run,
    ),
    with_disks(
        "storage-reset",
        "the controller is reset under I/O",
        480,
        storage::reset::run,
    ),
    with_disks(
        "storage-reload",
        "the driver goes and comes",
        480,
        storage::reload::run,
    ),
    with_disks(
        "storage-migrate",
        "the guest is saved and goes on under I/O",
        480,
        storage::migrate::run,
    ),
    with_disks(
        "storage-idle",
        "the guest suspends to idle and goes on",
        120,
        storage::idle::run,
    ),
    Scenario {
        only: Some(Core::Rust),
        ..with_disks(
            "example",
            "the example driver binds and lets go; what a driver leaves open is closed",
            120,
            example::run,
        )
    },
    with_disks(
        "storage-unplug",
        "a controller goes and comes (Rust: under I/O)",
        480,
        storage::unplug::run,
    ),
    Scenario {
        guest: Guest::Ends,
        ..with_disks(
            "storage-soak",
            "fio compares while a disk and CPUs go and come",
            480,
            storage::soak::run,
        )
    },
    Scenario {
        machine: &crate::storage::BOUNCING,
        ..shared(
            "storage-swiotlb",
            "fio compares, every request bounced",
            480,
            storage::verify::small,
        )
    },
    Scenario {
        machine: &crate::storage::BOUNCING,
        ..shared(
            "storage-isolated-cpu",
            "a CPU without device interrupts gets no channel",
            240,
            storage::isolated::run,
        )
    },
    Scenario {
        machine: &crate::storage::SMALL_RINGS,
        ..shared(
            "storage-small-rings",
            "fio compares, rings of 8 KiB",
            480,
            storage::verify::small,
        )
    },
    Scenario {
        machine: &crate::storage::FEW_QUEUES,
        ..shared(
            "storage-few-queues",
            "one hardware queue, and I/O on the channel of its CPU",
            240,
            storage::few_queues::run,
        )
    },
    Scenario {
        machine: &crate::demo::MACHINE,
        guest: Guest::Ends,
        ..shared(
            "demo",
            "root on a disk, memory there and back, a file fetched, a login by ssh",
            300,
            demo::run,
        )
    },
    Scenario {
        machine: &crate::storage::ROOT,
        guest: Guest::Ends,
        ..shared(
            "storage-root",
            "a Debian root on a disk, from an initramfs to the reboot",
            480,
            storage::root::run,
        )
    },
    Scenario {
        machine: &crate::storage::CRASH,
        guest: Guest::Ends,
        expected_trouble: &["Kernel panic", "sysrq triggered crash"],
        ..shared(
            "storage-crash",
            "a crash kernel saves memory to a disk",
            480,
            storage::crash::run,
        )
    },
    Scenario {
        machine: &storage::busy::MACHINE,
        ..shared(
            "storage-busy",
            "a host that is busy, and one whose queue is full",
            240,
            storage::busy::run,
        )
    },
    Scenario {
        machine: &storage::swap::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-swap",
            "other disks take the place of those in use",
            480,
            storage::swap::run,
        )
    },
    Scenario {
        machine: &storage::unlisted::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-unlisted",
            "a host that does not list its logical units",
            240,
            storage::unlisted::run,
        )
    },
    Scenario {
        machine: &storage::log::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-log",
            "a controller that fails often, and one that fails once",
            240,
            storage::log::run,
        )
    },
    Scenario {
        machine: &storage::comes_back::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-comes-back",
            "hosts that do not get done with a reset",
            240,
            storage::comes_back::run,
        )
    },
    Scenario {
        machine: &storage::broken_ring::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-broken-ring",
            "a ring whose indices make no sense, under I/O",
            240,
            storage::broken_ring::run,
        )
    },
    Scenario {
        machine: &storage::silent_move::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-silent-move",
            "a host that moves a channel and does not say so",
            480,
            storage::silent_move::run,
        )
    },
    Scenario {
        machine: &storage::withheld::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-withheld",
            "a host that gives memory back late",
            480,
            storage::withheld::run,
        )
    },
    Scenario {
        machine: &storage::late_answers::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-late-answers",
            "a host that does what it was asked for when nobody waits any more",
            480,
            storage::late_answers::run,
        )
    },
    Scenario {
        machine: &storage::plug_and_cpu::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-plug-and-cpu",
            "a controller comes while the host is asked for another CPU",
            480,
            storage::plug_and_cpu::run,
        )
    },
    Scenario {
        machine: &storage::fragmented::MACHINE,
        only: Some(Core::Rust),
        guest: Guest::Ends,
        ..shared(
            "storage-fragmented",
            "a controller comes when memory has no large block",
            240,
            storage::fragmented::run,
        )
    },
    Scenario {
        machine: &storage::hostile::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-hostile",
            "18 controllers that break the rules",
            480,
            storage::hostile::run,
        )
    },
    Scenario {
        machine: &storage::hostile_bus::MACHINE,
        only: Some(Core::Rust),
        ..shared(
            "storage-hostile-bus",
            "a bus whose messages break the rules",
            480,
            storage::hostile_bus::run,
        )
    },
    with_networks(
        "net-ping",
        "an address by DHCP, and the host answers",
        120,
        net::ping::run,
    ),
    with_networks(
        "net-tcp",
        "bytes arrive as they were sent, with offloads and without",
        480,
        net::tcp::run,
    ),
    with_networks(
        "net-mtu",
        "frames of 576 to 9000 bytes, and sizes that change under load",
        480,
        net::mtu::run,
    ),
    with_networks(
        "net-vlan",
        "tagged frames, with offloads",
        240,
        net::vlan::run,
    ),
    with_networks(
        "net-stack",
        "bridge, macvlan, nft, a capture, a flood of pings, HTTP and ssh",
        300,
        net::stack::run,
    ),
    with_networks(
        "net-queues",
        "four channels, receive-side scaling, and channels that change under load",
        480,
        net::queues::run,
    ),
    with_networks(
        "net-xdp",
        "programs that pass, drop, send back and redirect frames, in one piece or more, and move their ends",
        480,
        net::xdp::run,
    ),
    Scenario {
        // C has no such setting
        only: Some(Core::Rust),
        ..with_networks(
            "net-copybreak",
            "which received frames are copied to pages of a pool",
            240,
            net::copybreak::run,
        )
    },
    Scenario {
        // C stops no queue for what the host has, and notices nothing
        only: Some(Core::Rust),
        machine: &net::timeout::MACHINE,
        ..shared(
            "net-timeout",
            "a host that does not say that it is done with frames",
            480,
            net::timeout::run,
        )
    },
    with_networks("net-two", "two adapters at a time", 240, net::two::run),
    with_networks("net-link", "the link goes and comes", 240, net::link::run),
    with_networks(
        "net-reload",
        "the driver goes and comes",
        240,
        net::reload::run,
    ),
    with_networks(
        "net-migrate",
        "the guest is saved and goes on under load",
        480,
        net::migrate::run,
    ),
    with_networks(
        "net-unplug",
        "an adapter goes and comes (Rust: under load)",
        480,
        net::unplug::run,
    ),
    Scenario {
        machine: &net::versions::MACHINE,
        ..shared(
            "net-versions",
            "hosts that know NVSP up to 1, 2, 4, 5 and 6",
            240,
            net::versions::run,
        )
    },
    Scenario {
        machine: &net::fragmented::MACHINE,
        // C has no memory for its rings
        only: Some(Core::Rust),
        ..shared(
            "net-fragmented",
            "an adapter comes when memory has no large blocks",
            240,
            net::fragmented::run,
        )
    },
    Scenario {
        machine: &net::faults::MACHINE,
        ..shared(
            "net-faults",
            "a host that loses frames, lies about lengths and is late",
            480,
            net::faults::run,
        )
    },
    Scenario {
        kernel_has: Some("CONFIG_X86_MSR=m"),
        ..alone(
            "levels-agree",
            "what guests see on the emulated and on the nested level",
            240,
            levels_agree::run,
        )
    },
    alone(
        "direct-level",
        "this harness on a machine whose KVM has Hyper-V",
        900,
        direct_level::run,
    ),
    Scenario {
        only: Some(Core::Rust),
        level: Some(Level::Emulated),
        ..alone(
            "hypercall-fuzz",
            "a guest without a kernel breaks the rules of hypercalls and the SynIC",
            600,
            hypercall_fuzz::run,
        )
    },
    Scenario {
        only: Some(Core::Rust),
        ..race(
            "races-rescind",
            "a controller is taken away under I/O",
            races::Kind::Rescind,
        )
    },
    race(
        "races-offline",
        "a CPU goes and comes under I/O",
        races::Kind::Offline,
    ),
    Scenario {
        only: Some(Core::Rust),
        ..race(
            "races-unbind",
            "the driver is unbound under I/O",
            races::Kind::Unbind,
        )
    },
    race(
        "races-reset",
        "a controller is reset under I/O",
        races::Kind::Reset,
    ),
];
