// SPDX-License-Identifier: GPL-2.0

//! Guest memory that the host was told about (GPADL), and its end.
//!
//! The connection keeps a [`Record`] of each GPADL until the host has let go of it. When the guest
//! gives up waiting for that, the memory stays where it is, counted as leaked; if the host says so
//! later all the same (a late GPADL_TORNDOWN, a rescind, the answer to UNLOAD), it is freed.

mod records;
mod teardown;

pub(crate) use records::Gpadls;
pub(super) use teardown::{memory_of, Teardown};

use super::{late, Channel};
use crate::{
    connection::{Connection, Waiter, CONNECTION},
    memory::{BufferMap, PageList, PAGE_BYTES},
};
use kernel::{prelude::*, sync::Arc};
use records::Record;
use teardown::{end, has_let_go, State};
use vmbus_protocol::{
    gpadl::{split, GpadlState},
    link::HostMemory,
    message::{GpadlTeardown, MAX_MESSAGE},
    GpadlHandle,
};
use zerocopy::IntoBytes;

/// Memory that the host did not say it is done with when it was closed.
///
/// That is the memory of the channel, and all that the packets on it named: the host may still
/// write there.
#[derive(Clone)]
pub struct Lingering(Arc<Record>);

impl Lingering {
    /// Whether it is known to be over when the device is not bound any more.
    pub const OUTLASTS_DEVICE: bool = true;

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
        let (relid, handle) = (channel.relid(), GpadlHandle(connection.next_handle()));
        let bytes = u32::try_from(pages.count() * PAGE_BYTES)?;
        let messages = split(handle, relid, bytes, pages.pfns()).map_err(|_| EINVAL)?;
        let waiter = Waiter::new()?;
        let record = connection.gpadls.add(handle, relid, pages)?;
        let alive = || !channel.is_rescinded();
        let mut header_posted = false;
        let reply = connection.request(messages, &alive, |messages| {
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
            Ok(status) => {
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
                    handle.raw(),
                    relid.raw(),
                    status
                );
                Err(EIO)
            }
            // `ENODEV` alone does not say that: posting ends with it when an UNLOAD begins, too.
            Err(error) if let_go => {
                life.revoked();
                Err(error)
            }
            // It came while this gave up.
            Err(error) if error == ETIMEDOUT && life.state() == GpadlState::Live => {
                drop(life);
                return Ok(Self {
                    record,
                    channel: channel.clone(),
                    waiter,
                });
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
        let ask_again = life.wants_ask_again();

        drop(life);
        if ask_again {
            late::schedule(channel.clone());
        }
        // The host may have let go since it was asked above.
        if leaked && has_let_go(connection, channel) {
            record.let_go();
        }
        if record.is_free() {
            connection.gpadls.remove(&record);
        }
        result
    }

    /// Tells the host about a buffer. As [`Self::create`].
    pub(super) fn of_buffer(channel: &Arc<Channel>, buffer: &BufferMap) -> Result<Self> {
        let connection = CONNECTION.get().ok_or(ENODEV)?;

        Self::create(&connection, channel, buffer.pages())
    }

    /// The handle that the host knows it by.
    pub(super) fn handle(&self) -> GpadlHandle {
        self.record.handle
    }

    /// Takes the memory back. May sleep; allocates nothing, for it runs where memory is reclaimed.
    ///
    /// `memory` is what the connection, or a rescind, says of it. The host's answer is waited for
    /// by [`Teardown::finish`].
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
        let teardown = GpadlTeardown::new(relid, gpadl);
        let asked = connection.begin_request(waiter, teardown, &alive, |teardown| {
            connection.post(teardown.as_bytes(), &alive)
        });

        Teardown(State::Asked {
            record,
            channel,
            asked,
        })
    }

    /// Leaves the memory to the host, which will be asked for it by
    /// [`late::make_good`](super::late).
    pub(super) fn tear_down_later(self, connection: &Connection) -> Teardown {
        let handle = self.record.handle;
        let teardown = self.tear_down(connection, HostMemory::Keep);

        connection.gpadls.ask_again(handle);
        teardown
    }

    /// Takes the memory back and waits until the host has let go of it, for a bounded time. May
    /// sleep. Returns what is left to the host if it does not say that it has.
    pub(super) fn release(self) -> Option<Lingering> {
        let Some(connection) = CONNECTION.get() else {
            return Some(self.abandon());
        };
        let channel = self.channel.clone();
        let memory = memory_of(&connection, &channel);

        // It may write to the memory of a channel that it has open.
        if memory == HostMemory::Ask && channel.life.lock().must_close() {
            let lingering = self.tear_down_later(&connection).finish(&connection);

            late::schedule(channel);
            return lingering;
        }
        self.tear_down(&connection, memory).finish(&connection)
    }

    /// Leaves the memory to the host: there is no connection to say more.
    pub(super) fn abandon(self) -> Lingering {
        self.record.give_up();
        Lingering(self.record)
    }
}
