// SPDX-License-Identifier: GPL-2.0

//! Keeps messages that the host can cause from flooding the log.
//!
//! `rust/kernel` of 7.3 has nothing of the kind, and a `struct ratelimit_state` cannot be made in a Rust
//! `static`: what the C macro puts into its lock depends on the debugging options.

use kernel::{
    bindings,
    sync::atomic::{Atomic, Relaxed},
};

/// Length of a window, in milliseconds.
const WINDOW_MS: i64 = 5_000;
/// Messages in one window.
const BURST: u32 = 10;

/// Lets [`BURST`] messages through in every [`WINDOW_MS`] milliseconds.
///
/// Approximate under contention, which is good enough for a log.
pub struct RateLimit {
    /// Number of the current window, counted from boot.
    window: Atomic<i64>,
    used: Atomic<u32>,
}

impl RateLimit {
    /// Nothing printed yet. Usable in a `static`.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            window: Atomic::new(-1),
            used: Atomic::new(0),
        }
    }

    /// Whether one more message may be printed now. Any context but NMI.
    pub fn allow(&self) -> bool {
        // SAFETY: No requirements.
        let now = unsafe { bindings::ktime_get() } / (WINDOW_MS * 1_000_000);

        if self.window.load(Relaxed) != now {
            self.window.store(now, Relaxed);
            self.used.store(0, Relaxed);
        }
        self.used.fetch_add(1u32, Relaxed) < BURST
    }
}

/// Runs a print statement unless its own limit is used up.
///
/// ```ignore
/// ratelimited!(pr_warn!("offer refused: {}\n", error));
/// ```
#[macro_export]
macro_rules! ratelimited {
    ($($print:tt)*) => {{
        static LIMIT: $crate::abstractions::RateLimit = $crate::abstractions::RateLimit::new();

        if LIMIT.allow() {
            $($print)*;
        }
    }};
}
