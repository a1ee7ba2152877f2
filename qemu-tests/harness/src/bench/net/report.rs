// SPDX-License-Identifier: GPL-2.0

//! What the samples say: medians and spreads, ratios, and the goals.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::measure::{Sample, PLACES};
use super::variant::VARIANTS;
use crate::bench::plot::{Bar, Group, Panel};
use crate::bench::report::Spread;

/// The Rust driver shall need at most this share of the C driver's instructions for a short frame.
const GOAL_C: f64 = 0.75;
/// And of those above the floor.
const GOAL_OWN: f64 = 0.6;
/// And move at least so many times the frames of e1000e in as many instructions.
const GOAL_E1000E: f64 = 6.0;
/// All of them for these.
const GOAL_PLACES: [&str; 2] = ["tx-64", "rx-64"];

type Figure = fn(&Sample) -> f64;

/// The figures, for the results.
const FIGURES: [(&str, Figure); 6] = [
    ("kernel_instructions", |s| s.kernel),
    ("floor_instructions", |s| s.floor),
    ("own_instructions", |s| s.own),
    ("driver_instructions", |s| s.driver),
    ("doorbells", |s| s.doorbells),
    ("interrupts", |s| s.interrupts),
];

/// The figures, for the picture.
const PANELS: [(&str, Figure); 3] = [
    ("instructions of the guest's kernel per frame", |s| s.kernel),
    ("of these above the floor", |s| s.own),
    ("in the driver and its bus", |s| s.driver),
];

/// All samples of one thing.
struct Case<'a> {
    variant: &'static str,
    place: &'static str,
    samples: Vec<&'a Sample>,
}

impl Case<'_> {
    fn figure(&self, figure: Figure) -> Spread {
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
    cases: Vec<Case<'a>>,
    samples: &'a [Sample],
}

impl<'a> Report<'a> {
    pub(super) fn new(samples: &'a [Sample]) -> Self {
        let mut cases = Vec::new();
        for place in PLACES {
            for variant in &VARIANTS {
                let is = |s: &&Sample| (s.variant, s.place) == (variant.name, place.name);
                cases.push(Case {
                    variant: variant.name,
                    place: place.name,
                    samples: samples.iter().filter(is).collect(),
                });
            }
        }
        cases.retain(|case| !case.samples.is_empty());
        Self { cases, samples }
    }

    /// How one variant compares with another in the same place; medians.
    fn ratio(&self, case: &Case<'_>, other: &str, figure: Figure) -> Option<f64> {
        let same = |c: &&Case<'_>| (c.variant, c.place) == (other, case.place);
        let other = self.cases.iter().find(same)?;
        Some(case.figure(figure).median / other.figure(figure).median)
    }

    /// How many times another's frames it moves in as many instructions.
    fn times(&self, case: &Case<'_>, other: &str) -> Option<f64> {
        Some(1.0 / self.ratio(case, other, |s| s.kernel)?)
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let counts = |c: &&Case<'_>| c.variant == "rust" && GOAL_PLACES.contains(&c.place);
        for case in self.cases.iter().filter(counts) {
            let mut add = |what: &str, limit: f64, found: Option<f64>, most: bool| {
                if let Some(found) = found {
                    goals.push(Goal {
                        what: format!("{}: {what}", case.place),
                        limit,
                        found,
                        met: if most { found <= limit } else { found >= limit },
                    });
                }
            };
            let kernel = self.ratio(case, "c", |s| s.kernel);
            add(
                "kernel instructions per frame, Rust / C",
                GOAL_C,
                kernel,
                true,
            );
            let own = self.ratio(case, "c", |s| s.own);
            add("of these above the floor, Rust / C", GOAL_OWN, own, true);
            let e1000e = self.times(case, "e1000e");
            add(
                "frames per kernel instruction, Rust / e1000e",
                GOAL_E1000E,
                e1000e,
                false,
            );
            let virtio = self.times(case, "virtio");
            add(
                "frames per kernel instruction, Rust / virtio",
                1.0,
                virtio,
                false,
            );
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
            if place.replace(case.place) != Some(case.place) {
                writeln!(
                    out,
                    "\n{}; floor: {:.0} instructions\n  {:8}{:>12}{:>8}{:>8}{:>8}{:>9}{:>8}{:>11}{:>12}{:>10}",
                    case.place,
                    case.figure(|s| s.floor).median,
                    "",
                    "instr/frame",
                    "spread",
                    "/ C",
                    "own",
                    "own / C",
                    "driver",
                    "doorbells",
                    "interrupts",
                    "x e1000e",
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
            "\nFrames of 64 and 1518 bytes, their check sequence included, one by one; medians of {} boots.\n\
             instr/frame: of the guest's kernel, without what an adapter that feeds a receiver takes; floor: those with\n\
             interfaces that have no device; own: the rest; driver: in functions of the driver and its bus.",
            self.cases.iter().map(|c| c.samples.len()).max().unwrap_or(0),
        )
    }

    fn write_row(&self, out: &mut String, case: &Case<'_>) -> std::fmt::Result {
        let median = |figure: Figure| case.figure(figure).median;
        let kernel = case.figure(|s| s.kernel);
        let number = |found: f64| match found.is_nan() {
            true => "-".into(),
            false => format!("{found:.3}"),
        };
        let ratio = |found: Option<f64>| found.map_or("-".into(), number);
        writeln!(
            out,
            "  {:8}{:12.1}{:>8}{:>8}{:8.1}{:>9}{:8.1}{:>11}{:12.3}{:>10}",
            case.variant,
            kernel.median,
            kernel.told(),
            ratio(self.ratio(case, "c", |s| s.kernel)),
            median(|s| s.own),
            ratio(self.ratio(case, "c", |s| s.own)),
            median(|s| s.driver),
            number(median(|s| s.doorbells)),
            median(|s| s.interrupts),
            ratio(self.times(case, "e1000e")),
        )
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
                json!({ "variant": case.variant, "place": case.place, "figures": figures })
            })
            .collect();
        Ok(serde_json::to_string_pretty(&json!({
            "goals": self.goals(), "cases": cases, "samples": self.samples,
        }))?)
    }

    /// For a picture.
    pub(super) fn panels(&self) -> Vec<Panel> {
        let bar = |case: &Case<'_>, figure: Figure| Bar {
            variant: case.variant,
            number: VARIANTS
                .iter()
                .position(|v| v.name == case.variant)
                .unwrap_or(usize::MAX),
            value: case.figure(figure),
        };
        let group = |cases: &[Case<'_>], figure: Figure| Group {
            name: cases.first().map_or("", |c| c.place).to_owned(),
            bars: cases.iter().map(|case| bar(case, figure)).collect(),
        };
        let panel = |(title, figure): &(&'static str, Figure)| Panel {
            title,
            groups: self
                .cases
                .chunk_by(|a, b| a.place == b.place)
                .map(|cases| group(cases, *figure))
                .collect(),
        };
        PANELS.iter().map(panel).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Sample};

    fn sample(variant: &'static str, kernel: f64) -> Sample {
        Sample {
            variant,
            place: "tx-64",
            frames: 1,
            kernel,
            floor: 100.0,
            own: kernel - 100.0,
            driver: 10.0,
            doorbells: f64::NAN,
            interrupts: 0.5,
            functions: Vec::new(),
        }
    }

    #[test]
    fn goals_are_told() {
        let samples = [("rust", 700.0), ("c", 1000.0), ("e1000e", 4900.0)]
            .map(|(variant, kernel)| sample(variant, kernel));
        let report = Report::new(&samples);
        let table = report.table();
        assert!(table.contains("met      tx-64: kernel instructions per frame, Rust / C: 0.700"));
        assert!(table.contains("NOT MET  tx-64: of these above the floor, Rust / C: 0.667"));
        assert!(
            table.contains("met      tx-64: frames per kernel instruction, Rust / e1000e: 7.000")
        );
        assert_eq!(report.panels()[0].groups[0].bars.len(), 3);
    }
}
