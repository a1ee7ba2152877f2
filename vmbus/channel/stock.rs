// SPDX-License-Identifier: GPL-2.0

//! Memory for channels that the host is still to offer.
//!
//! Offers come among the host's other messages, and memory may be waiting for one of those: the end
//! of a disk's channels does. So whoever reads them does not wait for memory. Some is kept ready
//! for offers, and made up for by a work item for which nobody waits.

use super::object::Channel;
use crate::abstractions::workqueue;
use core::mem::MaybeUninit;
use kernel::{
    alloc::flags::__GFP_NOWARN,
    impl_has_work, new_mutex, new_work,
    prelude::*,
    sync::{Arc, Mutex, UniqueArc},
    workqueue::{Work, WorkItem},
};

/// Memory for a channel that is to be made.
pub(super) type Place = UniqueArc<MaybeUninit<Channel>>;

/// For so many channels memory is kept ready. A host that offers more at once finds more, but when
/// none is left at all.
const CHANNELS: usize = 16;

/// Memory that is kept ready.
#[pin_data]
pub(crate) struct Stock {
    /// Innermost; nothing is allocated under it. There is room for all.
    #[pin]
    places: Mutex<KVec<Place>>,
    #[pin]
    refill: Work<Stock>,
}

impl_has_work! {
    impl HasWork<Self> for Stock { self.refill }
}

impl Stock {
    /// A full one. May sleep.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let mut places = KVec::with_capacity(CHANNELS, GFP_KERNEL)?;

        for _ in 0..CHANNELS {
            places.push(UniqueArc::new_uninit(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                places <- new_mutex!(places),
                refill <- new_work!("vmbus_refill"),
            }),
            GFP_KERNEL,
        )
    }

    /// Memory for a channel: what was kept ready, or else what the kernel's reserves have. Waits
    /// for none.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let ready = self.places.lock().pop();

        // An item that is queued already will see this, too.
        let _ = workqueue::system_dfl_long().enqueue(self.clone());
        ready.or_else(|| UniqueArc::new_uninit(GFP_ATOMIC | __GFP_NOWARN).ok())
    }

    fn is_full(&self) -> bool {
        self.places.lock().len() >= CHANNELS
    }

    /// Is not made up for any more: nothing is offered from now on. May sleep, also for memory.
    pub(crate) fn end(self: &Arc<Self>) {
        workqueue::disable_sync::<Self, 0>(self);
    }
}

impl WorkItem for Stock {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        while !this.is_full() {
            // The next offer has it tried again.
            let Ok(place) = UniqueArc::new_uninit(GFP_KERNEL) else {
                return;
            };
            let _ = this.places.lock().push_within_capacity(place);
        }
    }
}

#[kunit_tests(vmbus_stock)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() -> Result {
        let stock = Stock::new()?;
        let mut taken = KVec::new();

        for _ in 0..2 {
            // More than there are ready: the kernel's reserves have some.
            for _ in 0..2 * CHANNELS {
                taken.push(stock.take().ok_or(ENOMEM)?, GFP_KERNEL)?;
            }
            workqueue::flush::<Stock, 0>(&stock);
            assert!(stock.is_full());
        }
        stock.end();
        Ok(())
    }

    #[test]
    fn after_the_end_nothing_comes_back() -> Result {
        let stock = Stock::new()?;

        stock.end();
        drop(stock.take());
        workqueue::flush::<Stock, 0>(&stock);
        assert!(!stock.is_full());
        Ok(())
    }
}
