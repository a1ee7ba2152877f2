// SPDX-License-Identifier: GPL-2.0

//! Runs scenarios, several guests at a time where there is room for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{bail, Context as _, Result};

use crate::bed::Pace;
use crate::drivers::Core;
use crate::image::Images;
use crate::lane::{Common, Lane, Outcome};
use crate::level::Level;
use crate::paths::Paths;
use crate::prepared;
use crate::races;
use crate::races::Seeds;
use crate::scenarios::{all, Notes, Run, Scenario};
use crate::schedule::Schedule;

/// More guests than this at a time are not tried.
const MOST_GUESTS: usize = 4;

/// What a person chose.
pub(crate) struct Selection {
    /// Names of scenarios or their first words; none means all.
    pub(crate) scenarios: Vec<String>,
    /// Whose drivers.
    pub(crate) cores: Vec<Core>,
    /// How many guests at a time; `None`: as many as there is room for.
    pub(crate) guests: Option<usize>,
}

/// Make the images, for all guests of this run; their logs are those of the last run.
pub(crate) fn prepare(paths: Paths, level: Level, pace: Pace, seeds: Seeds) -> Result<Common> {
    fs::create_dir_all(&paths.logs)?;
    fs::create_dir_all(&paths.build)?;
    for entry in fs::read_dir(&paths.logs)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(Common {
        images: Mutex::new(Images::build(&paths)?),
        paths,
        level,
        pace,
        notes: Mutex::new(Notes::new()),
        beds: AtomicU32::new(0),
        boots: AtomicU32::new(0),
        snapshots: races::Snapshots::default(),
        seeds,
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
    let schedule = Schedule::new(&selection.cores, &chosen);
    let lanes = match selection.guests {
        Some(guests) => guests.max(1),
        None => room(common.level),
    };
    println!("guests at a time: {lanes}");
    let start = Instant::now();
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                let mut lane = Lane::new(common);
                while let Some(unit) = schedule.next() {
                    for scenario in &unit.scenarios {
                        let outcome = lane.scenario(scenario, unit.core);
                        let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                        outcomes.push(outcome);
                    }
                    lane.end_guest();
                    schedule.done(&unit);
                }
            });
        }
    });
    let outcomes = outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    print!("{}", groups(&outcomes));
    println!("scenarios: {} s", start.elapsed().as_secs());
    write_results(&common.paths, &outcomes)?;
    Ok(outcomes.iter().all(|o| o.passed))
}

/// Whether a person's word means this scenario: its name, or the first words of it.
fn means(word: &str, scenario: &str) -> bool {
    scenario
        .strip_prefix(word)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The scenarios that are meant, in the table's order; each word must mean some. Without a word,
/// those of the level.
fn named(words: &[String], level: Level) -> Result<Vec<&'static Scenario>> {
    for word in words {
        if !all().any(|s| means(word, s.name)) {
            let names: Vec<_> = all().map(|s| s.name).collect();
            bail!("no scenario '{word}'; there are: {}", names.join(", "));
        }
    }
    Ok(all()
        .filter(|s| match words {
            [] => s.level.is_none_or(|l| l == level),
            words => words.iter().any(|w| means(w, s.name)),
        })
        .collect())
}

/// Those that the guest's kernel can run.
fn fit(common: &Common, named: Vec<&'static Scenario>) -> Result<Vec<&'static Scenario>> {
    let config = common.paths.guest_kernel.join("build/.config");
    let config =
        fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
    let (fit, unfit): (Vec<_>, Vec<_>) = named.into_iter().partition(|s| {
        s.kernel_has
            .is_none_or(|needed| config.lines().any(|l| l == needed))
    });
    if let ([], [first, ..]) = (&fit[..], &unfit[..]) {
        bail!(
            "'{}' needs a kernel with {}; 'make test KERNEL=debug' has one",
            first.name,
            first.kernel_has.unwrap_or_default()
        );
    }
    Ok(fit)
}

/// How many guests there is room for: level 1 takes all of a machine. Elsewhere it is one more than there
/// are CPUs, since guests wait for time-outs and for the harness, too.
fn room(level: Level) -> usize {
    match level {
        Level::Nested => 1,
        Level::Direct | Level::Emulated => {
            thread::available_parallelism().map_or(1, |n| (n.get() + 1).min(MOST_GUESTS))
        }
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
    let failures: String = outcomes.iter().filter_map(Outcome::failure).collect();
    fs::write(paths.logs.join("scenario-failures"), failures)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{means, named};
    use crate::level::Level;

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
    }
}
