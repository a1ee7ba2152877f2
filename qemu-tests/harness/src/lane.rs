// SPDX-License-Identifier: GPL-2.0

//! One guest at a time, and the scenarios that run in it.

use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use vmbus_guest::protocol::GuestRequest;

use crate::bed::{Bed, Pace};
use crate::drivers::Core;
use crate::failure::{self, is_bed, unmet};
use crate::image::Images;
use crate::level::Level;
use crate::machine::{BusVersion, Machine};
use crate::paths::Paths;
use crate::prepared::{self, Start};
use crate::qemu;
use crate::races;
use crate::scenarios::{AloneContext, Context, Guest, Notes, Run, Scenario};
use crate::vm::Vm;

/// The lines of the console that a failure shows.
const TAIL: usize = 25;

/// The characters of a failure's text that the last lines of the report repeat.
const FAILURE: usize = 1000;

/// How often a scenario is tried while the bed fails it.
const ATTEMPTS: u32 = 3;

/// How often scenarios that repeat something do so, and their time-outs are made for.
const USUAL_ROUNDS: u32 = 20;

/// How many times as long a scenario may take: a kernel that checks itself is slow.
pub(crate) fn slower(paths: &Paths) -> u32 {
    if paths.tests_stock_kernel() {
        1
    } else {
        4
    }
}

fn is(vm: &Vm, machine: &Machine, core: Core) -> bool {
    vm.core == core && vm.machine == machine
}

/// How one scenario went, for `results.json`.
#[derive(Serialize)]
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) scenario: &'static str,
    /// Whose drivers.
    pub(crate) core: Core,
    /// Whether it passed, if need be at the second try.
    pub(crate) passed: bool,
    /// Whether it failed first, as the rest says, and passed at the second try.
    pub(crate) unsteady: bool,
    /// It failed in a guest whose kernel complained about nothing.
    #[serde(skip)]
    pub(crate) may_be_chance: bool,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What its guest took of this machine's CPUs; unknown for what starts machines itself.
    cpu_seconds: Option<f64>,
    /// More than one after a failure of the bed.
    attempts: u32,
    /// What it counted or measured.
    figures: Option<String>,
    /// Why it failed.
    detail: Option<String>,
    /// The guest's console.
    log: Option<String>,
}

/// What all lanes of a run have in common.
pub(crate) struct Common {
    /// Where things are.
    pub(crate) paths: Paths,
    /// What guests start with.
    pub(crate) images: Mutex<Images>,
    /// How guests run.
    pub(crate) level: Level,
    /// How their time passes.
    pub(crate) pace: Pace,
    /// What scenarios noted, to compare the two cores.
    pub(crate) notes: Mutex<Notes>,
    /// Beds so far, for the names of logs.
    pub(crate) beds: AtomicU32,
    /// Guests so far, for the names of logs.
    pub(crate) boots: AtomicU32,
    /// Where races go on from.
    pub(crate) snapshots: races::Snapshots,
    /// What races run under.
    pub(crate) seeds: races::Seeds,
    /// The newest version of the protocol that patched hosts speak, where a person said so.
    pub(crate) bus_version: Option<BusVersion>,
    /// How often something is repeated, where a person said so.
    pub(crate) rounds: Option<u32>,
    /// Where other guests go on from.
    pub(crate) states: prepared::States,
}

impl Common {
    /// Start an agent.
    pub(crate) fn start_bed(&self, level: Level, images: &mut Images) -> Result<Bed> {
        if level == Level::Nested {
            images.add_level1(&self.paths)?;
        }
        let number = self.beds.fetch_add(1, Ordering::Relaxed) + 1;
        Bed::start(level, self.pace, number, &self.paths, images)
    }
}

/// A place for one guest at a time.
pub(crate) struct Lane<'a> {
    common: &'a Common,
    level: Level,
    bed: Option<Arc<Bed>>,
    vm: Option<Vm>,
    /// What guests do by themselves when they have booted, in JSON.
    script: Option<String>,
}

impl<'a> Lane<'a> {
    /// On the level of the run; machines start when they are needed.
    pub(crate) fn new(common: &'a Common) -> Self {
        Self::on_level(common, common.level)
    }

    /// On a level that may be another one.
    pub(crate) fn on_level(common: &'a Common, level: Level) -> Self {
        Self {
            common,
            level,
            bed: None,
            vm: None,
            script: None,
        }
    }

    /// [`Self::in_new_guest`], in one that begins with a script of its own.
    pub(crate) fn with_script<T>(
        &mut self,
        machine: &'static Machine,
        core: Core,
        script: &[GuestRequest],
        what: impl FnMut(&Vm) -> Result<T>,
    ) -> Result<T> {
        self.script = Some(serde_json::to_string(script)?);
        let result = self.in_new_guest(machine, core, what);
        self.script = None;
        result
    }

    /// Do something in a guest that nothing else has run in. A failure of the bed is tried again,
    /// visibly; a driver's is not, but see [`crate::second_try`].
    pub(crate) fn in_new_guest<T>(
        &mut self,
        machine: &'static Machine,
        core: Core,
        mut what: impl FnMut(&Vm) -> Result<T>,
    ) -> Result<T> {
        let mut attempts = 1;
        loop {
            match self.once_in_new_guest(machine, core, &mut what) {
                Err(e) if is_bed(&e) && attempts < ATTEMPTS => {
                    println!("  {}: {e:#}; trying again", machine.name);
                    attempts += 1;
                }
                result => return result,
            }
        }
    }

    /// The same for somebody who tries again himself.
    pub(crate) fn once_in_new_guest<T>(
        &mut self,
        machine: &'static Machine,
        core: Core,
        what: impl FnOnce(&Vm) -> Result<T>,
    ) -> Result<T> {
        self.end_guest();
        let result = self.guest(machine, core).and_then(what);
        let result = result.map_err(|e| self.blame(e));
        self.end_guest();
        result
    }

    /// Where things are.
    pub(crate) fn paths(&self) -> &'a Paths {
        &self.common.paths
    }

    /// Show something in a guest; gives whether it went well.
    pub(crate) fn show(
        &mut self,
        machine: &'static Machine,
        core: Core,
        what: impl Fn(&Vm, &Paths) -> Result<()>,
    ) -> bool {
        let mut attempts = 1;
        let result = loop {
            let paths = self.paths();
            let result = self.guest(machine, core).and_then(|vm| what(vm, paths));
            match &result {
                Err(e) if is_bed(e) && attempts < ATTEMPTS => {
                    println!("{e:#}; trying again");
                    self.end_guest();
                    attempts += 1;
                }
                _ => break result,
            }
        };
        if let Err(e) = &result {
            println!("FAILED");
            print!("{}", self.explain(&format!("{e:#}")));
        }
        self.end_guest();
        result.is_ok()
    }

    /// A guest of this kind, booted if there is none.
    fn guest(&mut self, machine: &'static Machine, core: Core) -> Result<&Vm> {
        if self.vm.as_ref().is_some_and(|vm| !is(vm, machine, core)) {
            self.end_guest();
        }
        if self.vm.is_none() {
            let common = self.common;
            let mut images = common.images.lock().unwrap_or_else(PoisonError::into_inner);
            images.add(machine.initramfs, &common.paths)?;
            if self.bed.as_ref().is_none_or(|bed| bed.is_gone()) {
                self.bed = None;
                self.bed = Some(Arc::new(common.start_bed(self.level, &mut images)?));
            }
            let bed = self.bed.as_ref().context("just started")?;
            let number = common.boots.fetch_add(1, Ordering::Relaxed) + 1;
            let name = format!("guest{number:02}-{core}-{}", machine.name).to_lowercase();
            let initrd = match &self.script {
                None => images.initramfs(machine.initramfs, core),
                Some(script) => images.with_script(machine.initramfs, core, script)?,
            };
            let argv = qemu::arguments(common, &images, &initrd, machine, core, bed);
            let files = machine.new_files(&images);
            // others may boot meanwhile
            drop(images);
            let kind = match (&self.script, self.level) {
                (None, Level::Emulated) => prepared::kind(machine, core),
                _ => None,
            };
            let start = kind.as_ref().map_or(Start::Boot, |kind| {
                common.states.next(kind, common.paths.run())
            });
            let vm = Vm::start(
                bed,
                &common.paths,
                argv,
                files,
                machine,
                core,
                &name,
                &start,
            );
            if let Some(kind) = &kind {
                common.states.went(kind, &start, vm.is_ok());
            }
            self.vm = Some(vm?);
        }
        self.vm.as_ref().context("just booted")
    }

    /// Run one scenario, and report.
    pub(crate) fn scenario(&mut self, scenario: &'static Scenario, core: Core) -> Outcome {
        let start = Instant::now();
        let cpu_before = self.cpu_seconds();
        let mut attempts = 0;
        let mut figures = String::new();
        let result = loop {
            attempts += 1;
            figures.clear();
            let result = self
                .attempt(scenario, core, &mut figures)
                .map_err(|e| self.blame(e));
            match &result {
                Err(e) if is_bed(e) && attempts < ATTEMPTS => {
                    println!("  {} [{core}]: {e:#}; trying again", scenario.name);
                    self.end_guest();
                }
                _ => break result,
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        let cpu_seconds = match scenario.run {
            // less than before where the bed is another one
            Run::InGuest(_) => Some((self.cpu_seconds() - cpu_before).max(0.0)),
            Run::Alone(_) | Run::Race(_) => None,
        };
        let label = format!("{} [{core}]", scenario.name);
        let again = match attempts {
            1 => String::new(),
            n => format!(" (try {n})"),
        };
        let mut report = format!(
            "  {label:30} {:6} {seconds:6.1} s, CPU {:>6}  {}{again}\n",
            if result.is_ok() { "ok" } else { "FAILED" },
            cpu_seconds.map_or(String::new(), |s| format!("{s:.1} s")),
            scenario.about
        );
        let figures = Some(figures).filter(|f| !f.is_empty());
        if let Some(figures) = &figures {
            let _ = writeln!(report, "    {figures}");
        }
        let log = self
            .vm
            .as_ref()
            .map(|vm| vm.console.path().display().to_string());
        // what a kernel complains about is a defect, however seldom; races repeat by themselves
        let quiet = self
            .vm
            .as_ref()
            .is_some_and(|vm| vm.console.trouble(0, scenario.expected_trouble).is_none());
        let may_be_chance = result.is_err() && quiet && matches!(scenario.run, Run::InGuest(_));
        let detail = result.err().map(|e| format!("{e:#}"));
        if let Some(detail) = &detail {
            report += &self.explain(detail);
        }
        // in one piece, since other lanes report too
        print!("{report}");
        if detail.is_some() || scenario.guest == Guest::Ends {
            self.end_guest();
        }
        Outcome {
            scenario: scenario.name,
            core,
            passed: detail.is_none(),
            unsteady: false,
            may_be_chance,
            seconds,
            cpu_seconds,
            attempts,
            figures,
            detail,
            log,
        }
    }

    /// Of this lane's guests so far; none of a bed that is gone.
    fn cpu_seconds(&self) -> f64 {
        self.bed.as_ref().map_or(0.0, |bed| bed.cpu_seconds())
    }

    fn attempt(&mut self, scenario: &Scenario, core: Core, figures: &mut String) -> Result<()> {
        let common = self.common;
        let run = match scenario.run {
            Run::InGuest(run) => run,
            Run::Race(kind) => {
                self.end_guest();
                return races::run(common, scenario.name, kind, core, figures);
            }
            Run::Alone(run) => {
                // what it starts may need all of the memory
                self.end_guest();
                self.bed = None;
                return run(&mut AloneContext {
                    common,
                    core,
                    timeout: scenario.timeout,
                    figures,
                });
            }
        };
        let machine = scenario.machine;
        let fresh = self.vm.as_ref().is_none_or(|vm| !is(vm, machine, core));
        let vm = self.guest(machine, core)?;
        let seen = if fresh { 0 } else { vm.console.len() };
        let rounds = common.rounds.map_or(1, |n| n.div_ceil(USUAL_ROUNDS));
        let factor = rounds * slower(&common.paths);
        vm.set_slower(slower(&common.paths));
        vm.set_deadline(Instant::now() + scenario.timeout * factor);
        run(&mut Context {
            vm,
            bus_version: common.bus_version.unwrap_or(BusVersion::V5_3),
            paths: &common.paths,
            notes: &common.notes,
            rounds: common.rounds.unwrap_or(USUAL_ROUNDS),
            figures,
        })?;
        let unexpected = vm.console.trouble(seen, scenario.expected_trouble);
        unexpected.map_or(Ok(()), |line| Err(unmet("a quiet kernel log", line)))
    }

    /// Tells a failure of the guest from one of the bed: a guest is silent too when level 1 is stuck,
    /// and then the next one needs a new level 1.
    fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        match &self.bed {
            Some(bed) if !bed.answers() => {
                failure::bed(format!("the bed is stuck or gone; before that: {error:#}"))
            }
            _ => error,
        }
    }

    /// What a person needs to see of a failure.
    fn explain(&self, detail: &str) -> String {
        let mut text = format!("    {detail}\n");
        let Some(vm) = &self.vm else {
            return text + &format!("    logs: {}\n", self.common.paths.logs.display());
        };
        let _ = writeln!(text, "    console: {}", vm.console.path().display());
        let _ = writeln!(text, "    host:    {}", vm.host.path().display());
        let tail = vm.console.tail(TAIL);
        if !tail.is_empty() {
            text += "    last lines of the console:\n";
        }
        for line in tail {
            let _ = writeln!(text, "      {line}");
        }
        text
    }

    /// Put the guest away, keeping its kernel log.
    pub(crate) fn end_guest(&mut self) {
        let Some(vm) = self.vm.take() else { return };
        vm.set_deadline(Instant::now() + Duration::from_secs(10));
        if let Ok(log) = vm.dmesg() {
            let path = vm
                .console
                .path()
                .to_string_lossy()
                .replace("-console.log", "-dmesg.log");
            // A help for people only.
            let _ = fs::write(path, log);
        }
    }
}

impl Outcome {
    /// One line about a failure, for the end of a long report.
    pub(crate) fn failure(&self) -> Option<String> {
        let detail = self.detail.as_ref()?;
        let detail: String = detail.replace('\n', " | ").chars().take(FAILURE).collect();
        let log = self.log.as_deref().unwrap_or("no console");
        let seconds = self.seconds;
        Some(format!(
            "{} [{}] after {seconds:.1} s: {detail} ({log})\n",
            self.scenario, self.core
        ))
    }
}
