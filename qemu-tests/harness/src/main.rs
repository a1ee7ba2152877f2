// SPDX-License-Identifier: GPL-2.0

//! Boots guests with Hyper-V enlightenments and looks at what the drivers do.
//! Started by `qemu-tests/setup/harness`; people type `make`.

mod allocations;
mod ballooning;
mod bed;
mod bench;
mod built_in;
mod console;
mod counter;
mod cpio;
mod cpu_time;
mod demo;
mod devices;
mod drivers;
mod failure;
mod fio;
mod firmware;
mod fuzz_guest;
mod guest_files;
mod image;
mod installed;
mod kernel_log;
mod kernel_memory;
mod known;
mod lane;
mod level;
mod machine;
mod net;
mod paths;
mod prepared;
mod programs;
mod qemu;
mod qmp;
mod races;
mod root_disk;
mod run_folder;
mod runner;
mod scenarios;
mod schedule;
mod second_try;
mod shell;
mod slim_fio;
mod storage;
mod view;
mod vm;
mod vmlinux;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use bed::Pace;
use drivers::Core;
use lane::Lane;
use level::Level;
use machine::BusVersion;
use paths::Paths;
use races::Seeds;
use run_folder::Logs;
use runner::Selection;

/// Tests of the VMBus drivers in guests under QEMU.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// How guests get Hyper-V, instead of what works best here.
    #[arg(long, global = true)]
    level: Option<Level>,
}

#[derive(Subcommand)]
enum What {
    /// Show what the drivers do.
    Run {
        /// Whose drivers.
        #[arg(long, default_value = "rust")]
        core: Core,
    },
    /// A shell in the guest.
    Shell {
        /// Whose drivers.
        #[arg(long, default_value = "rust")]
        core: Core,
    },
    /// Run the scenarios.
    Test {
        /// Only these, by their names or the first words of them, separated by commas.
        #[arg(long, value_delimiter = ',')]
        scenario: Vec<String>,
        /// How many guests at a time, instead of as many as there is room for.
        #[arg(long)]
        guests: Option<usize>,
        /// Races: only this seed, which makes a run that was seen before.
        #[arg(long)]
        seed: Option<u64>,
        /// The newest version of the protocol that the hosts of the patched QEMU speak.
        #[arg(long)]
        bus_version: Option<BusVersion>,
        /// How often scenarios that repeat something do so, instead of a few times.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: Option<u32>,
        /// Run also what the C drivers have passed before, with the same kernel, QEMU and harness.
        #[arg(long)]
        again: bool,
        /// Whose drivers.
        #[arg(long, default_value = "usual")]
        core: Cores,
    },
    /// Measure, and compare with others that do the same.
    Bench(bench::Options),
    /// Measure what the Rust drivers cost, and compare with the budget.
    Budget(bench::budget::Options),
}

#[derive(Clone, Copy, ValueEnum)]
enum Cores {
    C,
    Rust,
    RustOnC,
    /// C and Rust, each on its own core.
    Both,
    /// Both, and of the Rust drivers on the C core a part.
    Usual,
    /// All three, whole.
    All,
}

impl Cores {
    fn list(self) -> &'static [Core] {
        match self {
            Self::C => &[Core::C],
            Self::Rust => &[Core::Rust],
            Self::RustOnC => &[Core::RustOnC],
            Self::Both => &[Core::C, Core::Rust],
            Self::Usual | Self::All => &Core::ALL,
        }
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    let mut paths = Paths::from_environment()?;
    let (pace, (level, why)) = match arguments.what {
        What::Bench(_) | What::Budget(_) => (
            Pace::Counted,
            (Level::Emulated, "there, instructions can be counted".into()),
        ),
        _ => (Pace::Free, level::choose(arguments.level)?),
    };
    let logs = match arguments.what {
        What::Test { .. } => Logs::here(&paths.logs)?,
        _ => Logs::beside(&paths.logs)?,
    };
    paths.logs.clone_from(&logs.path);
    println!("guest: {level} ({why}); logs in {}", paths.logs.display());
    let seeds = match &arguments.what {
        What::Test {
            seed: Some(seed), ..
        } => Seeds::One(*seed),
        What::Test { scenario, .. } if !scenario.is_empty() => Seeds::All,
        _ => Seeds::Few,
    };
    let (bus_version, rounds) = match &arguments.what {
        What::Test {
            bus_version,
            rounds,
            ..
        } => (*bus_version, *rounds),
        _ => (None, None),
    };
    let mut common = runner::prepare(paths, level, pace, seeds)?;
    common.bus_version = bus_version;
    common.rounds = rounds;
    match arguments.what {
        What::Bench(options) => bench::run(&mut Lane::new(&common), &options),
        What::Budget(options) => bench::budget::run(&mut Lane::new(&common), &options),
        What::Run { core } => Ok(Lane::new(&common).show(&demo::MACHINE, core, demo::show)),
        What::Shell { core } => Ok(Lane::new(&common).show(&demo::MACHINE, core, shell::run)),
        What::Test {
            scenario,
            guests,
            again,
            core,
            ..
        } => {
            let selection = Selection {
                scenarios: scenario,
                cores: core.list(),
                part_on_c: matches!(core, Cores::Usual),
                guests,
                again,
            };
            runner::run(&common, &selection)
        }
    }
}
