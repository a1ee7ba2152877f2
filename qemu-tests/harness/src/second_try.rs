// SPDX-License-Identifier: GPL-2.0

//! A run of everything tries again what failed, with the machine to itself: what fails once beside other
//! guests must not hide what the hundreds of others say. A complaint of a guest's kernel is a defect however
//! seldom it is, and what starts machines itself, races among it, does not depend on other guests: when
//! one of those fails, nothing is tried again. It is said at the end what passed only so.

use crate::drivers::Core;
use crate::lane::{Lane, Outcome};
use crate::schedule::Unit;

/// When more than this failed, it is no chance.
const MOST: usize = 2;

/// What failed: all that ran in its guest up to it, and which of the outcomes it is.
pub(crate) struct Failed {
    unit: Unit,
    outcome: usize,
}

impl Failed {
    /// The scenario at this place of the unit has failed.
    pub(crate) fn new(unit: &Unit, at: usize, outcome: usize) -> Self {
        let scenarios = unit.scenarios.iter().take(at + 1).copied().collect();
        let unit = Unit {
            core: unit.core,
            scenarios,
        };
        Self { unit, outcome }
    }
}

/// Try again what has failed, if that is little. Nothing else may run meanwhile.
pub(crate) fn run(lane: &mut Lane<'_>, failed: &[Failed], outcomes: &mut [Outcome]) {
    if failed.is_empty() {
        return;
    }
    if failed.len() > MOST {
        println!("{} failed: no second try", failed.len());
        return;
    }
    for one in failed {
        let Some(outcome) = outcomes.get_mut(one.outcome) else {
            continue;
        };
        println!("{} [{}] again:", outcome.scenario, outcome.core);
        outcome.unsteady = passes(lane, &one.unit);
        outcome.passed = outcome.unsteady;
    }
}

/// Whether all of it passes, in a guest that nothing else has run in.
fn passes(lane: &mut Lane<'_>, unit: &Unit) -> bool {
    let core: Core = unit.core;
    let passed = unit
        .scenarios
        .iter()
        .all(|scenario| lane.scenario(scenario, core).passed);
    lane.end_guest();
    passed
}

#[cfg(test)]
mod tests {
    use super::Failed;
    use crate::drivers::Core;
    use crate::scenarios;
    use crate::schedule::Unit;

    #[test]
    fn what_ran_before_it_in_its_guest_runs_before_it_again() {
        let unit = Unit {
            core: Core::Rust,
            scenarios: scenarios::all().take(4).collect(),
        };
        let names = |unit: &Unit| unit.scenarios.iter().map(|s| s.name).collect::<Vec<_>>();
        assert_eq!(names(&Failed::new(&unit, 2, 7).unit), names(&unit)[..3]);
        assert_eq!(names(&Failed::new(&unit, 0, 7).unit), names(&unit)[..1]);
    }
}
