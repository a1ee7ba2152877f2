// SPDX-License-Identifier: GPL-2.0

//! All channels, by relid for interrupts and as a list for everything else.

use super::Channel;
use crate::abstractions::RcuArc;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, ArcBorrow, Mutex,
    },
};
use vmbus_protocol::{message::MAX_CHANNEL_RELIDS, Relid};

/// The channels of a connection.
#[pin_data]
pub(crate) struct ChannelTable {
    /// One slot for each relid; read by interrupts without a lock.
    slots: KVec<RcuArc<Channel>>,
    /// Highest relid that was ever in use: interrupts look no further.
    high_water: Atomic<u32>,
    /// Every channel from its offer to its release. There is room for all: nothing is allocated
    /// under the lock, for which the closes of a disk's channels wait.
    #[pin]
    list: Mutex<KVec<Arc<Channel>>>,
}

impl ChannelTable {
    /// An empty table.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            slots: {
                let mut slots = KVec::with_capacity(MAX_CHANNEL_RELIDS as usize, GFP_KERNEL)?;

                for _ in 0..MAX_CHANNEL_RELIDS {
                    slots.push(RcuArc::empty(), GFP_KERNEL)?;
                }
                slots
            },
            high_water: Atomic::new(0),
            list <- new_mutex!(KVec::with_capacity(MAX_CHANNEL_RELIDS as usize, GFP_KERNEL)?),
        }? Error)
    }

    /// Number of 64-bit words of event flags that can have a bit set.
    #[inline]
    pub(crate) fn event_words(&self) -> usize {
        self.high_water.load(Relaxed) as usize / 64 + 1
    }

    /// Runs `f` on the channel with `relid`, if there is one. Any context but NMI.
    #[inline]
    pub(crate) fn with<R>(
        &self,
        relid: Relid,
        f: impl FnOnce(ArcBorrow<'_, Channel>) -> R,
    ) -> Option<R> {
        self.slots.get(relid.raw() as usize)?.with(f)
    }

    /// The channel with `relid`.
    pub(crate) fn get(&self, relid: Relid) -> Option<Arc<Channel>> {
        self.slots.get(relid.raw() as usize)?.get()
    }

    /// Decides about a new channel with `admit`, under the lock that keeps the answer true, and
    /// publishes what it makes. `EBUSY` when the relid is taken, which admission excludes. `admit`
    /// must not wait for memory: closes wait for the lock.
    pub(super) fn insert(
        &self,
        admit: impl FnOnce(&[Arc<Channel>]) -> Result<Option<Arc<Channel>>>,
    ) -> Result<Option<Arc<Channel>>> {
        let mut list = self.list.lock();
        let Some(channel) = admit(&list)? else {
            return Ok(None);
        };
        let relid = channel.relid().raw();
        let slot = self.slots.get(relid as usize).ok_or(EINVAL)?;

        // As many as there are slots; the relids are those of different slots.
        list.push_within_capacity(channel.clone())
            .map_err(|_| ENOSPC)?;
        if let Err(error) = slot.publish(channel.clone()) {
            drop(list.pop());
            return Err(error);
        }
        if relid > self.high_water.load(Relaxed) {
            self.high_water.store(relid, Relaxed);
        }
        Ok(Some(channel))
    }

    /// Takes a channel out; interrupts do not see it any more afterwards. May sleep.
    pub(super) fn remove(&self, channel: &Arc<Channel>) {
        channel.end_delayed_work();
        self.list
            .lock()
            .retain(|other| !Arc::ptr_eq(other, channel));
        if let Some(slot) = self.slots.get(channel.relid().raw() as usize) {
            drop(slot.unpublish());
        }
    }

    /// The first channel, in the order of offers, of which `which` says so.
    pub(crate) fn find(&self, which: impl Fn(&Channel) -> bool) -> Option<Arc<Channel>> {
        self.list
            .lock()
            .iter()
            .find(|channel| which(channel))
            .cloned()
    }

    /// The newest channel, for taking all of them down one by one.
    pub(crate) fn last(&self) -> Option<Arc<Channel>> {
        self.list.lock().last().cloned()
    }

    /// Runs `f` on each sub-channel of `primary`, without the lock. May sleep.
    ///
    /// In the order of their relids, and without a list of them: nothing is allocated here, where
    /// memory may be short because of the very device.
    pub(crate) fn for_each_sub(&self, primary: &Arc<Channel>, mut f: impl FnMut(Arc<Channel>)) {
        let mut done = Relid(0);

        loop {
            let next = {
                let list = self.list.lock();

                list.iter()
                    .filter(|channel| channel.relid() > done && channel.is_sub_of(primary))
                    .min_by_key(|channel| channel.relid())
                    .cloned()
            };
            let Some(channel) = next else {
                return;
            };

            done = channel.relid();
            f(channel);
        }
    }

    /// Forgets that the driver of `primary` knows of its sub-channels: the next one is told anew.
    pub(super) fn forget_announcements(&self, primary: &Arc<Channel>) {
        for channel in self.list.lock().iter() {
            if channel.is_sub_of(primary) {
                channel.announced.store(false, Relaxed);
            }
        }
    }

    /// A channel for which the host interrupts `cpu`, if there is one.
    pub(crate) fn first_on(&self, cpu: u32) -> Option<Arc<Channel>> {
        self.list
            .lock()
            .iter()
            .find(|channel| channel.affinity.lock().may_be(cpu))
            .cloned()
    }

    /// Runs `f` on all channels, under the lock that keeps others from coming. May sleep.
    pub(crate) fn look<R>(&self, f: impl FnOnce(&[Arc<Channel>]) -> R) -> R {
        f(&self.list.lock())
    }
}
