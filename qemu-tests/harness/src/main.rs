// SPDX-License-Identifier: GPL-2.0

//! Boots guests with Hyper-V enlightenments and looks at what the drivers do.
//! Started by `qemu-tests/setup/harness`; people type `make`.

mod ballooning;
mod bed;
mod bench;
mod console;
mod counter;
mod cpio;
mod demo;
mod devices;
mod drivers;
mod failure;
mod fio;
mod guest_files;
mod image;
mod kernel_log;
mod level;
mod machine;
mod paths;
mod qemu;
mod qmp;
mod root_disk;
mod runner;
mod scenarios;
mod shell;
mod storage;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use bed::Pace;
use drivers::Core;
use level::Level;
use paths::Paths;
use runner::{Runner, Selection};

/// Tests of the VMBus drivers in guests under QEMU.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Use KVM directly or a nested guest, instead of what works here.
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
        /// Only this one.
        #[arg(long)]
        scenario: Option<String>,
        /// Whose drivers.
        #[arg(long, default_value = "both")]
        core: Cores,
    },
    /// Measure, and compare with others that do the same.
    Bench(bench::Options),
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
        What::Bench(_) => (
            Pace::Counted,
            (Level::Nested, "only level 1 can count".into()),
        ),
        _ => (Pace::Free, level::choose(arguments.level)?),
    };
    println!("guest: {level} ({why}); logs in {}", paths.logs.display());
    let mut runner = Runner::new(paths, level, pace)?;
    match arguments.what {
        What::Bench(options) => bench::run(&mut runner, &options),
        What::Run { core } => Ok(runner.show(core, demo::run)),
        What::Shell { core } => Ok(runner.show(core, shell::run)),
        What::Test { scenario, core } => {
            let cores = match core {
                Cores::C => vec![Core::C],
                Cores::Rust => vec![Core::Rust],
                Cores::Both => vec![Core::C, Core::Rust],
            };
            runner.run(&Selection { scenario, cores })
        }
    }
}
