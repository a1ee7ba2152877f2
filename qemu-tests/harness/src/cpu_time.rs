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
    use super::{parse, seconds_of};

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
