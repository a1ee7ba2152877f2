// SPDX-License-Identifier: GPL-2.0

//! The monitor pages: doorbells that the host polls instead of being called.

use super::pages::{SharedPage, PAGE_BYTES};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
};
use vmbus_protocol::synic::MonitorBit;

/// One monitor page (`struct hv_monitor_page`).
pub(crate) struct MonitorPage(SharedPage);

impl MonitorPage {
    /// A page with no trigger pending.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(SharedPage::new()?))
    }

    /// The page itself.
    pub(crate) fn page(&self) -> &SharedPage {
        &self.0
    }

    /// Sets the pending bit of a trigger.
    pub(crate) fn trigger(&self, bit: MonitorBit) {
        let offset = usize::from(bit.pending_offset());

        debug_assert!(offset + 4 <= PAGE_BYTES);
        // SAFETY: `MonitorBit` guarantees an aligned offset inside the page; the host accesses
        // the word with atomic operations only.
        let pending = unsafe { Atomic::<u32>::from_ptr(self.0.as_ptr().add(offset).cast()) };
        let mut old = pending.load(Relaxed);

        while let Err(now) = pending.cmpxchg(old, old | bit.mask(), Full) {
            old = now;
        }
    }
}
