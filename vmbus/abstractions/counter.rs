// SPDX-License-Identifier: GPL-2.0

//! Numbers for people to read.

use kernel::sync::atomic::{Atomic, Relaxed};

/// A number that only grows, up to 2^64 - 1; then it starts again.
pub struct Counter(Atomic<u64>);

impl Counter {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Counts one more. Any context.
    #[inline]
    pub fn count(&self) {
        self.add(1);
    }

    /// Counts `more`. Any context.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}
