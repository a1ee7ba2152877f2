// SPDX-License-Identifier: GPL-2.0

//! The queue of each channel: the frames that are with the host.

use crate::{
    net::SkBuff,
    status::{Counters, QueueCounters},
};
use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, SetOnce, SpinLockIrq,
    },
};
use netvsc_protocol::sections::{Section, Sections};
use vmbus::{
    protocol::requests::{BadId, RequestTable, Slot},
    Lingering, Sender,
};

/// Most frames of a queue that are with the host.
const DEPTH: usize = 1024;

/// A frame that is with the host.
pub(crate) struct Sent {
    /// The frame; the host reads it, or a copy.
    pub(crate) skb: SkBuff,
    /// Where its copy is, if there is one.
    pub(crate) section: Option<Section>,
    /// Its bytes.
    pub(crate) len: u32,
}

/// Why a frame is not kept; it is given back.
pub(crate) enum NotKept {
    /// Too many are with the host.
    Full(Sent),
    /// The queue has ended.
    Ended(Sent),
}

/// What is with the host.
struct Pending {
    table: RequestTable<Sent, KVec<Slot<Sent>>>,
    sections: Sections<KVec<u32>>,
}

impl Pending {
    /// Ends a request; its section is free.
    #[inline]
    fn take(&mut self, id: u64) -> Result<Sent, BadId> {
        let mut sent = self.table.complete(id)?;

        if let Some(section) = sent.section.take() {
            self.sections.give(section);
        }
        Ok(sent)
    }
}

/// A section that is put aside, or none.
struct Spare(Atomic<u32>);

impl Spare {
    const NONE: u32 = u32::MAX;

    const fn new() -> Self {
        Self(Atomic::new(Self::NONE))
    }

    #[inline]
    fn take(&self) -> Option<Section> {
        match self.0.xchg(Self::NONE, Relaxed) {
            Self::NONE => None,
            number => Some(Section::take_up(number)),
        }
    }

    /// Puts one aside; returns another that was, and has to go back.
    #[inline]
    fn put(&self, section: Section) -> Option<Section> {
        match self.0.xchg(section.put_aside(), Relaxed) {
            Self::NONE => None,
            number => Some(Section::take_up(number)),
        }
    }

    fn is_there(&self) -> bool {
        self.0.load(Relaxed) != Self::NONE
    }
}

/// A queue.
#[pin_data]
pub(crate) struct Queue {
    pub(crate) index: u32,
    /// The way to the host, once the channel is open.
    pub(crate) sender: SetOnce<Sender>,
    /// The ring is nearly full, or too many frames are with the host.
    pub(crate) stopped: Atomic<bool>,
    #[pin]
    pending: SpinLockIrq<Option<Pending>>,
    spare: Spare,
    pub(crate) counters: Arc<QueueCounters>,
}

impl Queue {
    /// A queue whose channel is not open.
    pub(crate) fn new(index: u32, counters: Arc<QueueCounters>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                index,
                sender: SetOnce::new(),
                stopped: Atomic::new(false),
                pending <- new_spinlock_irq!(None),
                spare: Spare::new(),
                counters,
            }),
            GFP_KERNEL,
        )
    }

    /// Gets ready to send, with these sections of the send buffer. May sleep.
    pub(crate) fn prepare(&self, sections: core::ops::Range<u32>) -> Result {
        let mut slots = KVec::with_capacity(DEPTH, GFP_KERNEL)?;
        let storage = KVec::from_elem(0u32, sections.len(), GFP_KERNEL)?;

        for _ in 0..DEPTH {
            slots.push(Slot::new(), GFP_KERNEL)?;
        }
        let new = Pending {
            table: RequestTable::new(slots),
            sections: Sections::new(storage, sections),
        };
        let old = self.pending.lock().replace(new);

        // Of the old ones.
        let _ = self.spare.take().map(Section::put_aside);
        drop(old);
        Ok(())
    }

    /// Takes a section of the send buffer, which [`Self::keep`] has put aside or is free. For who
    /// transmits on this queue.
    #[inline]
    pub(crate) fn take_section(&self) -> Option<Section> {
        match self.spare.take() {
            None => (*self.pending.lock()).as_mut()?.sections.take(),
            section => section,
        }
    }

    /// Gives it back unused.
    #[inline]
    pub(crate) fn give_section(&self, section: Section) {
        if let Some(pending) = &mut *self.pending.lock() {
            pending.sections.give(section);
        }
    }

    /// Keeps a frame that is about to be sent, and returns its transaction id. Puts a section aside
    /// for the next frame: the lock is taken once for each. For who transmits on this queue.
    #[inline]
    pub(crate) fn keep(&self, sent: Sent) -> Result<u64, NotKept> {
        let mut pending = self.pending.lock();
        let Some(pending) = &mut *pending else {
            return Err(NotKept::Ended(sent));
        };
        let copied = sent.section.is_some();
        let id = pending.table.alloc(sent).map_err(NotKept::Full)?;

        if copied {
            if let Some(next) = pending.sections.take() {
                if let Some(other) = self.spare.put(next) {
                    pending.sections.give(other);
                }
            }
        }
        Ok(id)
    }

    /// Takes a frame back: the host was not told of it. Its section is free.
    pub(crate) fn take(&self, id: u64) -> Result<Sent, BadId> {
        (*self.pending.lock())
            .as_mut()
            .ok_or(BadId::NotPending)?
            .take(id)
    }

    /// Takes frames back: the host is done with them. Their sections are free. `each` gets what was
    /// said of each id, and is called with interrupts off.
    #[inline]
    pub(crate) fn take_all<T: Copy>(
        &self,
        ids: &[(u64, T)],
        mut each: impl FnMut(u64, T, Result<Sent, BadId>),
    ) {
        let mut pending = self.pending.lock();

        for (id, said) in ids {
            let sent = match &mut *pending {
                Some(pending) => pending.take(*id),
                None => Err(BadId::NotPending),
            };

            each(*id, *said, sent);
        }
    }

    /// Whether another frame can be kept.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.pending
            .lock()
            .as_ref()
            .is_some_and(|pending| pending.table.pending() < pending.table.capacity())
    }

    /// Frames that are with the host.
    pub(crate) fn in_flight(&self) -> usize {
        self.pending
            .lock()
            .as_ref()
            .map_or(0, |pending| pending.table.pending())
    }

    /// Sections that are free.
    pub(crate) fn free_sections(&self) -> usize {
        self.pending.lock().as_ref().map_or(0, |pending| {
            pending
                .sections
                .free()
                .saturating_add(self.spare.is_there().into())
        })
    }

    /// Ends all: the channel is closed, and nothing is being sent. What the host may still read is
    /// left to it. A frame that a program sent back is pages of a pool, which then stays for good,
    /// and the kernel says so every minute once the interface is gone. May sleep.
    pub(crate) fn end(&self, lingering: Option<&Lingering>, counters: &Counters) {
        let pending = self.pending.lock().take();
        let Some(mut pending) = pending else {
            return;
        };

        self.stopped.store(false, Relaxed);
        while let Some(sent) = pending.table.take_any() {
            if lingering.is_some_and(|lingering| !lingering.is_over()) {
                counters.left_to_host.count();
                core::mem::forget(sent.skb);
            }
        }
    }
}
