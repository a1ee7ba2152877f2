// SPDX-License-Identifier: GPL-2.0

//! Statics that are there once the module has begun.

use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
};

/// How far a static is that is initialised once.
pub(super) struct Phase(Atomic<u32>);

impl Phase {
    /// It is being initialised.
    const BEGUN: u32 = 1;
    /// It may be used.
    const READY: u32 = 2;

    /// Nobody has begun.
    pub(super) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Initialises it; `init` runs once, whoever calls this and however often. `EBUSY` the second
    /// time.
    pub(super) fn begin(&self, init: impl FnOnce()) -> Result {
        self.0.cmpxchg(0, Self::BEGUN, Relaxed).map_err(|_| EBUSY)?;
        init();
        // Release: who sees this may use it, see `is_ready`.
        self.0.store(Self::READY, Release);
        Ok(())
    }

    /// Whether it may be used.
    pub(super) fn is_ready(&self) -> bool {
        self.0.load(Acquire) == Self::READY
    }
}
