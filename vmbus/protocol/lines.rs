// SPDX-License-Identifier: GPL-2.0

//! How many lines of a sort a host can cause in the log.

use crate::shared::SharedState;

/// Length of a window, in nanoseconds: 5 s.
const WINDOW_NS: u64 = 5_000_000_000;
/// Lines in one window.
pub const BURST: u16 = 10;

/// The window of time in which the last line was printed, and how many were in
/// it. Of no window, and with no line, at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineWindow {
    /// Counted from boot, without the bits that do not fit.
    number: u16,
    used: u16,
}

/// A line is to be printed, in this window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineAt(u16);

impl LineAt {
    /// So many nanoseconds after the boot.
    #[must_use]
    pub const fn new(since_boot_ns: u64) -> Self {
        let [low, high, ..] = (since_boot_ns / WINDOW_NS).to_le_bytes();
        Self(u16::from_le_bytes([low, high]))
    }
}

impl SharedState for LineWindow {
    type Event = LineAt;

    /// `None` when the line is not to be printed.
    fn after(self, LineAt(now): LineAt) -> Option<Self> {
        // Whoever read the time just before another window began is of that one.
        let same = now == self.number || now.wrapping_add(1) == self.number;
        if !same {
            return Some(Self {
                number: now,
                used: 1,
            });
        }
        let used = self.used.checked_add(1).filter(|used| *used <= BURST)?;
        Some(Self { used, ..self })
    }

    fn raw(self) -> u32 {
        (u32::from(self.number) << 16) | u32::from(self.used)
    }

    fn from_raw(raw: u32) -> Self {
        let [a, b, c, d] = raw.to_be_bytes();
        Self {
            number: u16::from_be_bytes([a, b]),
            used: u16::from_be_bytes([c, d]),
        }
    }
}
