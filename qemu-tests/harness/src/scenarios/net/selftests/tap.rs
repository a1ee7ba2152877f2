// SPDX-License-Identifier: GPL-2.0

//! What the kernel's tests say: KTAP, as `net/lib/py/ksft.py` prints it.

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Pass,
    Fail,
    /// It says why it was not run.
    Skip,
    /// It says why it could not pass.
    Xfail,
    /// There is no such case.
    None,
    /// Whatever it says: it depends on how fast the guest is.
    Any,
}

/// A case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// Its name, without that of the test.
    pub(super) name: String,
    pub(super) outcome: Outcome,
    /// Why.
    pub(super) reason: String,
}

/// The name of what stands for a test that ended before it said how many cases it has, or before the last of them, or
/// that did not end well after it.
pub(super) const BROKEN: &str = "-";

/// The cases of a test, whose own name is `stem`.
pub(super) fn parse(said: &str, stem: &str) -> Vec<Case> {
    let planned = said
        .lines()
        .find_map(|line| line.strip_prefix("1..")?.trim().parse::<usize>().ok());
    let mut cases: Vec<_> = said.lines().filter_map(|line| case(line, stem)).collect();
    let broken = match planned {
        None => Some("no plan".to_owned()),
        Some(planned) if planned != cases.len() => {
            Some(format!("{} of {planned} cases", cases.len()))
        }
        Some(_) => bad_end(said, &cases),
    };
    if let Some(reason) = broken {
        cases.push(Case {
            name: BROKEN.to_owned(),
            outcome: Outcome::Fail,
            reason,
        });
    }
    cases
}

/// The line `status N` is of what ran the test. One of its cases that fails is a status of 1; if all are skipped, it is 4.
fn bad_end(said: &str, cases: &[Case]) -> Option<String> {
    let status = said.lines().last()?.strip_prefix("status ")?;
    let all = |outcome| cases.iter().all(|case| case.outcome == outcome);
    let meant = match status {
        "1" => cases.iter().any(|case| case.outcome == Outcome::Fail),
        "4" => all(Outcome::Skip),
        _ => false,
    };
    (!meant).then(|| format!("status {status}"))
}

/// `[not ]ok NUMBER TEST.NAME[ # [SKIP|XFAIL ]REASON]`
fn case(line: &str, stem: &str) -> Option<Case> {
    let (passed, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (number, rest) = rest.split_once(' ')?;
    number.parse::<u32>().ok()?;
    let (name, comment) = rest.split_once(" # ").unwrap_or((rest, ""));
    let (word, why) = comment.split_once(' ').unwrap_or((comment, ""));
    let (outcome, reason) = match (word, passed) {
        ("SKIP", _) => (Outcome::Skip, why),
        ("XFAIL", _) => (Outcome::Xfail, why),
        (_, true) => (Outcome::Pass, comment),
        (_, false) => (Outcome::Fail, comment),
    };
    let name = name.trim();
    Some(Case {
        name: name
            .strip_prefix(stem)
            .and_then(|name| name.strip_prefix('.'))
            .unwrap_or(name)
            .to_owned(),
        outcome,
        reason: reason.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{parse, Case, Outcome};

    fn found(said: &str) -> Vec<(String, Outcome, String)> {
        let cases = parse(said, "xdp").into_iter();
        cases
            .map(
                |Case {
                     name,
                     outcome,
                     reason,
                 }| (name, outcome, reason),
            )
            .collect()
    }

    #[test]
    fn cases_have_outcomes_and_reasons() {
        let said = "# Interface: eth1\nTAP version 13\n1..5\nok 1 xdp.pass.ipv4\n# ok 7 xdp.no\n\
                    ok 2 xdp.mb # SKIP no # mb\nnot ok 3 xdp.drop\nok 4 xdp.nsim # XFAIL only there\n\
                    not ok 5 xdp.late # SKIP\n# Totals: pass:1\n";
        let wanted = [
            ("pass.ipv4", Outcome::Pass, ""),
            ("mb", Outcome::Skip, "no # mb"),
            ("drop", Outcome::Fail, ""),
            ("nsim", Outcome::Xfail, "only there"),
            ("late", Outcome::Skip, ""),
        ];
        let wanted = wanted.map(|(name, outcome, why)| (name.to_owned(), outcome, why.to_owned()));
        assert_eq!(found(said), wanted);
    }

    #[test]
    fn a_test_that_ends_early_is_broken() {
        let last = |said: &str| found(said).pop().unwrap();
        let broken = |why: &str| ("-".to_owned(), Outcome::Fail, why.to_owned());
        assert_eq!(last("Traceback\nstatus 1\n"), broken("no plan"));
        assert_eq!(last("1..2\nok 1 xdp.a\n"), broken("1 of 2 cases"));
        assert_eq!(last("ok 1 xdp.a\n"), broken("no plan"));
        // or does not end well
        let ends = |case: &str, status: u32| last(&format!("1..1\n{case}\nstatus {status}\n"));
        for (case, status) in [
            ("ok 1 xdp.a", 1),
            ("ok 1 xdp.a", 124),
            ("not ok 1 xdp.a", 2),
        ] {
            assert_eq!(ends(case, status), broken(&format!("status {status}")));
        }
        assert_eq!(ends("not ok 1 xdp.a", 1).0, "a");
        assert_eq!(ends("ok 1 xdp.a # SKIP", 4).0, "a");
        // who prints a plan of nothing has none
        assert!(found("1..0\n").is_empty());
    }
}
