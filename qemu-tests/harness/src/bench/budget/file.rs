// SPDX-License-Identifier: GPL-2.0

//! The file of the budget: `kernel RELEASE`, then for each figure a line `NAME INSTRUCTIONS`, and
//! below it, indented, `INSTRUCTIONS FUNCTION` for each function that matters.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{bail, Context, Result};

use super::Cost;

/// Functions with less, for each read, frame or page, are left out.
const LEAST: f64 = 0.5;

const HEAD: &str = "\
# SPDX-License-Identifier: GPL-2.0
# What the Rust drivers cost: instructions for each read of 4 KiB, above a driver that completes
# commands at once, for each frame of 64 bytes, above what sending without a device takes or feeding a
# receiver, and for each page that the balloon takes and gives; below each figure, by function.
# 'make test' fails when a figure grows by more than 1 or 2 %. 'make budget WRITE=1' makes this file; the
# commit says why.
";

/// What drivers may cost, or do.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Budget {
    /// The release of the kernel it was measured with.
    pub(super) kernel: String,
    /// The figures, by name.
    pub(super) costs: BTreeMap<String, Cost>,
}

impl Budget {
    /// From the file's text.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut kernel = None;
        let mut costs: Vec<(String, Cost)> = Vec::new();
        let lines = text.lines().filter(|l| !l.starts_with('#'));
        for line in lines.filter(|l| !l.trim().is_empty()) {
            let (first, second) = line
                .trim()
                .split_once(' ')
                .with_context(|| format!("not two words: '{line}'"))?;
            let number = |word: &str| {
                word.parse::<f64>()
                    .with_context(|| format!("no number: '{line}'"))
            };
            if line.starts_with(' ') {
                let Some((_, cost)) = costs.last_mut() else {
                    bail!("a function before the first figure: '{line}'");
                };
                cost.functions.insert(second.to_owned(), number(first)?);
            } else if first == "kernel" {
                kernel = Some(second.to_owned());
            } else {
                let own = number(second)?;
                let functions = BTreeMap::new();
                costs.push((first.to_owned(), Cost { own, functions }));
            }
        }
        Ok(Self {
            kernel: kernel.context("no line 'kernel RELEASE'")?,
            costs: costs.into_iter().collect(),
        })
    }

    /// The file's text; within a figure the largest function first.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{HEAD}kernel {}\n", self.kernel);
        for (name, cost) in &self.costs {
            // a string takes whatever is written
            let _ = writeln!(text, "\n{name} {:.2}", cost.own);
            let matters = cost.functions.iter().filter(|(_, n)| n.abs() >= LEAST);
            let mut functions: Vec<_> = matters.collect();
            functions.sort_by(|a, b| b.1.total_cmp(a.1));
            for (function, instructions) in functions {
                let _ = writeln!(text, "  {instructions:.2} {function}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Budget, Cost};

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let functions = [("a::b [m]".to_owned(), 3.25), ("c".to_owned(), -1.0)];
        let cost = Cost {
            own: 2.25,
            functions: BTreeMap::from(functions),
        };
        let budget = Budget {
            kernel: "7.3.4".into(),
            costs: BTreeMap::from([("storage-depth-1".to_owned(), cost)]),
        };
        assert_eq!(Budget::parse(&budget.text()).unwrap(), budget);
    }

    #[test]
    fn nonsense_is_told() {
        assert!(Budget::parse("kernel 1\n  3 a\n").is_err());
        assert!(Budget::parse("kernel 1\nstorage many\n").is_err());
        assert!(Budget::parse("storage 1\n").is_err());
    }
}
