// SPDX-License-Identifier: GPL-2.0

//! Runs scenarios in guests, and reports.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, Context as _, Result};
use serde::Serialize;

use crate::bed::{Bed, Pace};
use crate::drivers::Core;
use crate::failure::{self, is_bed, unmet};
use crate::image::Images;
use crate::level::Level;
use crate::machine::Machine;
use crate::paths::Paths;
use crate::scenarios::{Context, Guest, Notes, Scenario, ALL};
use crate::vm::Vm;

/// The lines of the console that a failure shows.
const TAIL: usize = 25;

/// The characters of a failure's text that the last lines of the report repeat.
const FAILURE: usize = 400;

/// Whether a person's word means this scenario: its name, or the first words of it.
fn names(word: &str, scenario: &str) -> bool {
    scenario
        .strip_prefix(word)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// How often a scenario is tried while the bed fails it.
const ATTEMPTS: u32 = 3;

fn is(vm: &Vm, machine: &Machine, core: Core) -> bool {
    vm.core == core && vm.machine == machine
}

/// How one scenario went, for `results.json`.
#[derive(Serialize)]
struct Outcome {
    scenario: &'static str,
    core: Core,
    passed: bool,
    seconds: f64,
    /// More than one after a failure of the bed.
    attempts: u32,
    /// What it counted or measured.
    figures: Option<String>,
    /// Why it failed.
    detail: Option<String>,
    /// The guest's console.
    log: Option<String>,
}

/// What a person chose.
pub(crate) struct Selection {
    /// One scenario, or those that begin with a word, or all.
    pub(crate) scenario: Option<String>,
    /// Whose drivers.
    pub(crate) cores: Vec<Core>,
}

/// The machines, and what is known so far.
pub(crate) struct Runner {
    paths: Paths,
    images: Images,
    level: Level,
    pace: Pace,
    bed: Option<Arc<Bed>>,
    vm: Option<Vm>,
    beds: u32,
    boots: u32,
}

impl Runner {
    /// Make the images; machines start when they are needed.
    pub(crate) fn new(paths: Paths, level: Level, pace: Pace) -> Result<Self> {
        // The logs are those of the last run.
        fs::create_dir_all(&paths.logs)?;
        for entry in fs::read_dir(&paths.logs)? {
            fs::remove_file(entry?.path())?;
        }
        let images = Images::build(&paths)?;
        Ok(Self {
            paths,
            images,
            level,
            pace,
            bed: None,
            vm: None,
            beds: 0,
            boots: 0,
        })
    }

    /// Run the selection; gives whether all passed.
    pub(crate) fn run(&mut self, selection: &Selection) -> Result<bool> {
        let kernel = self.paths.guest_kernel.join("build/.config");
        let kernel = fs::read_to_string(&kernel)
            .with_context(|| format!("cannot read {}", kernel.display()))?;
        let named: Vec<&Scenario> = ALL
            .iter()
            .filter(|s| {
                selection
                    .scenario
                    .as_deref()
                    .is_none_or(|name| names(name, s.name))
            })
            .collect();
        let (chosen, unfit): (Vec<_>, Vec<_>) = named.into_iter().partition(|s| {
            s.kernel_has
                .is_none_or(|needed| kernel.lines().any(|l| l == needed))
        });
        if let ([], [first, ..]) = (&chosen[..], &unfit[..]) {
            bail!(
                "'{}' needs a kernel with {}; 'make test KERNEL=debug' has one",
                first.name,
                first.kernel_has.unwrap_or_default()
            );
        }
        if chosen.is_empty() {
            let names: Vec<_> = ALL.iter().map(|s| s.name).collect();
            bail!("no such scenario; there are: {}", names.join(", "));
        }
        let mut outcomes = Vec::new();
        let mut notes = Notes::new();
        for core in &selection.cores {
            if *core == Core::Rust && !self.paths.modules.join("hv_vmbus_rust.ko").exists() {
                bail!(
                    "no modules in {}: 'make modules' builds them",
                    self.paths.modules.display()
                );
            }
            for scenario in chosen
                .iter()
                .filter(|s| s.only.is_none_or(|only| only == *core))
            {
                let outcome = self.scenario(scenario, *core, &mut notes);
                outcomes.push(outcome);
            }
            self.end_guest();
        }
        self.bed = None;
        self.write_results(&outcomes)?;
        Ok(outcomes.iter().all(|o| o.passed))
    }

    /// Do something in a guest that nothing else has run in. A failure of the bed is tried again,
    /// visibly; a driver's is not.
    pub(crate) fn in_new_guest<T>(
        &mut self,
        machine: &'static Machine,
        core: Core,
        mut what: impl FnMut(&Vm) -> Result<T>,
    ) -> Result<T> {
        let mut attempts = 1;
        loop {
            self.end_guest();
            let result = self.guest(machine, core).and_then(&mut what);
            match result.map_err(|e| self.blame(e)) {
                Err(e) if is_bed(&e) && attempts < ATTEMPTS => {
                    println!("  {}: {e:#}; trying again", machine.name);
                    attempts += 1;
                }
                result => {
                    self.end_guest();
                    return result;
                }
            }
        }
    }

    /// Where things are.
    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Show something in a guest; gives whether it went well.
    pub(crate) fn show(&mut self, core: Core, what: fn(&Vm) -> Result<()>) -> bool {
        let mut attempts = 1;
        let result = loop {
            let result = self.guest(&Machine::BALLOON, core).and_then(what);
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
            self.explain(&format!("{e:#}"));
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
            self.images.add(machine.initramfs, &self.paths)?;
            if self.bed.as_ref().is_none_or(|bed| bed.is_gone()) {
                self.bed = None;
                self.beds += 1;
                let bed = Bed::start(self.level, self.pace, self.beds, &self.paths, &self.images)?;
                self.bed = Some(Arc::new(bed));
            }
            let bed = self.bed.as_ref().context("just started")?;
            self.boots += 1;
            let name = format!("guest{:02}-{core}-{}", self.boots, machine.name).to_lowercase();
            let vm = Vm::boot(bed, &self.paths, &self.images, machine, core, &name)?;
            self.vm = Some(vm);
        }
        self.vm.as_ref().context("just booted")
    }

    fn scenario(&mut self, scenario: &'static Scenario, core: Core, notes: &mut Notes) -> Outcome {
        let start = Instant::now();
        let mut attempts = 0;
        let mut figures = String::new();
        let result = loop {
            attempts += 1;
            figures.clear();
            let result = self
                .attempt(scenario, core, notes, &mut figures)
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
        let label = format!("{} [{core}]", scenario.name);
        let again = match attempts {
            1 => String::new(),
            n => format!(" (try {n})"),
        };
        println!(
            "  {label:30} {:6} {seconds:6.1} s  {}{again}",
            if result.is_ok() { "ok" } else { "FAILED" },
            scenario.about
        );
        let figures = Some(figures).filter(|f| !f.is_empty());
        if let Some(figures) = &figures {
            println!("    {figures}");
        }
        let log = self
            .vm
            .as_ref()
            .map(|vm| vm.console.path().display().to_string());
        let detail = result.err().map(|e| format!("{e:#}"));
        if let Some(detail) = &detail {
            self.explain(detail);
        }
        if detail.is_some() || scenario.guest == Guest::Ends {
            self.end_guest();
        }
        Outcome {
            scenario: scenario.name,
            core,
            passed: detail.is_none(),
            seconds,
            attempts,
            figures,
            detail,
            log,
        }
    }

    fn attempt(
        &mut self,
        scenario: &Scenario,
        core: Core,
        notes: &mut Notes,
        figures: &mut String,
    ) -> Result<()> {
        let machine = scenario.machine;
        let fresh = self.vm.as_ref().is_none_or(|vm| !is(vm, machine, core));
        let vm = self.guest(machine, core)?;
        let seen = if fresh { 0 } else { vm.console.len() };
        vm.set_deadline(Instant::now() + scenario.timeout);
        (scenario.run)(&mut Context { vm, notes, figures })?;
        let unexpected = vm.console.trouble(seen, scenario.expected_trouble);
        unexpected.map_or(Ok(()), |line| Err(unmet("a quiet kernel log", line)))
    }

    /// Tells a failure of the guest from one of the bed: a guest is silent too when level 1 is stuck,
    /// and then the next one needs a new level 1.
    fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        match &self.bed {
            Some(bed) if !bed.answers() => {
                failure::bed(format!("level 1 is stuck or gone; before that: {error:#}"))
            }
            _ => error,
        }
    }

    /// What a person needs to see of a failure.
    fn explain(&self, detail: &str) {
        println!("    {detail}");
        let Some(vm) = &self.vm else {
            println!("    logs: {}", self.paths.logs.display());
            return;
        };
        println!("    console: {}", vm.console.path().display());
        println!("    host:    {}", vm.host.path().display());
        let tail = vm.console.tail(TAIL);
        if !tail.is_empty() {
            println!("    last lines of the console:");
        }
        for line in tail {
            println!("      {line}");
        }
    }

    /// Put the guest away, keeping its kernel log.
    fn end_guest(&mut self) {
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

    fn write_results(&self, outcomes: &[Outcome]) -> Result<()> {
        let path = self.paths.logs.join("results.json");
        fs::write(&path, serde_json::to_string_pretty(outcomes)?)?;
        let passed = outcomes.iter().filter(|o| o.passed).count();
        let counts = format!("{passed} {} 0\n", outcomes.len() - passed);
        fs::write(self.paths.logs.join("scenario-counts"), counts)?;
        let failures: String = outcomes.iter().filter_map(Outcome::failure).collect();
        fs::write(self.paths.logs.join("scenario-failures"), failures)?;
        Ok(())
    }
}

impl Outcome {
    /// One line about a failure, for the end of a long report.
    fn failure(&self) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_first_word_names_a_group() {
        assert!(names("balloon", "balloon"));
        assert!(names("storage", "storage-probe"));
        assert!(!names("stor", "storage-probe"));
        assert!(!names("storage-probe", "storage"));
    }
}
