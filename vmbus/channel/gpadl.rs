// SPDX-License-Identifier: GPL-2.0

//! Guest memory that the host was told about (GPADL), and its end.
//!
//! The connection keeps a [`Record`] of each GPADL until the host has let go of it. When the guest
//! gives up waiting for that, the memory stays where it is, counted as leaked; if the host says so
//! later all the same (a late GPADL_TORNDOWN, a rescind, the answer to UNLOAD), it is freed.

use super::Channel;
use crate::{
    abstractions::NoIo,
    connection::{Asked, Connection, Waiter},
    memory::{PageList, PAGE_BYTES},
};
use kernel::{
    new_mutex, new_spinlock,
    prelude::*,
    sync::{Arc, Mutex, SpinLock},
};
use vmbus_protocol::{
    gpadl::{split, GpadlLife, MemoryFate},
    link::HostMemory,
    message::{GpadlTeardown, MAX_MESSAGE},
    pending::{Reply, ReplyKey},
};
use zerocopy::IntoBytes;

/// What the connection knows of one GPADL.
#[pin_data]
struct Record {
    handle: u32,
    relid: u32,
    pages: Arc<PageList>,
    #[pin]
    life: SpinLock<GpadlLife>,
}

impl Record {
    /// The guest waits no longer. Returns whether the memory is left to the host.
    fn give_up(&self) -> bool {
        let mut life = self.life.lock();

        life.gave_up();
        self.leak_unless_free(&life)
    }

    /// Leaves the memory to the host if that may still use it. Under the lock, since the host may
    /// let go of it at any time.
    fn leak_unless_free(&self, life: &GpadlLife) -> bool {
        let leaked = life.memory() != MemoryFate::Free;

        if leaked {
            self.pages.leak();
        }
        leaked
    }

    /// The host has let go of the memory.
    fn let_go(&self) {
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

    fn is_free(&self) -> bool {
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
    fn add(&self, handle: u32, relid: u32, pages: &Arc<PageList>) -> Result<Arc<Record>> {
        // Whoever reads the host's messages takes the lock, too.
        let _noio = NoIo::new();
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

        self.records.lock().push(record.clone(), GFP_KERNEL)?;
        Ok(record)
    }

    fn remove(&self, record: &Arc<Record>) {
        let mut records = self.records.lock();
        let at = records.iter().position(|other| Arc::ptr_eq(other, record));
        let removed = at.and_then(|at| records.remove(at).ok());

        // Freeing pages is done without the lock.
        drop(records);
        drop(removed);
    }

    /// The host says only now whether it has taken the memory of a GPADL. Returns whether anybody
    /// wanted to know.
    pub(super) fn on_late_created(&self, handle: u32, status: u32) -> bool {
        let record = self.find(handle);
        let Some(record) = record else {
            return false;
        };

        if record.created_late(status) {
            self.remove(&record);
        }
        true
    }

    /// The host is to be asked for the memory of a GPADL again: what kept it from letting go is over.
    pub(super) fn ask_again(&self, handle: u32) {
        if let Some(record) = self.find(handle) {
            record.life.lock().ask_again();
        }
    }

    fn find(&self, handle: u32) -> Option<Arc<Record>> {
        let records = self.records.lock();

        records
            .iter()
            .find(|record| record.handle == handle)
            .cloned()
    }

    /// A GPADL of the channel `relid` that the host is to be asked for again; each once.
    pub(super) fn take_ask_again(&self, relid: u32) -> Option<u32> {
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
    pub(super) fn on_late_torndown(&self, handle: u32) -> Option<u32> {
        let relid = self.find(handle)?.relid;

        self.let_go(|record| record.handle == handle)
            .then_some(relid)
    }

    /// The channel `relid` is rescinded: the host has let go of what was announced on it.
    pub(crate) fn on_rescind(&self, relid: u32) {
        self.let_go(|record| record.relid == relid);
    }

    /// The host has let go of everything.
    pub(crate) fn on_unloaded(&self) {
        self.let_go(|_| true);
    }
}

/// Memory that the host did not say it is done with when it was closed.
///
/// That is the memory of the channel, and all that the packets on it named: the host may still write
/// there.
#[derive(Clone)]
pub struct Lingering(Arc<Record>);

impl Lingering {
    /// Whether the host has let go of it meanwhile. Any context but NMI.
    pub fn is_over(&self) -> bool {
        self.0.is_free()
    }
}

/// A GPADL that the host has accepted.
///
/// It has to be ended with [`Self::tear_down`]; only that says whether the memory may be used for
/// something else.
#[must_use = "the memory stays with the host until the GPADL is torn down"]
pub(super) struct Gpadl {
    record: Arc<Record>,
    channel: Arc<Channel>,
    /// For the end, which may not need memory.
    waiter: Arc<Waiter>,
}

impl Gpadl {
    /// Tells the host about `pages` on behalf of a channel and waits for its answer. May sleep.
    ///
    /// On failure the memory is free again, or counted as leaked when the host may know it.
    pub(super) fn create(
        connection: &Connection,
        channel: &Arc<Channel>,
        pages: &Arc<PageList>,
    ) -> Result<Self> {
        let (relid, handle) = (channel.relid(), connection.next_handle());
        let bytes = u32::try_from(pages.count() * PAGE_BYTES)?;
        let mut messages = split(handle, relid, bytes, pages.pfns()).map_err(|_| EINVAL)?;
        let waiter = Waiter::new()?;
        let record = connection.gpadls.add(handle, relid, pages)?;
        let alive = || !channel.is_rescinded();
        let mut header_posted = false;
        let key = ReplyKey::GpadlCreated {
            relid,
            gpadl: handle,
        };
        let reply = connection.request(key, &alive, || {
            let mut buffer = [0; MAX_MESSAGE];

            while let Some(message) = messages.next_message(&mut buffer) {
                connection.post(message, &alive)?;
                header_posted = true;
            }
            Ok(())
        });
        let let_go = reply.is_err() && has_let_go(connection, channel);
        let mut life = record.life.lock();
        let result = match reply {
            Ok(Reply::Status(status)) => {
                let _ = life.created(status);
                if status == 0 {
                    drop(life);
                    return Ok(Self {
                        record,
                        channel: channel.clone(),
                        waiter,
                    });
                }
                pr_err!(
                    "GPADL {:#x} of relid {} refused: {:#x}\n",
                    handle,
                    relid,
                    status
                );
                Err(EIO)
            }
            Ok(_) => {
                life.gave_up();
                Err(EPROTO)
            }
            // `ENODEV` alone does not say that: posting ends with it when an UNLOAD begins, too.
            Err(error) if let_go => {
                life.revoked();
                Err(error)
            }
            Err(error) if error == ETIMEDOUT => {
                life.gave_up();
                Err(error)
            }
            Err(error) => {
                let _ = life.post_failed(header_posted);
                Err(error)
            }
        };
        let leaked = record.leak_unless_free(&life);

        drop(life);
        // The host may have let go since it was asked above.
        if leaked && has_let_go(connection, channel) {
            record.let_go();
        }
        if record.is_free() {
            connection.gpadls.remove(&record);
        }
        result
    }

    /// The handle that the host knows it by.
    pub(super) fn handle(&self) -> u32 {
        self.record.handle
    }

    /// Takes the memory back. May sleep; allocates nothing, for it runs where memory is reclaimed.
    ///
    /// `memory` is what the connection, or a rescind, says of it. The host's answer is waited for by
    /// [`Teardown::finish`].
    pub(super) fn tear_down(self, connection: &Connection, memory: HostMemory) -> Teardown {
        let Self {
            record,
            channel,
            waiter,
        } = self;
        let (relid, gpadl) = (record.relid, record.handle);

        match memory {
            HostMemory::LetGo => {
                record.life.lock().revoked();
                return Teardown::ended(end(connection, &channel, record));
            }
            HostMemory::Keep | HostMemory::Wait => {
                return Teardown::ended(end(connection, &channel, record));
            }
            HostMemory::Ask => {}
        }
        let _ = record.life.lock().tearing_down();
        let alive = || !channel.is_rescinded();
        let key = ReplyKey::GpadlTorndown { relid, gpadl };
        let asked = connection.begin_request(waiter, key, &alive, || {
            connection.post(GpadlTeardown::new(relid, gpadl).as_bytes(), &alive)
        });

        Teardown(State::Asked {
            record,
            channel,
            asked,
        })
    }

    /// Takes the memory back and waits until the host has let go of it, for a bounded time. May
    /// sleep. Returns what is left to the host if it does not say that it has.
    pub(super) fn end(self, connection: &Connection) -> Option<Lingering> {
        let memory = memory_of(connection, &self.channel);

        self.tear_down(connection, memory).finish(connection)
    }

    /// Leaves the memory to the host: there is no connection to say more.
    pub(super) fn abandon(self) -> Lingering {
        self.record.give_up();
        Lingering(self.record)
    }
}

/// The end of a GPADL, begun.
#[must_use = "only its end says what became of the memory"]
pub(super) struct Teardown(State);

enum State {
    Asked {
        record: Arc<Record>,
        channel: Arc<Channel>,
        asked: Result<Asked>,
    },
    Ended(Option<Lingering>),
}

impl Teardown {
    /// One that needs no answer; `lingering` is what is left to the host.
    pub(super) fn ended(lingering: Option<Lingering>) -> Self {
        Self(State::Ended(lingering))
    }

    /// Waits until the host has let go of the memory, for a bounded time from the question on. May
    /// sleep. Returns what is left to the host if it does not say that it has.
    pub(super) fn finish(self, connection: &Connection) -> Option<Lingering> {
        let (record, channel, asked) = match self.0 {
            State::Ended(lingering) => return lingering,
            State::Asked {
                record,
                channel,
                asked,
            } => (record, channel, asked),
        };

        match asked.and_then(|asked| connection.finish_request(asked)) {
            Ok(_) => {
                let _ = record.life.lock().torndown();
                channel.life.lock().let_go(record.handle);
            }
            Err(_) if has_let_go(connection, &channel) => record.life.lock().revoked(),
            Err(error) => {
                // An answer that came meanwhile counts.
                if record.give_up() {
                    pr_err!(
                        "GPADL {:#x} of relid {} not torn down: {:?}; {} pages are left to the host\n",
                        record.handle,
                        record.relid,
                        error,
                        record.pages.count()
                    );
                }
            }
        }
        end(connection, &channel, record)
    }
}

impl Teardown {
    /// Ends it without the host: there is no connection any more.
    pub(super) fn abandon(self) -> Option<Lingering> {
        match self.0 {
            State::Ended(lingering) => lingering,
            State::Asked { record, .. } => record.give_up().then_some(Lingering(record)),
        }
    }
}

/// The end of a GPADL, good or not: what is left to the host.
fn end(connection: &Connection, channel: &Channel, record: Arc<Record>) -> Option<Lingering> {
    // The host may have let go just before the guest gave up.
    if record.give_up() && has_let_go(connection, channel) {
        record.let_go();
    }
    if !record.is_free() {
        return Some(Lingering(record));
    }
    connection.gpadls.remove(&record);
    None
}

/// Whether a rescind or an UNLOAD that came meanwhile has taken all memory from the host. May sleep:
/// waits for the end of an UNLOAD.
fn has_let_go(connection: &Connection, channel: &Channel) -> bool {
    memory_of(connection, channel) == HostMemory::LetGo
}

/// What the host does with the memory of a channel. May sleep.
pub(super) fn memory_of(connection: &Connection, channel: &Channel) -> HostMemory {
    if channel.is_rescinded() {
        HostMemory::LetGo
    } else {
        connection.host_memory()
    }
}
