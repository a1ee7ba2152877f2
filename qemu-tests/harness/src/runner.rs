// SPDX-License-Identifier: GPL-2.0

//! Runs scenarios, several guests at a time where there is room for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{bail, Context as _, Result};

use crate::bed::Pace;
use crate::drivers::Core;
use crate::guest_files::field_kib;
use crate::image::Images;
use crate::known::Known;
use crate::lane::{Common, Lane, Outcome};
use crate::level::Level;
use crate::machine::BusVersion;
use crate::paths::Paths;
use crate::prepared;
use crate::races;
use crate::races::Seeds;
use crate::scenarios::{all, Notes, Run, Scenario, ONLY_NAMED, USUAL_ON_C};
use crate::schedule::Schedule;
use crate::second_try::{self, Failed};

/// More guests than this at a time are not tried, nor more than there is this much memory for.
const MOST_GUESTS: usize = 6;
const GUEST_KIB: u64 = 2 << 20;

/// What a person chose.
pub(crate) struct Selection {
    /// Names of scenarios or their first words; none means all.
    pub(crate) scenarios: Vec<String>,
    /// Whose drivers.
    pub(crate) cores: &'static [Core],
    /// Whether the Rust drivers on the C core run only what is usual for them.
    pub(crate) part_on_c: bool,
    /// How many guests at a time; `None`: as many as there is room for.
    pub(crate) guests: Option<usize>,
    /// Whether to run also what the C drivers are known to pass.
    pub(crate) again: bool,
}

/// What all guests of this run have in common.
pub(crate) fn prepare(paths: Paths, level: Level, pace: Pace, seeds: Seeds) -> Result<Common> {
    Ok(Common {
        images: Mutex::new(Images::new(&paths)?),
        paths,
        level,
        pace,
        notes: Mutex::new(Notes::new()),
        beds: AtomicU32::new(0),
        boots: AtomicU32::new(0),
        snapshots: races::Snapshots::default(),
        seeds,
        bus_version: None,
        rounds: None,
        states: prepared::States::default(),
    })
}

/// Run the selection; gives whether all passed.
pub(crate) fn run(common: &Common, selection: &Selection) -> Result<bool> {
    let chosen = fit(common, named(&selection.scenarios, common.level)?)?;
    if matches!(common.seeds, Seeds::One(_))
        && chosen.iter().any(|s| !matches!(s.run, Run::Race(_)))
    {
        bail!("SEED is for races: what else the harness does, it does by this machine's clock, which no seed repeats");
    }
    if selection.cores.contains(&Core::Rust)
        && !common.paths.modules.join("hv_vmbus_rust.ko").exists()
    {
        bail!(
            "no modules in {}: 'make modules' builds them",
            common.paths.modules.display()
        );
    }
    let known = Known::read(common)?;
    let chosen = selection.cores.iter().map(|core| {
        let mut chosen = chosen.clone();
        if *core == Core::RustOnC && selection.part_on_c {
            chosen.retain(|scenario| USUAL_ON_C.contains(&scenario.name));
        }
        (*core, chosen)
    });
    let mut chosen: Vec<_> = chosen.collect();
    // what a person names is run, and what is repeated otherwise than usual
    if selection.scenarios.is_empty() && !selection.again && common.rounds.is_none() {
        leave_out(&known, &mut chosen, common);
    }
    let known = Mutex::new(known);
    let room = match selection.guests {
        Some(guests) => guests.max(1)..=guests.max(1),
        None => room(common.level),
    };
    println!("guests at a time: {}", named_room(&room));
    let schedule = Schedule::new(&chosen, *room.start());
    let start = Instant::now();
    let results = Mutex::new((Vec::new(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..*room.end() {
            scope.spawn(|| {
                let mut lane = Lane::new(common);
                while let Some(unit) = schedule.next() {
                    for (at, scenario) in unit.scenarios.iter().enumerate() {
                        let outcome = lane.scenario(scenario, unit.core);
                        learn(&known, &outcome, common);
                        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                        let (outcomes, failed) = &mut *results;
                        if outcome.may_be_chance {
                            failed.push(Failed::new(&unit, at, outcomes.len()));
                        }
                        outcomes.push(outcome);
                    }
                    lane.end_guest();
                    schedule.done(&unit);
                }
            });
        }
    });
    let (mut outcomes, failed) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // who names or repeats scenarios looks for their failures
    let usual = selection.scenarios.is_empty() && !selection.again && common.rounds.is_none();
    if usual && failed.len() == outcomes.iter().filter(|o| !o.passed).count() {
        second_try::run(&mut Lane::new(common), &failed, &mut outcomes);
    }
    print!("{}", groups(&outcomes));
    println!("scenarios: {} s", start.elapsed().as_secs());
    write_results(&common.paths, &outcomes)?;
    Ok(outcomes.iter().all(|o| o.passed))
}

/// That it cannot be kept costs the next run time, and no more.
fn learn(known: &Mutex<Known>, outcome: &Outcome, common: &Common) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(e) = known.learn(outcome, common) {
        println!("  what has passed is not kept: {e:#}");
    }
}

/// What the C drivers have passed before need not run again.
fn leave_out(known: &Known, chosen: &mut [(Core, Vec<&'static Scenario>)], common: &Common) {
    for (_, scenarios) in chosen.iter_mut().filter(|(core, _)| *core == Core::C) {
        let all = scenarios.len();
        scenarios.retain(|scenario| !known.passed(scenario, common));
        if scenarios.len() < all {
            println!(
                "{} scenarios have passed before with the C drivers and the same kernel, QEMU and harness, and \
                 do not run again (AGAIN=1: they do)",
                all - scenarios.len()
            );
        }
    }
}

/// Whether a person's word means this scenario: its name, or the first words of it.
fn means(word: &str, scenario: &str) -> bool {
    scenario
        .strip_prefix(word)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The scenarios that are meant, in the table's order; each word must mean some. Without a word,
/// those of the level but for [`ONLY_NAMED`].
fn named(words: &[String], level: Level) -> Result<Vec<&'static Scenario>> {
    for word in words {
        if !all().any(|s| means(word, s.name)) {
            let names: Vec<_> = all().map(|s| s.name).collect();
            bail!("no scenario '{word}'; there are: {}", names.join(", "));
        }
    }
    Ok(all()
        .filter(|s| match words {
            [] => s.level.is_none_or(|l| l == level) && !ONLY_NAMED.contains(&s.name),
            // by all of its name, not by that of its group
            words if ONLY_NAMED.contains(&s.name) => words.iter().any(|w| w == s.name),
            words => words.iter().any(|w| means(w, s.name)),
        })
        .collect())
}

/// Those that the guest's kernel can run, and that are about something that the hosts can do.
fn fit(common: &Common, named: Vec<&'static Scenario>) -> Result<Vec<&'static Scenario>> {
    let version = common.bus_version.unwrap_or(BusVersion::V5_3);
    let (named, newer): (Vec<_>, Vec<_>) = named.into_iter().partition(|s| s.since <= version);
    if let ([], [first, ..]) = (&named[..], &newer[..]) {
        bail!(
            "'{}' is about version {} of the protocol",
            first.name,
            first.since
        );
    }
    for scenario in newer {
        println!("{} is about version {}", scenario.name, scenario.since);
    }
    let config = common.paths.guest_kernel.join("build/.config");
    let config =
        fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
    let (fit, unfit): (Vec<_>, Vec<_>) = named.into_iter().partition(|s| {
        s.kernel_has
            .is_none_or(|needed| config.lines().any(|l| l == needed))
    });
    if let ([], [first, ..]) = (&fit[..], &unfit[..]) {
        bail!(
            "'{}' needs a kernel with {}; KERNEL chooses another one of qemu-tests/kernels",
            first.name,
            first.kernel_has.unwrap_or_default()
        );
    }
    for scenario in unfit {
        let needed = scenario.kernel_has.unwrap_or_default();
        println!("{} needs a kernel with {needed}", scenario.name);
    }
    Ok(fit)
}

/// How many guests there is room for: in any case, and while the others do nothing but wait for time-outs.
/// Level 1 takes all of a machine.
fn room(level: Level) -> RangeInclusive<usize> {
    let available = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| field_kib(&text, "MemAvailable"));
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    match level {
        Level::Nested => 1..=1,
        Level::Direct | Level::Emulated => room_for(cpus, available.unwrap_or(0)),
    }
}

fn room_for(cpus: usize, available_kib: u64) -> RangeInclusive<usize> {
    let memory = usize::try_from(available_kib / GUEST_KIB).unwrap_or(MOST_GUESTS);
    let most = memory.clamp(1, MOST_GUESTS);
    cpus.min(most)..=most
}

fn named_room(room: &RangeInclusive<usize>) -> String {
    if room.start() == room.end() {
        room.start().to_string()
    } else {
        format!("{}, up to {} while CPUs are idle", room.start(), room.end())
    }
}

/// How long each group of scenarios took, by the first word of their names.
fn groups(outcomes: &[Outcome]) -> String {
    let mut groups: BTreeMap<(Core, &str), (usize, f64)> = BTreeMap::new();
    for outcome in outcomes {
        let word = outcome.scenario.split('-').next().unwrap_or_default();
        let word = if all().filter(|s| means(word, s.name)).count() > 1 {
            word
        } else {
            "core"
        };
        let group = groups.entry((outcome.core, word)).or_default();
        group.0 += 1;
        group.1 += outcome.seconds;
    }
    let mut text = String::new();
    for ((core, word), (count, seconds)) in groups {
        let label = format!("{word} [{core}]");
        let _ = writeln!(text, "  {label:30} {count:3} scenarios, {seconds:.0} s");
    }
    text
}

fn write_results(paths: &Paths, outcomes: &[Outcome]) -> Result<()> {
    let path = paths.logs.join("results.json");
    fs::write(&path, serde_json::to_string_pretty(outcomes)?)?;
    let passed = outcomes.iter().filter(|o| o.passed).count();
    let counts = format!("{passed} {} 0\n", outcomes.len() - passed);
    fs::write(paths.logs.join("scenario-counts"), counts)?;
    for (file, unsteady) in [("scenario-failures", false), ("scenario-unsteady", true)] {
        let which = outcomes.iter().filter(|o| o.unsteady == unsteady);
        let lines: String = which.filter_map(Outcome::failure).collect();
        fs::write(paths.logs.join(file), lines)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{means, named, room_for};
    use crate::level::Level;

    #[test]
    fn memory_and_cpus_limit_the_guests() {
        assert_eq!(room_for(2, 20 << 20), 2..=6);
        assert_eq!(room_for(2, 7 << 20), 2..=3);
        assert_eq!(room_for(16, 64 << 20), 6..=6);
        assert_eq!(room_for(2, 0), 1..=1);
    }

    #[test]
    fn a_first_word_names_a_group() {
        assert!(means("balloon", "balloon"));
        assert!(means("storage", "storage-probe"));
        assert!(!means("stor", "storage-probe"));
        assert!(!means("storage-probe", "storage"));
    }

    #[test]
    fn each_word_must_mean_something() {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let named = |list: &[&str]| named(&words(list), Level::Emulated);
        assert_eq!(named(&["balloon", "reload"]).unwrap().len(), 2);
        assert!(named(&["balloon", "baloon"]).is_err());
        assert!(named(&[]).unwrap().iter().all(|s| s.name != "direct-level"));
        assert_eq!(named(&["direct-level"]).unwrap().len(), 1);
        let long = |list| {
            named(list)
                .unwrap()
                .iter()
                .any(|s| s.name == "net-selftests-long")
        };
        assert!(!long(&[]) && !long(&["net", "net-selftests"]));
        assert!(long(&["net-selftests-long"]));
    }
}
