// SPDX-License-Identifier: GPL-2.0

//! Keeps lines that the host can cause from flooding the log.
//!
//! `rust/kernel` of 7.3 has nothing of the kind, and a `struct ratelimit_state` cannot be made in a
//! Rust `static`: what the C macro puts into its lock depends on the debugging options.

use crate::{
    abstractions::{clock, Counter, Shown},
    state::StateCell,
};
use kernel::{
    device,
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
};
use vmbus_protocol::{
    lines::{LineAt, LineWindow},
    Guid,
};

/// Lines of a sort, about one device: some are printed in each window of time
/// (`vmbus_protocol::lines`). How many others there were is said with the next one.
pub struct Lines {
    window: StateCell<LineWindow>,
    suppressed: Counter,
    /// How many of those were not said yet.
    unsaid: Atomic<u64>,
}

impl Lines {
    /// Nothing printed yet. Usable in a `static`.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            window: StateCell::zero(),
            suppressed: Counter::new(),
            unsaid: Atomic::new(0),
        }
    }

    /// Whether another line may be printed now: then, how many were not since the last one. Any
    /// context but NMI.
    pub fn ask(&self) -> Option<u64> {
        let now = clock::since_boot().as_nanos().unsigned_abs();

        if self.window.happen(LineAt::new(now)).is_none() {
            self.suppressed.count();
            self.unsaid.fetch_add(1u64, Relaxed);
            return None;
        }
        Some(self.unsaid.xchg(0u64, Full))
    }

    /// Whether another line may be printed about `dev` now. Any context but NMI.
    pub fn allow(&self, dev: &device::Device) -> bool {
        let unsaid = self.ask();

        if let Some(unsaid @ 1..) = unsaid {
            dev_warn!(dev, "{} lines were suppressed\n", unsaid);
        }
        unsaid.is_some()
    }

    /// [`Self::allow`] about the device with this instance GUID.
    pub(crate) fn allow_about(&self, instance: &Guid) -> bool {
        let unsaid = self.ask();

        if let Some(unsaid @ 1..) = unsaid {
            pr_warn!("{}: {} lines were suppressed\n", Shown(instance), unsaid);
        }
        unsaid.is_some()
    }

    /// How many lines were not printed so far.
    pub fn suppressed(&self) -> u64 {
        self.suppressed.get()
    }
}

/// Runs a print statement unless its own limit is used up: for lines about what there is once.
/// Those about a device have [`Lines`] of the device, or one would silence the other.
///
/// ```ignore
/// ratelimited!(pr_warn!("offer refused: {}\n", error));
/// ```
#[macro_export]
macro_rules! ratelimited {
    ($($print:tt)*) => {{
        static LINES: $crate::Lines = $crate::Lines::new();

        if let Some(unsaid) = LINES.ask() {
            if unsaid != 0 {
                ::kernel::prelude::pr_warn!("{} lines like the next one were suppressed\n", unsaid);
            }
            $($print)*;
        }
    }};
}
