// SPDX-License-Identifier: GPL-2.0

//! What the samples say: medians and spreads, ratios, and the goals.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{json, Value};

use super::cases::{Case, Cases, Figure, Goal, Sampled};
use super::measure::Sample;
use super::variant::{BACKENDS, VARIANTS};
use super::{Reads, Written};

/// The Rust driver shall need at most this share of the C driver's instructions for a read.
const GOAL_C: f64 = 0.85;
/// And give at least so many times the reads per second and instruction of emulated IDE.
const GOAL_IDE: f64 = 6.0;
/// Both where requests queue.
const GOAL_DEPTH: usize = 32;

/// Reads per second and instruction, of which only ratios mean something.
const MERIT: Figure<Sample> = |s| s.iops / s.kernel;

impl Sampled for Sample {
    /// The backend, and how many reads are in flight.
    type Place = (&'static str, usize);

    const FIGURES: &'static [(&'static str, Figure<Self>)] = &[
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

    const PANELS: &'static [(&'static str, Figure<Self>)] = &[
        ("instructions of the guest's kernel per read", |s| s.kernel),
        ("of these above the floor", |s| s.own),
        ("in the driver and its bus", |s| s.driver),
        ("reads per second of the guest", |s| s.iops),
        (
            "latency of 99 % of the reads, microseconds of the guest",
            |s| s.p99,
        ),
    ];

    fn variant(&self) -> &'static str {
        self.variant
    }

    fn place(&self) -> Self::Place {
        (self.backend, self.depth)
    }

    fn place_name((backend, depth): Self::Place) -> String {
        format!("{backend}, depth {depth}")
    }

    fn place_fields((backend, depth): Self::Place) -> Value {
        json!({ "backend": backend, "depth": depth })
    }
}

/// What is known at the end.
pub(super) struct Report<'a>(Cases<'a, Sample>);

impl<'a> Report<'a> {
    pub(super) fn new(samples: &'a [Sample], reads: &Reads) -> Self {
        let places = BACKENDS
            .iter()
            .flat_map(|backend| reads.iter().map(|(depth, _)| (backend.name, *depth)));
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

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let rust = |c: &&Case<'_, Sample>| c.variant == "rust" && c.place.1 == GOAL_DEPTH;
        for case in self.0.all.iter().filter(rust) {
            let (backend, depth) = case.place;
            let place = format!("{backend} backend, depth {depth}");
            if let Some(found) = self.0.ratio(case, "c", |s| s.kernel) {
                let what = format!("{place}: kernel instructions per read, Rust / C");
                goals.push(Goal::at_most(what, GOAL_C, found));
            }
            if let Some(found) = self.0.ratio(case, "ide", MERIT) {
                let what = format!("{place}: IOPS per kernel instruction, Rust / IDE");
                goals.push(Goal::at_least(what, GOAL_IDE, found));
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
                let (backend, depth) = case.place;
                writeln!(
                    out,
                    "\n{backend} backend, depth {depth}; floor: {:.0} instructions",
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
        Goal::write(&self.goals(), out)?;
        writeln!(
            out,
            "\nRandom reads of 4 KiB; medians of {} boots. Times are the guest's: 2 ns for each of its \
             instructions, and what it waits.\ninstr/read: of the guest's kernel; floor: those with a driver \
             that completes every command at once; own: the rest;\ndriver: in functions of the driver and its \
             bus. spread: of the boots. x IDE: IOPS per instruction, as a multiple of that of ide.",
            self.0.boots(),
        )
    }

    fn write_row(&self, out: &mut String, case: &Case<'_, Sample>) -> std::fmt::Result {
        let median = |figure: Figure<Sample>| case.figure(figure).median;
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
            ratio(self.0.ratio(case, "c", |s| s.own)),
            median(|s| s.driver),
            median(|s| s.doorbells),
            median(|s| s.interrupts),
            ratio(self.0.ratio(case, "ide", MERIT)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Report;
    use crate::bench::cases::Sampled as _;
    use crate::bench::measure::Sample;
    use crate::bench::plot;

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
        let panels = Report::new(&samples, &[(1, 100), (32, 100)]).0.panels();
        let picture = plot::svg(&panels);
        assert_eq!(
            picture.matches("<rect x=").count(),
            2 * Sample::PANELS.len()
        );
        assert!(picture.contains(">21</text>"));
    }
}
