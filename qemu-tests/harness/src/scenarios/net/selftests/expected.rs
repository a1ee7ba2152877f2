// SPDX-License-Identifier: GPL-2.0

//! What the cases of the kernel's tests are to give: the text of `selftests.txt`.

use anyhow::{bail, Context as _, Result};

use super::tap::{Case, Outcome};
use crate::drivers::Core;

/// Whether `make test` runs a test that nobody names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Short,
    Long,
}

/// A test.
#[derive(Debug)]
pub(super) struct Test<'a> {
    /// Its file, below `drivers/net`.
    pub(super) name: &'a str,
    pub(super) length: Length,
    lines: Vec<Line<'a>>,
}

/// A case, or several that begin alike.
#[derive(Debug)]
struct Line<'a> {
    name: &'a str,
    /// How many begin so; none if it is one, with all of its name.
    count: Option<usize>,
    c: Outcome,
    rust: Outcome,
    /// How the reason begins that a case says; of one that fails, ours.
    reason: &'a str,
}

/// The tests of a text: a line for each, and one below it for each case.
pub(super) fn parse(text: &str) -> Result<Vec<Test<'_>>> {
    let mut tests: Vec<Test<'_>> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
    {
        if line.starts_with('\t') {
            let test = tests.last_mut().context("a case without a test")?;
            test.lines
                .push(case(line).with_context(|| line.to_owned())?);
            continue;
        }
        let (name, length) = match line.split_once(' ') {
            None => (line, Length::Short),
            Some((name, "long")) => (name, Length::Long),
            Some(_) => bail!("neither a test nor a case: {line}"),
        };
        tests.push(Test {
            name,
            length,
            lines: Vec::new(),
        });
    }
    Ok(tests)
}

/// `NAME C RUST [REASON]` or `BEGINNING*COUNT C RUST [REASON]`, with tabs between.
fn case(line: &str) -> Result<Line<'_>> {
    let mut fields = line.split('\t').filter(|field| !field.is_empty());
    let name = fields.next().context("no name")?;
    let mut outcome = || {
        let word = fields.next().context("no outcome")?;
        self::outcome(word).with_context(|| format!("no outcome '{word}'"))
    };
    let (c, rust) = (outcome()?, outcome()?);
    let (name, count) = match name.split_once('*') {
        Some((name, count)) => (name, Some(count.parse()?)),
        None => (name, None),
    };
    Ok(Line {
        name,
        count,
        c,
        rust,
        reason: fields.next().unwrap_or_default(),
    })
}

fn outcome(word: &str) -> Option<Outcome> {
    Some(match word {
        "pass" => Outcome::Pass,
        "fail" => Outcome::Fail,
        "skip" => Outcome::Skip,
        "xfail" => Outcome::Xfail,
        "none" => Outcome::None,
        "any" => Outcome::Any,
        _ => return None,
    })
}

impl Line<'_> {
    fn is_about(&self, case: &Case) -> bool {
        match self.count {
            Some(_) => case.name.starts_with(self.name),
            None => case.name == self.name,
        }
    }

    fn outcome(&self, core: Core) -> Outcome {
        match core {
            Core::C => self.c,
            Core::Rust | Core::RustOnC => self.rust,
        }
    }

    fn allows(&self, core: Core, case: &Case) -> bool {
        if self.outcome(core) == Outcome::Any {
            return true;
        }
        let says_why = matches!(case.outcome, Outcome::Skip | Outcome::Xfail);
        self.outcome(core) == case.outcome && (!says_why || case.reason.starts_with(self.reason))
    }
}

impl Test<'_> {
    /// What it calls itself.
    pub(super) fn stem(&self) -> &str {
        let file = self.name.rsplit('/').next().unwrap_or(self.name);
        file.trim_end_matches(".py")
    }

    /// What is other than it is to be. Of several lines about a case the first counts.
    pub(super) fn differences(&self, core: Core, found: &[Case]) -> Vec<String> {
        let mut differ = Vec::new();
        let mut counts = vec![0; self.lines.len()];
        for case in found {
            let found = format!("{} is {:?} ({})", case.name, case.outcome, case.reason);
            match self.lines.iter().position(|line| line.is_about(case)) {
                None => differ.push(format!("{found}, of which nothing is known")),
                Some(at) => {
                    counts[at] += 1;
                    if !self.lines[at].allows(core, case) {
                        let wanted = self.lines[at].outcome(core);
                        differ.push(format!("{found}, not {wanted:?}"));
                    }
                }
            }
        }
        for (line, count) in self.lines.iter().zip(counts) {
            let wanted = match line.outcome(core) {
                Outcome::None => 0,
                _ => line.count.unwrap_or(1),
            };
            if count != wanted {
                differ.push(format!("{}: {count} cases, not {wanted}", line.name));
            }
        }
        differ
    }
}

#[cfg(test)]
mod tests {
    use super::super::{tap, EXPECTED};
    use super::{parse, Length};
    use crate::drivers::Core;

    const TEXT: &str = "# remark\nhw/a.py\n\tone\tpass\tpass\n\ttwo\tfail\tskip\tno queue\n\
                        \tmany.*2\tpass\tpass\n\nb.py long\n\ttimed\tany\tnone\n\t-\tfail\tnone\n\t*1\tnone\tpass\n";

    fn differences(test: usize, core: Core, said: &str) -> Vec<String> {
        let tests = parse(TEXT).unwrap();
        tests[test].differences(core, &tap::parse(said, tests[test].stem()))
    }

    #[test]
    fn what_is_expected_is_no_difference() {
        let said = "1..4\nok 1 a.one\nok 2 a.two # SKIP no queues\nok 3 a.many.x\nok 4 a.many.y\n";
        assert!(differences(0, Core::Rust, said).is_empty());
        // there it is to fail
        assert_eq!(differences(0, Core::C, said).len(), 1);
        assert!(differences(1, Core::C, "1..2\nnot ok 1 b.timed\n").is_empty());
        assert!(differences(1, Core::C, "1..2\nok 1 b.timed\n").is_empty());
        // it may end anyhow, but is to be there
        assert_eq!(differences(1, Core::C, "Traceback\n").len(), 1);
        assert_eq!(differences(1, Core::Rust, "Traceback\n").len(), 3);
        assert!(differences(1, Core::Rust, "1..1\nok 1 b.any\n").is_empty());
    }

    #[test]
    fn what_changes_is_told() {
        for (said, wanted) in [
            ("1..4\nok 1 a.one\nok 2 a.two # SKIP another\nok 3 a.many.x\nok 4 a.many.y\n", 1),
            ("1..4\nnot ok 1 a.one\nok 2 a.two\nok 3 a.many.x\nok 4 a.many.y\n", 2),
            ("1..3\nok 1 a.one\nok 2 a.two # SKIP no queue\nok 3 a.many.x\n", 1),
            ("1..5\nok 1 a.one\nok 2 a.two # SKIP no queue\nok 3 a.many.x\nok 4 a.many.y\nok 5 a.new\n", 1),
            // one case is missing, and so the test is broken
            ("1..4\nok 1 a.one\nok 2 a.two # SKIP no queue\nok 3 a.many.x\n", 2),
        ] {
            let found = differences(0, Core::RustOnC, said);
            assert_eq!(found.len(), wanted, "{said}: {found:?}");
        }
    }

    #[test]
    fn the_list_can_be_read() {
        let tests = parse(EXPECTED).unwrap();
        assert!(tests.iter().any(|test| test.length == Length::Long));
        assert!(tests.iter().all(|test| !test.lines.is_empty()));
        for text in [
            "\ta\tpass\tpass\n",
            "a.py\n\ta\tgood\tpass\n",
            "a.py\n\ta*b\tpass\tpass\n",
            "a b\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
