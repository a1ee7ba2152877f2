// SPDX-License-Identifier: GPL-2.0

//! The guest scenarios. One file each; [`TABLES`] is the only list of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;

use crate::drivers::Core;
use crate::lane::Common;
use crate::level::Level;
use crate::machine::{BusVersion, Machine};
use crate::paths::Paths;
use crate::races;
use crate::vm::Vm;

mod all_drivers;
mod asked_twice;
mod balloon;
mod balloon_hot_add;
mod bind;
mod boot;
mod built_in;
mod cpu_hotplug;
mod demo;
mod device_list;
mod direct_level;
mod example;
mod hypercall_fuzz;
mod kunit;
mod levels_agree;
mod may_hibernate;
mod memory_late;
mod memory_limits;
mod memory_rebind;
mod memory_unbind;
mod net;
mod package;
mod page_reporting;
mod panic;
mod reboot;
mod reload;
mod status_report;
mod storage;
mod tools_file;
mod wrong_core;

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
    /// The newest version of the protocol that hosts on the patched QEMU speak.
    pub(crate) bus_version: BusVersion,
    /// How often it repeats what it repeats.
    pub(crate) rounds: u32,
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
    pub(crate) only: Option<&'static [Core]>,
    /// The level that it belongs to: on others it runs only if it is named.
    pub(crate) level: Option<Level>,
    /// A line of the configuration that the guest's kernel must have.
    pub(crate) kernel_has: Option<&'static str>,
    /// The oldest version of the protocol that has what it is about.
    pub(crate) since: BusVersion,
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
        since: BusVersion::V4_0,
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
        machine: kind.machine(),
        only: None,
        level: Some(Level::Emulated),
        kernel_has: None,
        since: BusVersion::V4_0,
        guest: Guest::Ends,
        expected_trouble: &[],
        run: Run::Race(kind),
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
        since: BusVersion::V4_0,
        guest: Guest::Ends,
        expected_trouble: &[],
        run: Run::Alone(run),
    }
}

/// All scenarios, in the order in which they share a guest.
const TABLES: [&[Scenario]; 4] = [CORE, storage::ALL, net::ALL, OWN];

/// All scenarios.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    TABLES.into_iter().flatten()
}

/// Those that show what is different for the Rust drivers on the C core: how they bind and unbind, open and close, how
/// events reach them, and how a rescind does.
pub(crate) const USUAL_ON_C: &[&str] = &[
    "boot-and-negotiate",
    "wrong-core",
    "bind-unbind",
    "balloon",
    "memory-rebind",
    "reload",
    "built-in",
    "storage-probe",
    "storage-verify",
    "storage-unplug",
    "storage-rebind",
    "net-ping",
    "net-rebind",
    "net-unplug",
];

/// Those that run only if all of their name is said: they take minutes, and find little that others do not.
pub(crate) const ONLY_NAMED: &[&str] = &["net-selftests-long"];

/// Those of the core and the balloon.
const CORE: &[Scenario] = &[
    packaged(
        "boot-and-negotiate",
        "version 4.0, drivers loaded by device events",
        90,
        boot::run,
    ),
    Scenario {
        only: Some(&[Core::Rust]),
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
    Scenario {
        guest: Guest::Ends,
        expected_trouble: &["Kernel panic", "sysrq triggered crash"],
        ..packaged(
            "panic",
            "a panic with the core loaded ends without a hang",
            120,
            panic::run,
        )
    },
    Scenario {
        guest: Guest::Ends,
        ..packaged(
            "wrong-core",
            "the module of the core that cannot work here is refused",
            60,
            wrong_core::run,
        )
    },
    shared(
        "balloon",
        "memory goes to the host and comes back",
        300,
        balloon::run,
    ),
    shared(
        "tools-file",
        "the file and the trace event that tools know",
        120,
        tools_file::run,
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
    Scenario {
        only: Some(&[Core::RustOnC]),
        // the C driver may have kept some pages, and warned of that
        guest: Guest::Ends,
        ..shared(
            "memory-rebind",
            "the balloon goes from the Rust driver to the C driver and back, in one boot",
            300,
            memory_rebind::run,
        )
    },
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
];

/// Those that have machines of their own, or none.
const OWN: &[Scenario] = &[
    Scenario {
        machine: &Machine::HOT_ADD,
        guest: Guest::Ends,
        ..shared(
            "hot-add",
            "the host adds memory, takes it and gives it back; the module goes and comes",
            600,
            balloon_hot_add::run,
        )
    },
    Scenario {
        machine: &Machine::PAGE_REPORTING,
        guest: Guest::Ends,
        level: Some(Level::Emulated),
        ..shared(
            "page-reporting",
            "the host is told of free memory, and refuses to be",
            300,
            page_reporting::run,
        )
    },
    Scenario {
        machine: &Machine::HIBERNATION,
        guest: Guest::Ends,
        ..shared(
            "may-hibernate",
            "a guest that could hibernate keeps its memory",
            120,
            may_hibernate::run,
        )
    },
    Scenario {
        machine: &Machine::HOT_ADD,
        guest: Guest::Ends,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "memory-limits",
            "an administrator's limits hold",
            120,
            memory_limits::run,
        )
    },
    race(
        "memory-day",
        "a host that changes its mind about memory every minute, for hours",
        races::Kind::Memory,
    ),
    Scenario {
        machine: &Machine::HOT_ADD,
        guest: Guest::Ends,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "memory-unbind",
            "the driver goes while it adds memory",
            120,
            memory_unbind::run,
        )
    },
    Scenario {
        machine: &memory_late::MACHINE,
        guest: Guest::Ends,
        only: Some(&[Core::Rust]),
        ..shared(
            "memory-late",
            "a host that confirms the end of a balloon late, or takes it while it starts",
            180,
            memory_late::run,
        )
    },
    Scenario {
        machine: &Machine::BALLOON_TWICE,
        guest: Guest::Ends,
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..shared(
            "asked-twice",
            "a request comes while one is served",
            120,
            asked_twice::run,
        )
    },
    Scenario {
        machine: &all_drivers::MACHINE,
        ..shared(
            "all-drivers",
            "all drivers in one guest; a controller and an adapter go",
            120,
            all_drivers::run,
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
        machine: &crate::installed::MACHINE,
        only: Some(&[Core::Rust]),
        // its disk is looked into between two boots
        level: Some(Level::Emulated),
        // the packages are for the stock kernel
        kernel_has: Some("CONFIG_MODULE_COMPRESS_XZ=y"),
        guest: Guest::Ends,
        ..shared(
            "package",
            "a Debian takes the packages, starts on Rust, removes them, starts on C",
            2400,
            package::run,
        )
    },
    Scenario {
        machine: &crate::built_in::MACHINE,
        only: Some(&[Core::Rust, Core::RustOnC]),
        // beside the stock kernel
        kernel_has: Some("CONFIG_MODULE_COMPRESS_XZ=y"),
        guest: Guest::Ends,
        ..shared(
            "built-in",
            "the main scenarios in a small kernel with the drivers built in, root on a disk, no initramfs",
            900,
            built_in::run,
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
        only: Some(&[Core::Rust]),
        level: Some(Level::Emulated),
        ..alone(
            "hypercall-fuzz",
            "a guest without a kernel breaks the rules of hypercalls and the SynIC",
            600,
            hypercall_fuzz::run,
        )
    },
    Scenario {
        only: Some(&[Core::Rust]),
        ..race(
            "races-rescind",
            "a controller is taken away under I/O",
            races::Kind::Disk(races::DiskEvent::Rescind),
        )
    },
    race(
        "races-offline",
        "a CPU goes and comes under I/O",
        races::Kind::Disk(races::DiskEvent::Offline),
    ),
    Scenario {
        only: Some(&[Core::Rust]),
        ..race(
            "races-unbind",
            "the driver is unbound under I/O",
            races::Kind::Disk(races::DiskEvent::Unbind),
        )
    },
    race(
        "races-reset",
        "a controller is reset under I/O",
        races::Kind::Disk(races::DiskEvent::Reset),
    ),
    Scenario {
        only: Some(&[Core::Rust]),
        ..race(
            "races-reload",
            "core and driver go and come while the host offers devices and takes them back",
            races::Kind::Reload,
        )
    },
    Scenario {
        // C does not notice such a host
        only: Some(&[Core::Rust, Core::RustOnC]),
        ..race(
            "net-rest",
            "a host that was left alone since it did nothing with frames goes on",
            races::Kind::Net(races::NetEvent::Late),
        )
    },
    Scenario {
        only: Some(&[Core::Rust]),
        ..race(
            "races-net-rescind",
            "an adapter is taken away under traffic",
            races::Kind::Net(races::NetEvent::Rescind),
        )
    },
    race(
        "races-net-offline",
        "a CPU goes and comes under traffic",
        races::Kind::Net(races::NetEvent::Offline),
    ),
    race(
        "races-net-unbind",
        "the driver is unbound under traffic",
        races::Kind::Net(races::NetEvent::Unbind),
    ),
    race(
        "races-net-change",
        "channels, MTU, buffers and the interface change under traffic",
        races::Kind::Net(races::NetEvent::Change),
    ),
];

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{all, ONLY_NAMED, USUAL_ON_C};
    use crate::drivers::Core;

    #[test]
    fn what_is_usual_on_the_c_core_is_there() {
        for name in USUAL_ON_C {
            let scenario = all().find(|scenario| scenario.name == *name);
            let only = scenario.unwrap_or_else(|| panic!("no {name}")).only;
            assert!(
                only.is_none_or(|only| only.contains(&Core::RustOnC)),
                "{name}"
            );
        }
    }

    #[test]
    fn what_runs_only_if_it_is_named_is_there() {
        for name in ONLY_NAMED {
            assert!(all().any(|scenario| scenario.name == *name), "{name}");
        }
    }

    /// Options are checked by a script, before this is compiled.
    #[test]
    fn the_set_up_knows_all_scenarios() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../setup/scenario-names");
        let said = Command::new(script).output().unwrap();
        let mut known: Vec<_> = std::str::from_utf8(&said.stdout).unwrap().lines().collect();
        let mut names: Vec<_> = all().map(|scenario| scenario.name).collect();
        known.sort_unstable();
        names.sort_unstable();
        assert_eq!(known, names);
    }
}
