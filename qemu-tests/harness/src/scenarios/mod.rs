// SPDX-License-Identifier: GPL-2.0

//! The guest scenarios. One file each; [`TABLES`] is the only list of them.

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
const TABLES: [&[Scenario]; 4] = [CORE, storage::ALL, net::ALL, OWN];

/// All scenarios.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    TABLES.into_iter().flatten()
}

/// Those of the core and the balloon.
const CORE: &[Scenario] = &[
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
];

/// Those that have machines of their own, or none.
const OWN: &[Scenario] = &[
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::all;

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
