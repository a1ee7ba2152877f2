// SPDX-License-Identifier: GPL-2.0

//! What processes have taken of this machine's CPUs: unlike the time on the wall, it does not depend on
//! what else the machine does.

use std::fs;

/// Where a process's `stat` has its parent, and its time in user and in kernel mode, its own and that of
/// its children that have ended; counted from the field after the name, in parentheses.
const PARENT: usize = 1;
const TIMES: std::ops::Range<usize> = 11..15;

/// `USER_HZ`, which on x86 is what it was when this interface was made.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds of a process and its children, those that have ended too; 0 if there is no such process.
pub(crate) fn seconds_of(process: u32) -> f64 {
    let Ok(folders) = fs::read_dir("/proc") else {
        return 0.0;
    };
    let ticks: u64 = folders
        .filter_map(|folder| {
            let folder = folder.ok()?;
            let number: u32 = folder.file_name().to_str()?.parse().ok()?;
            let (parent, ticks) = parse(&fs::read_to_string(folder.path().join("stat")).ok()?)?;
            (number == process || parent == process).then_some(ticks)
        })
        .sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// A look at what all CPUs of this machine have done since it started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuTimes {
    idle: u64,
    all: u64,
}

/// Where the first line of `/proc/stat` has the time in which there was nothing to do, and in which all waited
/// for disks; counted from the field after the name. What comes after these eight is in two of them, too.
const IDLE: std::ops::Range<usize> = 3..5;
const ALL: std::ops::Range<usize> = 0..8;

impl CpuTimes {
    /// Now; none if the kernel does not say.
    pub(crate) fn look() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        let times = stat.lines().next()?.strip_prefix("cpu ")?;
        let times: Vec<u64> = times
            .split_whitespace()
            .map_while(|t| t.parse().ok())
            .collect();
        Some(Self {
            idle: times.get(IDLE)?.iter().sum(),
            all: times.get(ALL)?.iter().sum(),
        })
    }

    /// The share of its CPUs, up to 1, that had nothing to do since an earlier look.
    pub(crate) fn idle_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.idle.saturating_sub(before.idle) as f64 / all as f64
    }
}

/// Parent and ticks of a process.
fn parse(stat: &str) -> Option<(u32, u64)> {
    // the name may have spaces and parentheses
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let times = fields.get(TIMES)?.iter().map(|f| f.parse::<u64>());
    Some((
        fields.get(PARENT)?.parse().ok()?,
        times.sum::<Result<u64, _>>().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::{parse, seconds_of, CpuTimes};

    #[test]
    fn idle_is_what_nobody_used_and_what_waited() {
        let look = |line: &str| CpuTimes::parse(line).unwrap();
        let before = look("cpu  100 0 50 800 50 0 0 0 9 9\ncpu0 1 2 3\n");
        let after = look("cpu  130 0 70 830 60 0 0 10 9 9\n");
        assert_eq!(after.idle_since(before), 0.4);
        assert_eq!(before.idle_since(before), 0.0);
        assert!(CpuTimes::parse("cpu  1 2 3\n").is_none());
        assert!(CpuTimes::look().is_some());
    }

    #[test]
    fn fields_come_after_the_name() {
        let stat = "7 (a) (b c) S 5 1 1 0 -1 4 0 0 0 0 100 20 3 4 20 0 1 0 9";
        assert_eq!(parse(stat), Some((5, 127)));
        assert_eq!(parse("7 (a"), None);
        assert_eq!(parse("7 (a) S 5"), None);
    }

    #[test]
    fn a_busy_process_takes_time() {
        let me = std::process::id();
        let before = seconds_of(me);
        let start = std::time::Instant::now();
        while seconds_of(me) <= before {
            assert!(start.elapsed().as_secs() < 60);
        }
        assert_eq!(seconds_of(u32::MAX), 0.0);
    }
}
