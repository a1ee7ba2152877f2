// SPDX-License-Identifier: GPL-2.0

//! Lines that a host can cause.

use proptest::prelude::*;
use std::collections::BTreeMap;
use vmbus_protocol::{
    lines::{LineAt, LineWindow, BURST},
    shared::SharedState,
};

const WINDOW_NS: u64 = 5_000_000_000;

/// Prints, if it may.
fn prints(state: &mut LineWindow, ns: u64) -> bool {
    match state.after(LineAt::new(ns)) {
        Some(next) => {
            *state = LineWindow::from_raw(next.raw());
            true
        }
        None => false,
    }
}

#[test]
fn a_burst_in_each_window() {
    let mut state = LineWindow::default();
    for window in 0..3 {
        let printed = (0..1000)
            .filter(|i| prints(&mut state, window * WINDOW_NS + i * 1_000_000))
            .count();
        assert_eq!(printed, usize::from(BURST));
    }
}

/// A clock that was read before another CPU began the next window does not begin the former one again:
/// the two would begin windows by turns.
#[test]
fn who_is_late_begins_no_window() {
    let mut state = LineWindow::default();
    let printed = (0..1000)
        .filter(|i| prints(&mut state, (7 + i % 2) * WINDOW_NS))
        .count();
    assert!(printed <= 1 + usize::from(BURST), "{printed}");
}

/// Numbers of windows come again every 3.8 days: only then a window is taken for the former one.
#[test]
fn another_window_is_another_however_far() {
    for far in [2, 3, 1 << 15, (1 << 16) - 2, (1 << 16) + 5, (1 << 31) + 2] {
        let mut state = LineWindow::default();
        while prints(&mut state, 9 * WINDOW_NS) {}
        assert!(prints(&mut state, (9 + far) * WINDOW_NS), "{far}");
    }
}

proptest! {
    /// Whatever the times: no window has more than a burst, and the first line of one is printed.
    #[test]
    fn bounded_and_never_mute(steps in prop::collection::vec(0u64..3_000_000_000, 1..300)) {
        let mut state = LineWindow::default();
        let mut windows = BTreeMap::<u64, Vec<bool>>::new();
        let mut now = WINDOW_NS;
        for step in steps {
            now += step;
            windows.entry(now / WINDOW_NS).or_default().push(prints(&mut state, now));
        }
        for lines in windows.values() {
            prop_assert!(lines[0]);
            prop_assert!(lines.iter().filter(|line| **line).count() <= usize::from(BURST));
        }
    }
}
