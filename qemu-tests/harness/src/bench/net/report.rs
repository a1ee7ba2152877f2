// SPDX-License-Identifier: GPL-2.0

//! What the samples say: medians and spreads, ratios, and the goals.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{json, Value};

use super::measure::{Sample, PLACES};
use super::variant::VARIANTS;
use crate::bench::cases::{Case, Cases, Figure, Goal, Sampled};
use crate::bench::Written;

/// The Rust driver shall need at most this share of the C driver's instructions for a short frame.
const GOAL_C: f64 = 0.75;
/// And of those above the floor.
const GOAL_OWN: f64 = 0.6;
/// And move at least so many times the frames of e1000e in as many instructions.
const GOAL_E1000E: f64 = 6.0;
/// All of them for these.
const GOAL_PLACES: [&str; 2] = ["tx-64", "rx-64"];

impl Sampled for Sample {
    /// Its name.
    type Place = &'static str;

    const FIGURES: &'static [(&'static str, Figure<Self>)] = &[
        ("kernel_instructions", |s| s.kernel),
        ("floor_instructions", |s| s.floor),
        ("own_instructions", |s| s.own),
        ("driver_instructions", |s| s.driver),
        ("doorbells", |s| s.doorbells),
        ("interrupts", |s| s.interrupts),
    ];

    const PANELS: &'static [(&'static str, Figure<Self>)] = &[
        ("instructions of the guest's kernel per frame", |s| s.kernel),
        ("of these above the floor", |s| s.own),
        ("in the driver and its bus", |s| s.driver),
    ];

    fn variant(&self) -> &'static str {
        self.variant
    }

    fn place(&self) -> Self::Place {
        self.place
    }

    fn place_name(place: Self::Place) -> String {
        place.to_owned()
    }

    fn place_fields(place: Self::Place) -> Value {
        json!({ "place": place })
    }
}

/// What is known at the end.
pub(super) struct Report<'a>(Cases<'a, Sample>);

impl<'a> Report<'a> {
    pub(super) fn new(samples: &'a [Sample]) -> Self {
        let places = PLACES.iter().map(|place| place.name);
        let variants = VARIANTS.iter().map(|v| v.name).collect();
        Self(Cases::new(samples, places, variants))
    }

    /// All of it.
    pub(super) fn written(&self) -> Result<Written> {
        Ok(Written::new(
            self.table(),
            self.0.json(&self.goals())?,
            &self.0.panels(),
        ))
    }

    /// How many times another's frames it moves in as many instructions.
    fn times(&self, case: &Case<'_, Sample>, other: &str) -> Option<f64> {
        Some(1.0 / self.0.ratio(case, other, |s| s.kernel)?)
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let counts = |c: &&Case<'_, Sample>| c.variant == "rust" && GOAL_PLACES.contains(&c.place);
        for case in self.0.all.iter().filter(counts) {
            let what = |what: &str| format!("{}: {what}", case.place);
            let mut at_most = |name: &str, limit: f64, found: Option<f64>| {
                goals.extend(found.map(|found| Goal::at_most(what(name), limit, found)));
            };
            let kernel = self.0.ratio(case, "c", |s| s.kernel);
            at_most("kernel instructions per frame, Rust / C", GOAL_C, kernel);
            let own = self.0.ratio(case, "c", |s| s.own);
            at_most("of these above the floor, Rust / C", GOAL_OWN, own);
            for (other, limit) in [("e1000e", GOAL_E1000E), ("virtio", 1.0)] {
                if let Some(found) = self.times(case, other) {
                    let name = format!("frames per kernel instruction, Rust / {other}");
                    goals.push(Goal::at_least(what(&name), limit, found));
                }
            }
        }
        goals
    }

    /// For people.
    fn table(&self) -> String {
        let mut text = String::new();
        // a string takes whatever is written
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let mut place = None;
        for case in &self.0.all {
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
        Goal::write(&self.goals(), out)?;
        writeln!(
            out,
            "\nFrames of 64 and 1518 bytes, their check sequence included, one by one; medians of {} boots.\n\
             instr/frame: of the guest's kernel, without what an adapter that feeds a receiver takes; floor: those with\n\
             interfaces that have no device; own: the rest; driver: in functions of the driver and its bus.",
            self.0.boots(),
        )
    }

    fn write_row(&self, out: &mut String, case: &Case<'_, Sample>) -> std::fmt::Result {
        let median = |figure: Figure<Sample>| case.figure(figure).median;
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
            ratio(self.0.ratio(case, "c", |s| s.kernel)),
            median(|s| s.own),
            ratio(self.0.ratio(case, "c", |s| s.own)),
            median(|s| s.driver),
            number(median(|s| s.doorbells)),
            median(|s| s.interrupts),
            ratio(self.times(case, "e1000e")),
        )
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
        assert_eq!(report.0.panels()[0].groups[0].bars.len(), 3);
    }
}
