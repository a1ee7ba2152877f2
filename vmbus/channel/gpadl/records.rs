// SPDX-License-Identifier: GPL-2.0

//! The GPADLs of a connection that the host has not let go of.

use crate::memory::PageList;
use kernel::{
    new_mutex, new_spinlock,
    prelude::*,
    sync::{Arc, Mutex, SpinLock},
};
use vmbus_protocol::{
    gpadl::{GpadlLife, MemoryFate},
    GpadlHandle, Relid,
};

/// For how many records more there is room when there is none left.
const MORE: usize = 32;

/// What the connection knows of one GPADL.
#[pin_data]
pub(super) struct Record {
    pub(super) handle: GpadlHandle,
    pub(super) relid: Relid,
    pub(super) pages: Arc<PageList>,
    #[pin]
    pub(super) life: SpinLock<GpadlLife>,
}

impl Record {
    /// The guest waits no longer. Returns whether the memory is left to the host.
    pub(super) fn give_up(&self) -> bool {
        let mut life = self.life.lock();

        life.gave_up();
        self.leak_unless_free(&life)
    }

    /// Leaves the memory to the host if that may still use it. Under the lock, since the host may
    /// let go of it at any time.
    pub(super) fn leak_unless_free(&self, life: &GpadlLife) -> bool {
        let leaked = life.memory() != MemoryFate::Free;

        if leaked {
            self.pages.leak();
        }
        leaked
    }

    /// The host has let go of the memory.
    pub(super) fn let_go(&self) {
        let mut life = self.life.lock();

        if life.let_go() {
            self.pages.reclaim();
        }
    }

    /// The host says only now whether it has taken the memory. Returns whether it has not.
    fn created_late(&self, status: u32) -> bool {
        let mut life = self.life.lock();
        let free = life.created_late(status);

        if free {
            self.pages.reclaim();
        }
        free
    }

    pub(super) fn is_free(&self) -> bool {
        self.life.lock().memory() == MemoryFate::Free
    }
}

/// The GPADLs of a connection that the host has not let go of.
#[pin_data]
pub(crate) struct Gpadls {
    #[pin]
    records: Mutex<KVec<Arc<Record>>>,
}

impl Gpadls {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            records <- new_mutex!(KVec::new()),
        })
    }

    /// Keeps a record of a GPADL that is about to be posted.
    pub(super) fn add(
        &self,
        handle: GpadlHandle,
        relid: Relid,
        pages: &Arc<PageList>,
    ) -> Result<Arc<Record>> {
        let mut life = GpadlLife::new();

        life.posting().map_err(|_| EINVAL)?;
        let record = Arc::pin_init(
            pin_init!(Record {
                handle,
                relid,
                pages: pages.clone(),
                life <- new_spinlock!(life),
            }),
            GFP_KERNEL,
        )?;

        self.push(record.clone())?;
        Ok(record)
    }

    /// Allocates without the lock: whoever reads the host's messages, or writes to a disk to make
    /// memory free, takes it.
    fn push(&self, record: Arc<Record>) -> Result {
        let mut room = KVec::new();

        loop {
            let mut records = self.records.lock();

            if records.len() == records.capacity() && room.capacity() > records.len() {
                for old in records.drain_all() {
                    // There is room for all.
                    let _ = room.push_within_capacity(old);
                }
                core::mem::swap(&mut *records, &mut room);
            }
            if records.len() < records.capacity() {
                return records.push_within_capacity(record).map_err(|_| ENOMEM);
            }
            let wanted = records.len().saturating_add(MORE);

            drop(records);
            room = KVec::with_capacity(wanted, GFP_KERNEL)?;
        }
    }

    pub(super) fn remove(&self, record: &Arc<Record>) {
        let mut records = self.records.lock();
        let at = records.iter().position(|other| Arc::ptr_eq(other, record));
        let removed = at.and_then(|at| records.remove(at).ok());

        // Freeing pages is done without the lock.
        drop(records);
        drop(removed);
    }

    /// The host says only now whether it has taken the memory of a GPADL. Returns whether anybody
    /// wanted to know.
    pub(crate) fn on_late_created(&self, handle: GpadlHandle, status: u32) -> bool {
        let record = self.find(handle);
        let Some(record) = record else {
            return false;
        };

        if record.created_late(status) {
            self.remove(&record);
        }
        true
    }

    /// The host is to be asked for the memory of a GPADL again: what kept it from letting go is
    /// over.
    pub(crate) fn ask_again(&self, handle: GpadlHandle) {
        if let Some(record) = self.find(handle) {
            record.life.lock().ask_again();
        }
    }

    fn find(&self, handle: GpadlHandle) -> Option<Arc<Record>> {
        let records = self.records.lock();

        records
            .iter()
            .find(|record| record.handle == handle)
            .cloned()
    }

    /// Whether there is a GPADL of the channel `relid`.
    pub(crate) fn has_any(&self, relid: Relid) -> bool {
        let records = self.records.lock();

        records.iter().any(|record| record.relid == relid)
    }

    /// A GPADL of the channel `relid` that the host is to be asked for again; each once.
    pub(crate) fn take_ask_again(&self, relid: Relid) -> Option<GpadlHandle> {
        let records = self.records.lock();

        records
            .iter()
            .find(|record| record.relid == relid && record.life.lock().take_ask_again())
            .map(|record| record.handle)
    }

    /// The host has let go of all GPADLs that `which` names.
    fn let_go(&self, which: impl Fn(&Record) -> bool) -> bool {
        let mut found = false;

        // One after the other, so that pages are freed without the lock.
        loop {
            let mut records = self.records.lock();
            let at = records.iter().position(|record| {
                which(record) && {
                    record.let_go();
                    record.is_free()
                }
            });
            let Some(record) = at.and_then(|at| records.remove(at).ok()) else {
                return found;
            };

            drop(records);
            drop(record);
            found = true;
        }
    }

    /// A GPADL_TORNDOWN that nobody waits for any more. Returns the relid if it ends a GPADL.
    pub(crate) fn on_late_torndown(&self, handle: GpadlHandle) -> Option<Relid> {
        let relid = self.find(handle)?.relid;

        self.let_go(|record| record.handle == handle)
            .then_some(relid)
    }

    /// The channel `relid` is rescinded: the host has let go of what was announced on it.
    pub(crate) fn on_rescind(&self, relid: Relid) {
        self.let_go(|record| record.relid == relid);
    }

    /// The host has let go of everything.
    pub(crate) fn on_unloaded(&self) {
        self.let_go(|_| true);
    }
}
