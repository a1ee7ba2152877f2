// SPDX-License-Identifier: GPL-2.0

//! This harness works on a machine whose KVM has Hyper-V: level 1 of the nested level is one.

use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::AloneContext;
use crate::bed::{Bed, Ended, Streams};
use crate::console::Console;
use crate::drivers::Core;
use crate::failure::{bed, expect, unmet};
use crate::level::Level;

/// What must pass there: the core, disks, memory.
const SCENARIOS: [&str; 3] = ["boot-and-negotiate", "storage-probe", "balloon"];

/// The lines of its output that a failure shows.
const TAIL: usize = 30;

/// Level 1 can write to its `/tmp` only.
const OUTPUT: &str = "/tmp/direct";

pub(super) fn run(cx: &mut AloneContext<'_>) -> Result<()> {
    let paths = &cx.common.paths;
    let mut images = cx
        .common
        .images
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let level1 = cx.common.start_bed(Level::Nested, &mut images)?;
    drop(images);
    let name = format!("direct-level-{}.log", cx.core).to_lowercase();
    let output = Arc::new(Console::create(&paths.logs.join(name))?);
    start(cx, &level1, &output)?;
    let ended = wait(&level1, cx.timeout, &output)?;

    let lines = output.since(0);
    let tail = || {
        format!(
            "{ended:?}; it said:\n      {}",
            output.tail(TAIL).join("\n      ")
        )
    };
    expect(
        ended.status == Some(0),
        "a harness that succeeds on LEVEL=direct",
        tail(),
    )?;
    match missing(&lines, cx.core) {
        None => Ok(()),
        Some(what) => Err(unmet(format!("'{what}' on LEVEL=direct"), tail())),
    }
}

/// Start this program in level 1, as `qemu-tests/setup/harness` would.
fn start(cx: &AloneContext<'_>, level1: &Bed, output: &Arc<Console>) -> Result<()> {
    let harness = std::env::current_exe()?.to_string_lossy().into_owned();
    let core = cx.core.to_string().to_lowercase();
    let mut argv = vec!["env".to_owned()];
    argv.extend(cx.common.paths.environment(Path::new(OUTPUT)));
    // the agent carries standard error
    argv.extend(["sh", "-c", "exec \"$0\" \"$@\" >&2"].map(str::to_owned));
    argv.extend([harness, "test".to_owned()]);
    // level 1 has room for one guest
    let scenarios = SCENARIOS.join(",");
    for (option, word) in [
        ("--level", "direct"),
        ("--scenario", &scenarios),
        ("--core", &core),
        ("--guests", "1"),
    ] {
        argv.extend([option.to_owned(), word.to_owned()]);
    }
    let streams = Streams {
        console: Arc::clone(output),
        host: Arc::clone(output),
        control: channel().0,
        qmp: channel().0,
    };
    level1.start_qemu(argv, Vec::new(), streams)
}

fn wait(level1: &Bed, timeout: Duration, output: &Console) -> Result<Ended> {
    let start = Instant::now();
    loop {
        if let Some(ended) = level1.ended() {
            return Ok(ended);
        }
        if level1.is_gone() {
            return Err(bed("level 1 died under a harness"));
        }
        if start.elapsed() > timeout {
            return Err(unmet(
                format!("the end of a harness within {} s", timeout.as_secs()),
                output.tail(TAIL).join("\n      "),
            ));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// What should be in its report and is not.
fn missing(lines: &[String], core: Core) -> Option<String> {
    let has = |start: &str, word: &str| {
        lines.iter().any(|line| {
            line.trim_start()
                .strip_prefix(start)
                .is_some_and(|rest| rest.split_whitespace().next() == Some(word))
        })
    };
    if !has("guest:", "direct") {
        return Some("guest: direct".into());
    }
    SCENARIOS
        .iter()
        .map(|name| format!("{name} [{core}]"))
        .find(|start| !has(start, "ok"))
        .map(|start| format!("{start} ok"))
}

#[cfg(test)]
mod tests {
    use super::missing;
    use crate::drivers::Core;

    const REPORT: [&str; 5] = [
        "guest: direct (as asked); logs in /tmp/direct/logs",
        "guests at a time: 1",
        "  boot-and-negotiate [C]         ok        1.0 s  version 4.0",
        "  storage-probe [C]              ok        1.0 s  disks",
        "  balloon [C]                    ok        1.0 s  memory",
    ];

    fn lines(change: (&str, &str)) -> Vec<String> {
        REPORT
            .iter()
            .map(|l| l.replace(change.0, change.1))
            .collect()
    }

    #[test]
    fn each_scenario_must_pass_on_the_level() {
        let missing = |change| missing(&lines(change), Core::C);
        assert_eq!(missing(("", "")), None);
        assert_eq!(
            missing(("direct (", "emulated (")).unwrap(),
            "guest: direct"
        );
        assert_eq!(
            missing((
                "balloon [C]                    ok",
                "balloon [C]                    FAILED"
            ))
            .unwrap(),
            "balloon [C] ok"
        );
        assert_eq!(
            missing(("storage-probe", "storage-prob")).unwrap(),
            "storage-probe [C] ok"
        );
    }

    #[test]
    fn the_other_drivers_do_not_count() {
        assert!(missing(&lines(("", "")), Core::Rust).is_some());
    }
}
