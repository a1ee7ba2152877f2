// SPDX-License-Identifier: GPL-2.0

//! Samples put together: what every benchmark says of those that it compares, and its goals.

use std::fmt::{self, Write as _};

use anyhow::Result;
use serde::Serialize;
use serde_json::{json, Map, Value};

use super::plot::{Bar, Group, Panel};

/// A figure of several boots.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    /// The one in the middle.
    pub(super) median: f64,
    /// The least.
    pub(super) min: f64,
    /// The greatest.
    pub(super) max: f64,
    /// Of how many boots.
    boots: usize,
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
            boots: values.len(),
        }
    }

    /// How far the extremes are apart, for people.
    pub(super) fn told(&self) -> String {
        if self.boots < 2 {
            "-".into()
        } else if self.min == self.max {
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
pub(super) type Figure<S> = fn(&S) -> f64;

/// What one boot showed of one variant in one place.
pub(super) trait Sampled: Serialize + 'static {
    /// What is the same for those that are compared.
    type Place: Copy + PartialEq;
    /// The figures, for the results.
    const FIGURES: &'static [(&'static str, Figure<Self>)];
    /// The figures, for the picture.
    const PANELS: &'static [(&'static str, Figure<Self>)];

    fn variant(&self) -> &'static str;
    fn place(&self) -> Self::Place;
    /// A place, for people.
    fn place_name(place: Self::Place) -> String;
    /// And for programs: an object.
    fn place_fields(place: Self::Place) -> Value;
}

/// All samples of one thing.
pub(super) struct Case<'a, S: Sampled> {
    pub(super) variant: &'static str,
    pub(super) place: S::Place,
    samples: Vec<&'a S>,
}

impl<S: Sampled> Case<'_, S> {
    /// One figure of it.
    pub(super) fn figure(&self, figure: Figure<S>) -> Spread {
        Spread::of(self.samples.iter().map(|s| figure(s)).collect())
    }
}

/// All that was measured, in order.
pub(super) struct Cases<'a, S: Sampled> {
    pub(super) all: Vec<Case<'a, S>>,
    variants: Vec<&'static str>,
    samples: &'a [S],
}

impl<'a, S: Sampled> Cases<'a, S> {
    /// By place, and there by variant; those without samples are left out.
    pub(super) fn new(
        samples: &'a [S],
        places: impl IntoIterator<Item = S::Place>,
        variants: Vec<&'static str>,
    ) -> Self {
        let mut all = Vec::new();
        for place in places {
            for &variant in &variants {
                let is = |s: &&S| s.variant() == variant && s.place() == place;
                let samples: Vec<_> = samples.iter().filter(is).collect();
                if !samples.is_empty() {
                    all.push(Case {
                        variant,
                        place,
                        samples,
                    });
                }
            }
        }
        Self {
            all,
            variants,
            samples,
        }
    }

    /// How often each was booted, at most.
    pub(super) fn boots(&self) -> usize {
        self.all.iter().map(|c| c.samples.len()).max().unwrap_or(0)
    }

    /// How one variant compares with another in the same place; medians.
    pub(super) fn ratio(&self, case: &Case<'_, S>, other: &str, figure: Figure<S>) -> Option<f64> {
        let same = |c: &&Case<'_, S>| c.variant == other && c.place == case.place;
        let other = self.all.iter().find(same)?;
        Some(case.figure(figure).median / other.figure(figure).median)
    }

    /// For a picture.
    pub(super) fn panels(&self) -> Vec<Panel> {
        let panel = |(title, figure): &(&'static str, Figure<S>)| Panel {
            title,
            groups: self
                .all
                .chunk_by(|a, b| a.place == b.place)
                .map(|cases| self.group(cases, *figure))
                .collect(),
        };
        S::PANELS.iter().map(panel).collect()
    }

    /// The bars of one place.
    fn group(&self, cases: &[Case<'_, S>], figure: Figure<S>) -> Group {
        let bar = |case: &Case<'_, S>| Bar {
            variant: case.variant,
            number: self
                .variants
                .iter()
                .position(|name| *name == case.variant)
                .unwrap_or(usize::MAX),
            value: case.figure(figure),
        };
        Group {
            name: cases
                .first()
                .map_or_else(String::new, |c| S::place_name(c.place)),
            bars: cases.iter().map(bar).collect(),
        }
    }

    /// For programs: all there is.
    pub(super) fn json(&self, goals: &[Goal]) -> Result<String> {
        let case = |case: &Case<'_, S>| {
            let figures: Map<_, _> = S::FIGURES
                .iter()
                .map(|(name, figure)| ((*name).to_owned(), json!(case.figure(*figure))))
                .collect();
            let mut fields = S::place_fields(case.place);
            fields["variant"] = json!(case.variant);
            fields["figures"] = Value::Object(figures);
            fields
        };
        let cases: Vec<_> = self.all.iter().map(case).collect();
        Ok(serde_json::to_string_pretty(&json!({
            "goals": goals, "cases": cases, "samples": self.samples,
        }))?)
    }
}

/// A goal, and what was found.
#[derive(Serialize)]
pub(super) struct Goal {
    what: String,
    limit: f64,
    found: f64,
    met: bool,
}

impl Goal {
    /// Met by what is not more.
    pub(super) fn at_most(what: String, limit: f64, found: f64) -> Self {
        Self {
            what,
            limit,
            found,
            met: found <= limit,
        }
    }

    /// Met by what is not less.
    pub(super) fn at_least(what: String, limit: f64, found: f64) -> Self {
        Self {
            what,
            limit,
            found,
            met: found >= limit,
        }
    }

    /// A line for each, for people.
    pub(super) fn write(goals: &[Self], out: &mut String) -> fmt::Result {
        writeln!(out)?;
        for goal in goals {
            let met = if goal.met { "met" } else { "NOT MET" };
            writeln!(
                out,
                "{met:8} {}: {:.3} (goal {})",
                goal.what, goal.found, goal.limit
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).median, 2.0);
        let even = Spread::of(vec![99.0, 101.0]);
        assert_eq!((even.median, even.percent()), (100.0, 2.0));
    }

    #[test]
    fn one_boot_has_no_spread() {
        assert_eq!(Spread::of(vec![3.0]).told(), "-");
        assert_eq!(Spread::of(vec![3.0, 3.0]).told(), "equal");
    }
}
