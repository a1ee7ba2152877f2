// SPDX-License-Identifier: GPL-2.0

//! One boot: every backend at every depth.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use vmbus_guest::protocol::{Load, LoadReport};

use super::symbols::{Function, Symbols};
use super::variant::{Backend, Doorbell, Variant, BACKENDS};
use super::Reads;
use crate::counter::{difference, Blocks, Counts};
use crate::devices::BUS;
use crate::storage::{Job, JOB};
use crate::vm::Vm;

/// The load and the interrupts of its controller have this CPU to themselves.
const CPU: usize = 0;
/// How long the guest is watched to see whether it is quiet.
const WATCH: Duration = Duration::from_millis(300);
/// What its kernel may do meanwhile, in instructions, to count as quiet.
const QUIET: u64 = 200_000;
/// A boot leaves things to be done later, on a busy machine much later.
const BECOMES_QUIET: Duration = Duration::from_secs(120);
/// How often each load is done. How completions and submissions meet depends on how they happen to
/// begin; the sum of some beginnings repeats better than one long run.
const ROUNDS: usize = 5;
/// For how long nothing is done but counting.
const IDLE: Duration = Duration::from_millis(400);
/// How many functions a sample names.
const FUNCTIONS: usize = 60;
const APPEAR: Duration = Duration::from_secs(60);

/// What one boot showed of one backend at one depth; per read, where nothing else is said.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) variant: &'static str,
    pub(super) backend: &'static str,
    pub(super) depth: usize,
    /// How many there were.
    pub(super) reads: f64,
    /// Reads in a second of the guest.
    pub(super) iops: f64,
    /// Microseconds of the guest; means of the rounds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Instructions of the guest's kernel, with those of timer ticks.
    pub(super) raw: f64,
    /// The same without what the kernel does in that time anyway.
    pub(super) kernel: f64,
    /// Instructions of the load itself.
    pub(super) user: f64,
    /// Instructions of the driver and its bus.
    pub(super) driver: f64,
    pub(super) doorbells: f64,
    pub(super) interrupts: f64,
    /// The functions with most instructions.
    pub(super) functions: Vec<Share>,
}

/// What a function has of a [`Sample`].
#[derive(Debug, Clone, Serialize)]
pub(super) struct Share {
    name: String,
    module: String,
    instructions: f64,
    calls: f64,
}

/// Measure in a guest that has just booted; `progress` hears what is next.
pub(super) fn boot(
    vm: &Vm,
    variant: &Variant,
    reads: &Reads,
    known: &mut Known,
    progress: impl Fn(&str),
) -> Result<Vec<Sample>> {
    progress("waiting for its disks");
    load_driver(vm, variant)?;
    let disks = BACKENDS
        .iter()
        .map(|b| Ok((*b, wait_for_disk(vm, *b)?)))
        .collect::<Result<Vec<_>>>()?;
    quieten(vm, &disks)?;
    let idle = idle_rate(vm)?;
    let mut measured = Vec::new();
    for (backend, disk) in &disks {
        for (depth, count) in *reads {
            progress(&format!("{} at depth {depth}", backend.name));
            let load = Load {
                disk: format!("/dev/{disk}"),
                cpu: CPU,
                depth,
                reads: count / variant.one_in,
            };
            measured.push((backend, Measured::take(vm, variant, load)?));
        }
    }
    progress("the kernel's symbols");
    let symbols = known.symbols(vm, &disks)?;
    Ok(measured
        .iter()
        .map(|(backend, it)| it.sample(variant, backend, idle, &symbols))
        .collect())
}

fn load_driver(vm: &Vm, variant: &Variant) -> Result<()> {
    match variant.module {
        Some(module) => vm.exec(&["modprobe", "-a", module, "sd_mod"]).map(drop),
        None => vm.load_core(),
    }
}

fn wait_for_disk(vm: &Vm, backend: Backend) -> Result<String> {
    let sectors = (backend.mib << 11).to_string();
    vm.wait_until(APPEAR, &format!("the disk '{}'", backend.name), || {
        let disks = vm.list("/sys/block")?;
        for disk in disks.iter().filter(|d| d.starts_with("sd")) {
            if vm.read(&format!("/sys/block/{disk}/size"))?.trim() == sectors {
                return Ok(Ok(disk.clone()));
            }
        }
        Ok(Err(disks.join(" ")))
    })
}

/// No scheduler, no merging.
fn quieten(vm: &Vm, disks: &[(Backend, String)]) -> Result<()> {
    for (_, disk) in disks {
        for (file, value) in [
            ("scheduler", "none"),
            ("nomerges", "2"),
            ("add_random", "0"),
        ] {
            vm.write(&format!("/sys/block/{disk}/queue/{file}"), value)?;
        }
    }
    Ok(())
}

/// Instructions that the kernel does in a nanosecond in which it is asked for nothing.
fn idle_rate(vm: &Vm) -> Result<f64> {
    let (_, nothing) = counted(vm, || vm.spin(CPU, Duration::ZERO))?;
    let (_, ticks) = counted(vm, || vm.spin(CPU, IDLE))?;
    Ok((ticks.kernel - nothing.kernel) / IDLE.as_nanos() as f64)
}

/// Instructions of the guest.
#[derive(Debug, Clone, Copy)]
struct Cost {
    kernel: f64,
    user: f64,
}

fn counted<T>(vm: &Vm, what: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    wait_until_quiet(vm)?;
    let before = vm.counter()?.read()?;
    let value = what()?;
    let after = vm.counter()?.read()?;
    let between = |of: fn(&Counts) -> u64| (of(&after) - of(&before)) as f64;
    let cost = Cost {
        kernel: between(|c| c.nested_kernel),
        user: between(|c| c.nested_user),
    };
    Ok((value, cost))
}

fn wait_until_quiet(vm: &Vm) -> Result<()> {
    vm.wait_until(BECOMES_QUIET, "a quiet guest", || {
        let before = vm.counter()?.read()?.nested_kernel;
        thread::sleep(WATCH);
        let done = vm.counter()?.read()?.nested_kernel - before;
        Ok(if done < QUIET {
            Ok(())
        } else {
            Err(format!(
                "{done} instructions within {} ms",
                WATCH.as_millis()
            ))
        })
    })
}

/// The symbols of earlier guests, by where their modules were. The kernel itself is always in the
/// same place.
#[derive(Default)]
pub(super) struct Known(BTreeMap<String, Rc<Symbols>>);

impl Known {
    fn symbols(&mut self, vm: &Vm, disks: &[(Backend, String)]) -> Result<Rc<Symbols>> {
        let places = vm.exec(&["sh", "-c", "grep '' /sys/module/*/sections/.text"])?;
        if let Some(symbols) = self.0.get(&places) {
            return Ok(Rc::clone(symbols));
        }
        let symbols = Rc::new(read_symbols(vm, disks)?);
        self.0.insert(places, Rc::clone(&symbols));
        Ok(symbols)
    }
}

/// The table is long. The serial lines would take minutes to carry it, so that it goes over a disk.
fn read_symbols(vm: &Vm, disks: &[(Backend, String)]) -> Result<Symbols> {
    let (file, disk) = disks.last().context("there are disks")?;
    let script = format!("(cat /proc/kallsyms; head -c 4096 /dev/zero) > /dev/{disk} && sync");
    Job::start(vm, "symbols", &script)?.expect_success(JOB)?;
    Ok(Symbols::parse(&vm.text_of_file(file.name)?))
}

/// The figures of all rounds of one load, as they come.
struct Measured {
    load: Load,
    rounds: Vec<(LoadReport, Cost)>,
    /// Of a request without reads.
    request: Cost,
    blocks: Blocks,
    interrupts: u64,
    doorbells: u64,
}

impl Measured {
    fn take(vm: &Vm, variant: &Variant, load: Load) -> Result<Self> {
        let of = |reads| Load {
            reads,
            ..load.clone()
        };
        vm.load(&of(load.reads / 4))?;
        let (_, request) = counted(vm, || vm.load(&of(0)))?;
        let events = || Ok::<_, anyhow::Error>((interrupts(vm, variant)?, doorbells(vm, variant)?));
        let (interrupts, doorbells) = events()?;
        let before = vm.counter()?.profile()?;
        let rounds = (0..ROUNDS)
            .map(|_| counted(vm, || vm.load(&of(load.reads / ROUNDS))))
            .collect::<Result<Vec<_>>>()?;
        let blocks = difference(&before, vm.counter()?.profile()?);
        let after = events()?;
        Ok(Self {
            load,
            rounds,
            request,
            blocks,
            interrupts: after.0 - interrupts,
            doorbells: after.1 - doorbells,
        })
    }

    fn sample(&self, variant: &Variant, backend: &Backend, idle: f64, symbols: &Symbols) -> Sample {
        let functions = symbols.functions(&self.blocks);
        let own = functions.iter().filter(|f| (variant.owns)(f.symbol));
        let driver: u64 = own.map(|f| f.instructions).sum();
        let doorbells = match variant.doorbell {
            Doorbell::Channels => self.doorbells,
            Doorbell::Function(name) => functions
                .iter()
                .filter(|f| f.symbol.name == name)
                .map(|f| f.calls)
                .sum(),
        };
        let rounds = self.rounds.len() as f64;
        let sum = |of: fn(&(LoadReport, Cost)) -> f64| self.rounds.iter().map(of).sum::<f64>();
        let reads = (self.load.reads / ROUNDS) as f64 * rounds;
        let time = sum(|(report, _)| report.nanoseconds as f64);
        let raw = sum(|(_, cost)| cost.kernel) - self.request.kernel * rounds;
        let user = sum(|(_, cost)| cost.user) - self.request.user * rounds;
        Sample {
            variant: variant.name,
            backend: backend.name,
            depth: self.load.depth,
            reads,
            iops: reads * 1e9 / time,
            p50: sum(|(report, _)| report.p50 as f64) / rounds / 1e3,
            p99: sum(|(report, _)| report.p99 as f64) / rounds / 1e3,
            raw: raw / reads,
            kernel: (raw - idle * time) / reads,
            user: user / reads,
            driver: driver as f64 / reads,
            doorbells: doorbells as f64 / reads,
            interrupts: self.interrupts as f64 / reads,
            functions: shares(&functions, reads),
        }
    }
}

fn shares(functions: &[Function<'_>], reads: f64) -> Vec<Share> {
    let mut shares: Vec<Share> = functions
        .iter()
        .map(|f| Share {
            name: format!("{:#}", rustc_demangle::demangle(&f.symbol.name)),
            module: f.symbol.module.clone(),
            instructions: f.instructions as f64 / reads,
            calls: f.calls as f64 / reads,
        })
        .collect();
    shares.sort_by(|a, b| b.instructions.total_cmp(&a.instructions));
    shares.truncate(FUNCTIONS);
    shares
}

/// How often the controller has interrupted, on all CPUs.
fn interrupts(vm: &Vm, variant: &Variant) -> Result<u64> {
    let text = vm.read("/proc/interrupts")?;
    let mine = |line: &&str| variant.interrupts.iter().any(|word| line.contains(word));
    let numbers = text.lines().filter(mine).flat_map(|line| {
        let words = line.split_whitespace().skip(1);
        words.map_while(|word| word.parse::<u64>().ok())
    });
    Ok(numbers.sum())
}

/// How often the channels have told the host that there is something to do; 0 without channels.
fn doorbells(vm: &Vm, variant: &Variant) -> Result<u64> {
    if variant.doorbell != Doorbell::Channels {
        return Ok(0);
    }
    let script = format!("cat {BUS}/devices/*/channels/*/events");
    let text = vm.exec(&["sh", "-c", &script])?;
    let counts: Result<Vec<u64>, _> = text.lines().map(str::parse).collect();
    Ok(counts.context("a channel's events")?.iter().sum())
}
