// SPDX-License-Identifier: GPL-2.0

//! How long the things took that a load did.

use std::time::Duration;

use crate::protocol::LoadReport;

/// A time, as a number.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What there is to tell of all of them: the time they took in all, and each one's, in nanoseconds.
pub(crate) fn report(elapsed: Duration, mut latencies: Vec<u64>) -> LoadReport {
    latencies.sort_unstable();
    LoadReport {
        nanoseconds: nanoseconds(elapsed),
        p50: percentile(&latencies, 50),
        p99: percentile(&latencies, 99),
    }
}

/// Of sorted values; 0 if there are none.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[7], 99), 7);
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), 50);
        assert_eq!(percentile(&hundred, 99), 99);
    }
}
