// SPDX-License-Identifier: GPL-2.0

//! Scenarios with disks, on the patched QEMU.

mod broken_ring;
mod busy;
mod comes_back;
mod cpus;
mod crash;
mod few_queues;
mod filesystem;
pub(super) mod fragmented;
mod full_host;
mod hostile;
mod hostile_bus;
mod hotplug;
mod idle;
mod isolated;
mod late_answers;
mod late_rescind;
mod log;
mod migrate;
mod mute;
mod plug_and_cpu;
mod probe;
mod rebind;
mod refused_doorbell;
mod reload;
mod reload_plug;
mod rescinds;
mod reset;
mod root;
mod short_read;
mod silent_close;
mod silent_move;
mod silent_sub_channel;
mod slow_host;
mod soak;
mod swap;
mod taken_at_close;
mod unlisted;
mod unload;
mod unplug;
mod untold;
mod verify;
mod withheld;

use anyhow::Result;

use super::{example, shared, Context, Guest, Scenario};
use crate::drivers::Core;
use crate::machine::BusVersion;

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

/// All of them, in the order in which they share a guest.
pub(super) const ALL: &[Scenario] = &[
    with_disks(
        "storage-probe",
        "disks, a CD-ROM, an IDE-class disk and four channels are found",
        90,
        probe::run,
    ),
    with_disks(
        "storage-filesystem",
        "partitions, ext4 and discard, sectors of 512 and 4096 bytes",
        480,
        filesystem::run,
    ),
    with_disks(
        "storage-verify",
        "fio compares: 512 B to 1 MiB, depth 1 to 256, 1 to 4 jobs",
        900,
        verify::run,
    ),
    with_disks(
        "storage-hotplug",
        "disks come, go and grow",
        120,
        hotplug::run,
    ),
    Scenario {
        // a host of 4.0 moves no channel
        since: BusVersion::V5_3,
        ..with_disks(
            "storage-cpus",
            "channels and CPUs move under I/O",
            480,
            cpus::run,
        )
    },
    with_disks(
        "storage-short-read",
        "a READ with less room than it takes",
        480,
        short_read::run,
    ),
    with_disks(
        "storage-reset",
        "the controller is reset under I/O",
        480,
        reset::run,
    ),
    with_disks(
        "storage-reload",
        "the driver goes and comes",
        480,
        reload::run,
    ),
    with_disks(
        "storage-migrate",
        "the guest is saved and goes on under I/O",
        480,
        migrate::run,
    ),
    Scenario {
        kernel_has: Some("CONFIG_PM_SLEEP_DEBUG=y"),
        ..with_disks(
            "storage-idle",
            "the guest suspends to idle and goes on",
            120,
            idle::run,
        )
    },
    Scenario {
        only: Some(&[Core::RustOnC]),
        ..with_disks(
            "storage-rebind",
            "a controller goes from the Rust driver to the C driver and back, in one boot",
            300,
            rebind::run,
        )
    },
    Scenario {
        only: Some(&[Core::Rust, Core::RustOnC]),
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
        unplug::run,
    ),
    Scenario {
        guest: Guest::Ends,
        since: BusVersion::V5_3,
        ..with_disks(
            "storage-soak",
            "fio compares while a disk and CPUs go and come",
            480,
            soak::run,
        )
    },
    Scenario {
        machine: &crate::storage::BOUNCING,
        ..shared(
            "storage-swiotlb",
            "fio compares, every request bounced",
            480,
            verify::small,
        )
    },
    Scenario {
        machine: &crate::storage::BOUNCING,
        kernel_has: Some("CONFIG_CPU_ISOLATION=y"),
        ..shared(
            "storage-isolated-cpu",
            "a CPU without device interrupts gets no channel",
            240,
            isolated::run,
        )
    },
    Scenario {
        machine: &crate::storage::SMALL_RINGS,
        ..shared(
            "storage-small-rings",
            "fio compares, rings of 8 KiB",
            480,
            verify::small,
        )
    },
    Scenario {
        machine: &crate::storage::FEW_QUEUES,
        ..shared(
            "storage-few-queues",
            "one hardware queue, and I/O on the channel of its CPU",
            240,
            few_queues::run,
        )
    },
    Scenario {
        machine: &crate::storage::ROOT,
        guest: Guest::Ends,
        ..shared(
            "storage-root",
            "a Debian root on a disk, from an initramfs to the reboot",
            480,
            root::run,
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
            crash::run,
        )
    },
    Scenario {
        machine: &busy::MACHINE,
        ..shared(
            "storage-busy",
            "a host that is busy, and one whose queue is full",
            240,
            busy::run,
        )
    },
    Scenario {
        machine: &swap::MACHINE,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "storage-swap",
            "other disks take the place of those in use",
            480,
            swap::run,
        )
    },
    Scenario {
        machine: &unlisted::MACHINE,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "storage-unlisted",
            "a host that does not list its logical units",
            240,
            unlisted::run,
        )
    },
    Scenario {
        machine: &log::MACHINE,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "storage-log",
            "a controller that fails often, and one that fails once",
            240,
            log::run,
        )
    },
    Scenario {
        machine: &comes_back::MACHINE,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "storage-comes-back",
            "hosts that do not get done with a reset",
            240,
            comes_back::run,
        )
    },
    Scenario {
        machine: &mute::MACHINE,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "storage-mute",
            "a unit that does not answer, beside a busy one",
            480,
            mute::run,
        )
    },
    Scenario {
        machine: &broken_ring::MACHINE,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "storage-broken-ring",
            "a ring whose indices make no sense, under I/O",
            240,
            broken_ring::run,
        )
    },
    Scenario {
        machine: &silent_move::MACHINE,
        only: Some(&[Core::Rust]),
        // before, the host does not say that it has moved a channel
        since: BusVersion::V5_3,
        ..shared(
            "storage-silent-move",
            "a host that moves a channel and does not say so",
            480,
            silent_move::run,
        )
    },
    Scenario {
        machine: &withheld::MACHINE,
        only: Some(&[Core::Rust]),
        ..shared(
            "storage-withheld",
            "a host that gives memory back late",
            480,
            withheld::run,
        )
    },
    Scenario {
        machine: &full_host::MACHINE,
        ..shared(
            "storage-full-host",
            "a host that takes no messages for half a minute",
            480,
            full_host::run,
        )
    },
    Scenario {
        machine: &late_answers::MACHINE,
        only: Some(&[Core::Rust]),
        ..shared(
            "storage-late-answers",
            "a host that does what it was asked for when nobody waits any more",
            480,
            late_answers::run,
        )
    },
    Scenario {
        machine: &untold::MACHINE,
        only: Some(&[Core::Rust]),
        ..shared(
            "storage-untold",
            "a host that does not take CLOSECHANNEL, or GPADL_TEARDOWN",
            240,
            untold::run,
        )
    },
    Scenario {
        machine: &taken_at_close::MACHINE,
        only: Some(&[Core::Rust]),
        ..shared(
            "storage-taken-at-close",
            "controllers that go while the host does not take, or answer, what closes them",
            240,
            taken_at_close::run,
        )
    },
    Scenario {
        machine: &unload::MACHINE,
        only: Some(&[Core::Rust]),
        guest: Guest::Ends,
        ..shared(
            "storage-unload",
            "a host that does not take UNLOAD, or takes it late",
            240,
            unload::run,
        )
    },
    Scenario {
        machine: &slow_host::MACHINE,
        only: Some(&[Core::Rust]),
        since: BusVersion::V5_3,
        ..shared(
            "storage-slow-host",
            "CPUs and controllers that go while the host opens a channel or moves it",
            480,
            slow_host::run,
        )
    },
    Scenario {
        machine: &plug_and_cpu::MACHINE,
        only: Some(&[Core::Rust]),
        // before, the host does not say that it has moved a channel
        since: BusVersion::V5_3,
        ..shared(
            "storage-plug-and-cpu",
            "a controller comes while the host is asked for another CPU",
            480,
            plug_and_cpu::run,
        )
    },
    Scenario {
        machine: &silent_close::MACHINE,
        only: Some(&[Core::Rust]),
        ..shared(
            "storage-silent-close",
            "a host that does not say that it gives rings back",
            120,
            silent_close::run,
        )
    },
    Scenario {
        machine: &silent_sub_channel::MACHINE,
        only: Some(&[Core::Rust]),
        ..shared(
            "storage-silent-sub-channel",
            "a host that does not answer when a sub-channel is opened",
            180,
            silent_sub_channel::run,
        )
    },
    Scenario {
        machine: &late_rescind::MACHINE,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "storage-late-rescind",
            "a host that takes a sub-channel back when its controller is open again",
            240,
            late_rescind::run,
        )
    },
    Scenario {
        machine: &refused_doorbell::MACHINE,
        only: Some(&[Core::Rust]),
        ..shared(
            "storage-refused-doorbell",
            "a host that does not listen, and does not take the channel back",
            180,
            refused_doorbell::run,
        )
    },
    Scenario {
        machine: &reload_plug::MACHINE,
        only: Some(&[Core::Rust]),
        ..shared(
            "storage-reload-plug",
            "the core goes and comes while controllers do",
            300,
            reload_plug::run,
        )
    },
    Scenario {
        machine: &rescinds::MACHINE,
        only: Some(&[Core::Rust]),
        ..shared(
            "storage-rescinds",
            "controllers that go while they open, send, close and open sub-channels",
            300,
            rescinds::run,
        )
    },
    Scenario {
        machine: &fragmented::MACHINE,
        only: Some(&[Core::Rust]),
        guest: Guest::Ends,
        ..shared(
            "storage-fragmented",
            "a controller comes when memory has no large block",
            240,
            fragmented::run,
        )
    },
    Scenario {
        machine: &hostile::MACHINE,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "storage-hostile",
            "19 controllers that break the rules",
            480,
            hostile::run,
        )
    },
    Scenario {
        machine: &hostile_bus::MACHINE,
        only: Some(&[Core::Rust]),
        ..shared(
            "storage-hostile-bus",
            "a bus whose messages break the rules",
            480,
            hostile_bus::run,
        )
    },
];
