// SPDX-License-Identifier: GPL-2.0

//! In which order scenarios run, when several guests run at once.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cpu_time::CpuTimes;
use crate::drivers::Core;
use crate::level::Level;
use crate::scenarios::{Run, Scenario};

/// Scenarios that run one after the other, in one guest as far as they leave it usable.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// Whose drivers.
    pub(crate) core: Core,
    /// The scenarios, all for the same kind of machine.
    pub(crate) scenarios: Vec<&'static Scenario>,
}

impl Unit {
    /// Whether the other one is the same with the drivers that are the reference.
    fn follows(&self, other: &Self) -> bool {
        self.core != Core::C
            && other.core == Core::C
            && self
                .scenarios
                .iter()
                .any(|s| other.scenarios.iter().any(|o| o.name == s.name))
    }

    /// Whether it needs all of the machine: its scenarios start machines themselves.
    fn is_alone(&self) -> bool {
        self.scenarios.iter().any(|s| runs_alone(s))
    }

    /// Whether the scenario runs in the same guest.
    fn takes(&self, scenario: &Scenario) -> bool {
        let in_guest = |s: &Scenario| matches!(s.run, Run::InGuest(_));
        in_guest(scenario)
            && self
                .scenarios
                .iter()
                .all(|s| in_guest(s) && s.machine == scenario.machine)
    }

    /// How long it may take at most: the nearest there is to how long it will take.
    fn weight(&self) -> u64 {
        self.scenarios.iter().map(|s| s.timeout.as_secs()).sum()
    }
}

/// Level 1 has most of the memory and all CPUs.
fn runs_alone(scenario: &Scenario) -> bool {
    matches!(scenario.run, Run::Alone(_)) && scenario.level == Some(Level::Nested)
}

/// For how long, and which share of them, CPUs must have had nothing to do before one more guest starts.
const IDLE_FOR: Duration = Duration::from_secs(2);
const IDLE_SHARE: f64 = 0.25;

/// The units, for everybody who has a guest to run them in.
pub(crate) struct Schedule {
    /// So many run in any case; more only while CPUs are idle, since many guests do nothing but wait.
    sure: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<Unit>,
    running: Vec<Unit>,
    /// Since when it is known what the CPUs do.
    looked: Option<(Instant, CpuTimes)>,
}

impl State {
    fn has_room(&self, unit: &Unit) -> bool {
        self.running.is_empty() || !(unit.is_alone() || self.running.iter().any(Unit::is_alone))
    }

    /// Whether CPUs had nothing to do for a while. The next one who asks begins a while of its own.
    fn is_idle(&mut self) -> bool {
        let now = Instant::now();
        match self.looked {
            Some((since, _)) if now - since < IDLE_FOR => false,
            before => {
                let look = CpuTimes::look();
                self.looked = look.map(|look| (now, look));
                match (before, look) {
                    (Some((_, before)), Some(look)) => look.idle_since(before) >= IDLE_SHARE,
                    _ => false,
                }
            }
        }
    }
}

impl Schedule {
    /// C first, since it is the reference; of each core the longest first, so that none is left
    /// alone at the end. What needs all of the machine comes when nothing else is left.
    pub(crate) fn new(chosen: &[(Core, Vec<&'static Scenario>)], sure: usize) -> Self {
        let mut waiting = Vec::new();
        for (core, scenarios) in chosen {
            let mut units = units(*core, scenarios);
            // stable: what weighs the same stays in the table's order
            units.sort_by_key(|u| std::cmp::Reverse(u.weight()));
            waiting.extend(units);
        }
        waiting.sort_by_key(Unit::is_alone);
        Self {
            sure,
            state: Mutex::new(State {
                waiting: waiting.into(),
                running: Vec::new(),
                looked: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// The next unit that may run now. Waits for one; `None` when there are no more.
    pub(crate) fn next(&self) -> Option<Unit> {
        let mut state = self.lock();
        loop {
            let ready = state.waiting.iter().position(|unit| {
                let mut before = state.running.iter().chain(&state.waiting);
                !before.any(|other| unit.follows(other)) && state.has_room(unit)
            });
            let starts = ready.filter(|_| state.running.len() < self.sure || state.is_idle());
            if let Some(unit) = starts.and_then(|at| state.waiting.remove(at)) {
                state.looked = None;
                state.running.push(unit.clone());
                return Some(unit);
            }
            if state.waiting.is_empty() {
                return None;
            }
            (state, _) = self
                .changed
                .wait_timeout(state, IDLE_FOR)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A unit has ended.
    pub(crate) fn done(&self, unit: &Unit) {
        let mut state = self.lock();
        state
            .running
            .retain(|u| u.core != unit.core || u.scenarios[0].name != unit.scenarios[0].name);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Neighbours on the same kind of machine share a unit, unless they have no machine.
fn units(core: Core, scenarios: &[&'static Scenario]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for scenario in scenarios {
        if scenario.only.is_some_and(|only| !only.contains(&core)) {
            continue;
        }
        match units.last_mut() {
            Some(unit) if unit.takes(scenario) => {
                unit.scenarios.push(scenario);
            }
            _ => units.push(Unit {
                core,
                scenarios: vec![scenario],
            }),
        }
    }
    units
}

#[cfg(test)]
mod tests {
    use super::{units, Schedule};
    use crate::drivers::Core;
    use crate::scenarios::{self, Scenario};

    fn all() -> Vec<&'static Scenario> {
        scenarios::all().collect()
    }

    fn both(scenarios: &[&'static Scenario]) -> [(Core, Vec<&'static Scenario>); 2] {
        [Core::C, Core::Rust].map(|core| (core, scenarios.to_vec()))
    }

    #[test]
    fn each_scenario_runs_once_for_each_core_it_is_for() {
        for core in [Core::C, Core::Rust] {
            let mut names: Vec<_> = units(core, &all())
                .iter()
                .flat_map(|u| u.scenarios.iter().map(|s| s.name))
                .collect();
            let mut wanted: Vec<_> = all()
                .into_iter()
                .filter(|s| s.only.is_none_or(|only| only.contains(&core)))
                .map(|s| s.name)
                .collect();
            names.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(names, wanted);
        }
    }

    #[test]
    fn neighbours_share_a_guest() {
        for unit in units(Core::C, &all()) {
            assert!(unit
                .scenarios
                .windows(2)
                .all(|w| w[0].machine == w[1].machine));
        }
    }

    #[test]
    fn rust_waits_for_the_same_scenarios_of_c() {
        let chosen: Vec<_> = scenarios::all()
            .filter(|s| s.name == "device-list")
            .collect();
        let schedule = Schedule::new(&both(&chosen), 2);
        let c = schedule.next().unwrap();
        assert_eq!(c.core, Core::C);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| schedule.next());
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!second.is_finished(), "Rust began before C had ended");
            schedule.done(&c);
            let rust = second.join().unwrap().unwrap();
            assert_eq!(rust.core, Core::Rust);
            schedule.done(&rust);
        });
        assert!(schedule.next().is_none());
    }

    #[test]
    fn what_needs_all_of_the_machine_is_alone_and_last() {
        let names = ["balloon", "storage-crash", "levels-agree"];
        let chosen: Vec<_> = scenarios::all()
            .filter(|s| names.contains(&s.name))
            .collect();
        let schedule = Schedule::new(&[(Core::C, chosen)], 2);
        let (one, two) = (schedule.next().unwrap(), schedule.next().unwrap());
        assert!(!one.is_alone() && !two.is_alone());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| schedule.next());
            schedule.done(&one);
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!third.is_finished(), "it began beside another one");
            schedule.done(&two);
            assert!(third.join().unwrap().unwrap().is_alone());
        });
    }
}
