// SPDX-License-Identifier: GPL-2.0

//! What the samples say: medians and spreads, ratios, and the goals.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::measure::Sample;
use super::plot::{Bar, Group, Panel};
use super::variant::{BACKENDS, VARIANTS};
use super::Reads;

/// The Rust driver shall need at most this share of the C driver's instructions for a read.
const GOAL_C: f64 = 0.85;
/// And give at least so many times the reads per second and instruction of emulated IDE.
const GOAL_IDE: f64 = 6.0;
/// Both where requests queue.
const GOAL_DEPTH: usize = 32;

/// A figure of several boots.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    /// The one in the middle.
    pub(super) median: f64,
    /// The least.
    pub(super) min: f64,
    /// The greatest.
    pub(super) max: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |n: usize| values.get(n).copied().unwrap_or(f64::NAN);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 0 {
            (at(half.wrapping_sub(1)) + at(half)) / 2.0
        } else {
            at(half)
        };
        Self {
            median,
            min: at(0),
            max: at(values.len().wrapping_sub(1)),
        }
    }

    /// [`Self::percent`], for people.
    pub(super) fn told(&self) -> String {
        if self.min == self.max {
            "equal".into()
        } else {
            format!("{:.3}%", self.percent())
        }
    }

    /// How far the extremes are apart, in percent.
    fn percent(&self) -> f64 {
        (self.max - self.min) / self.median * 100.0
    }
}

/// A figure of a sample.
pub(super) type Figure = fn(&Sample) -> f64;

/// Reads per second and instruction, of which only ratios mean something.
const MERIT: Figure = |s| s.iops / s.kernel;

/// The figures, for the results.
const FIGURES: [(&str, Figure); 10] = [
    ("iops", |s| s.iops),
    ("p50_us", |s| s.p50),
    ("p99_us", |s| s.p99),
    ("kernel_instructions", |s| s.kernel),
    ("floor_instructions", |s| s.floor),
    ("own_instructions", |s| s.own),
    ("user_instructions", |s| s.user),
    ("driver_instructions", |s| s.driver),
    ("doorbells", |s| s.doorbells),
    ("interrupts", |s| s.interrupts),
];

/// The figures, for the picture.
const PANELS: [(&str, Figure); 5] = [
    ("instructions of the guest's kernel per read", |s| s.kernel),
    ("of these above the floor", |s| s.own),
    ("in the driver and its bus", |s| s.driver),
    ("reads per second of the guest", |s| s.iops),
    (
        "latency of 99 % of the reads, microseconds of the guest",
        |s| s.p99,
    ),
];

/// All samples of one thing.
pub(super) struct Case<'a> {
    pub(super) variant: &'static str,
    pub(super) backend: &'static str,
    pub(super) depth: usize,
    samples: Vec<&'a Sample>,
}

impl Case<'_> {
    /// One figure of it.
    pub(super) fn figure(&self, figure: Figure) -> Spread {
        Spread::of(self.samples.iter().map(|s| figure(s)).collect())
    }
}

/// A goal, and what was found.
#[derive(Serialize)]
struct Goal {
    what: String,
    limit: f64,
    found: f64,
    met: bool,
}

/// What is known at the end.
pub(super) struct Report<'a> {
    /// What was measured, in order.
    pub(super) cases: Vec<Case<'a>>,
    samples: &'a [Sample],
}

impl<'a> Report<'a> {
    pub(super) fn new(samples: &'a [Sample], reads: &Reads) -> Self {
        let mut cases = Vec::new();
        for backend in BACKENDS {
            for (depth, _) in *reads {
                for variant in &VARIANTS {
                    let is = |s: &&Sample| {
                        (s.variant, s.backend, s.depth) == (variant.name, backend.name, depth)
                    };
                    cases.push(Case {
                        variant: variant.name,
                        backend: backend.name,
                        depth,
                        samples: samples.iter().filter(is).collect(),
                    });
                }
            }
        }
        cases.retain(|case| !case.samples.is_empty());
        Self { cases, samples }
    }

    /// How one variant compares with another in the same place; medians.
    fn ratio(&self, case: &Case<'_>, other: &str, figure: Figure) -> Option<f64> {
        let same =
            |c: &&Case<'_>| (c.variant, c.backend, c.depth) == (other, case.backend, case.depth);
        let other = self.cases.iter().find(same)?;
        Some(case.figure(figure).median / other.figure(figure).median)
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let rust = |c: &&Case<'_>| c.variant == "rust" && c.depth == GOAL_DEPTH;
        for case in self.cases.iter().filter(rust) {
            let place = format!("{} backend, depth {}", case.backend, case.depth);
            if let Some(found) = self.ratio(case, "c", |s| s.kernel) {
                goals.push(Goal {
                    what: format!("{place}: kernel instructions per read, Rust / C"),
                    limit: GOAL_C,
                    found,
                    met: found <= GOAL_C,
                });
            }
            if let Some(found) = self.ratio(case, "ide", MERIT) {
                goals.push(Goal {
                    what: format!("{place}: IOPS per kernel instruction, Rust / IDE"),
                    limit: GOAL_IDE,
                    found,
                    met: found >= GOAL_IDE,
                });
            }
        }
        goals
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        // a string takes whatever is written
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let mut place = None;
        for case in &self.cases {
            if place.replace((case.backend, case.depth)) != Some((case.backend, case.depth)) {
                writeln!(
                    out,
                    "\n{} backend, depth {}; floor: {:.0} instructions",
                    case.backend,
                    case.depth,
                    case.figure(|s| s.floor).median
                )?;
                writeln!(
                    out,
                    "  {:8}{:>8}{:>9}{:>9}{:>11}{:>8}{:>8}{:>8}{:>9}{:>11}{:>12}{:>10}",
                    "",
                    "IOPS",
                    "p50, us",
                    "p99, us",
                    "instr/read",
                    "spread",
                    "own",
                    "own / C",
                    "driver",
                    "doorbells",
                    "interrupts",
                    "x IDE",
                )?;
            }
            self.write_row(out, case)?;
        }
        writeln!(out)?;
        for goal in self.goals() {
            let met = if goal.met { "met" } else { "NOT MET" };
            let Goal {
                what, limit, found, ..
            } = goal;
            writeln!(out, "{met:8} {what}: {found:.3} (goal {limit})")?;
        }
        writeln!(
            out,
            "\nRandom reads of 4 KiB; medians of {} boots. Times are the guest's: 2 ns for each of its \
             instructions, and what it waits.\ninstr/read: of the guest's kernel; floor: those with a driver \
             that completes every command at once; own: the rest;\ndriver: in functions of the driver and its \
             bus. spread: of the boots. x IDE: IOPS per instruction, as a multiple of that of ide.",
            self.cases.iter().map(|c| c.samples.len()).max().unwrap_or(0),
        )
    }

    fn write_row(&self, out: &mut String, case: &Case<'_>) -> std::fmt::Result {
        let median = |figure: Figure| case.figure(figure).median;
        let kernel = case.figure(|s| s.kernel);
        let ratio = |found: Option<f64>| found.map_or("-".into(), |r| format!("{r:.3}"));
        writeln!(
            out,
            "  {:8}{:8.0}{:9.1}{:9.1}{:11.0}{:>8}{:8.0}{:>8}{:9.0}{:11.3}{:12.3}{:>10}",
            case.variant,
            median(|s| s.iops),
            median(|s| s.p50),
            median(|s| s.p99),
            kernel.median,
            kernel.told(),
            median(|s| s.own),
            ratio(self.ratio(case, "c", |s| s.own)),
            median(|s| s.driver),
            median(|s| s.doorbells),
            median(|s| s.interrupts),
            ratio(self.ratio(case, "ide", MERIT)),
        )
    }

    /// For a picture.
    pub(super) fn panels(&self) -> Vec<Panel> {
        PANELS
            .iter()
            .map(|(title, figure)| Panel {
                title,
                groups: self
                    .cases
                    .chunk_by(|a, b| (a.backend, a.depth) == (b.backend, b.depth))
                    .map(|cases| group(cases, *figure))
                    .collect(),
            })
            .collect()
    }

    /// For programs: all there is.
    pub(super) fn json(&self) -> Result<String> {
        let cases: Vec<_> = self
            .cases
            .iter()
            .map(|case| {
                let figures: serde_json::Map<_, _> = FIGURES
                    .iter()
                    .map(|(name, figure)| ((*name).to_owned(), json!(case.figure(*figure))))
                    .collect();
                json!({
                    "variant": case.variant, "backend": case.backend, "depth": case.depth,
                    "figures": figures,
                })
            })
            .collect();
        Ok(serde_json::to_string_pretty(&json!({
            "goals": self.goals(), "cases": cases, "samples": self.samples,
        }))?)
    }
}

/// The bars of one place.
fn group(cases: &[Case<'_>], figure: Figure) -> Group {
    let place = cases.first();
    Group {
        name: place.map_or_else(String::new, |c| format!("{}, depth {}", c.backend, c.depth)),
        bars: cases
            .iter()
            .map(|case| Bar {
                variant: case.variant,
                number: VARIANTS
                    .iter()
                    .position(|v| v.name == case.variant)
                    .unwrap_or(usize::MAX),
                value: case.figure(figure),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Spread};
    use crate::bench::measure::Sample;
    use crate::bench::plot;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).median, 2.0);
        let even = Spread::of(vec![99.0, 101.0]);
        assert_eq!((even.median, even.percent()), (100.0, 2.0));
    }

    #[test]
    fn each_variant_has_a_bar_in_each_panel() {
        let samples = [("rust", 10.0), ("c", 20.0), ("c", 22.0)].map(|(variant, value)| Sample {
            variant,
            backend: "null",
            depth: 1,
            reads: 1,
            instructions: 1,
            floor_instructions: 0,
            iops: value,
            p50: value,
            p99: value,
            kernel: value,
            floor: 0.0,
            own: value,
            user: value,
            driver: value,
            doorbells: value,
            interrupts: value,
            functions: Vec::new(),
        });
        let panels = Report::new(&samples, &[(1, 100), (32, 100)]).panels();
        let picture = plot::svg(&panels);
        assert_eq!(picture.matches("<rect x=").count(), 2 * super::PANELS.len());
        assert!(picture.contains(">21</text>"));
    }
}
