// SPDX-License-Identifier: GPL-2.0

//! Boots guests with Hyper-V enlightenments and looks at what the drivers do.
//! Started by `qemu-tests/setup/harness`; people type `make`.

mod ballooning;
mod bed;
mod bench;
mod console;
mod counter;
mod cpio;
mod cpu_time;
mod demo;
mod devices;
mod drivers;
mod failure;
mod fio;
mod fuzz_guest;
mod guest_files;
mod image;
mod kernel_log;
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
mod runner;
mod scenarios;
mod schedule;
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
use paths::Paths;
use races::Seeds;
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
        /// Whose drivers.
        #[arg(long, default_value = "both")]
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
    Both,
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
    let paths = Paths::from_environment()?;
    let (pace, (level, why)) = match arguments.what {
        What::Bench(_) | What::Budget(_) => (
            Pace::Counted,
            (Level::Emulated, "there, instructions can be counted".into()),
        ),
        _ => (Pace::Free, level::choose(arguments.level)?),
    };
    println!("guest: {level} ({why}); logs in {}", paths.logs.display());
    let seeds = match &arguments.what {
        What::Test {
            seed: Some(seed), ..
        } => Seeds::One(*seed),
        What::Test { scenario, .. } if !scenario.is_empty() => Seeds::All,
        _ => Seeds::Few,
    };
    let common = runner::prepare(paths, level, pace, seeds)?;
    match arguments.what {
        What::Bench(options) => bench::run(&mut Lane::new(&common), &options),
        What::Budget(options) => bench::budget::run(&mut Lane::new(&common), &options),
        What::Run { core } => Ok(Lane::new(&common).show(&demo::MACHINE, core, |vm, paths| {
            demo::run(&demo::print, vm, paths)
        })),
        What::Shell { core } => Ok(Lane::new(&common).show(&demo::MACHINE, core, shell::run)),
        What::Test {
            scenario,
            guests,
            core,
            ..
        } => {
            let cores = match core {
                Cores::C => vec![Core::C],
                Cores::Rust => vec![Core::Rust],
                Cores::Both => vec![Core::C, Core::Rust],
            };
            let selection = Selection {
                scenarios: scenario,
                cores,
                guests,
            };
            runner::run(&common, &selection)
        }
    }
}
