// SPDX-License-Identifier: GPL-2.0

//! The end of a GPADL: what the host is asked for, and what is left to it.

use super::{records::Record, Lingering};
use crate::{
    channel::{late, Channel},
    connection::{Asked, Connection},
};
use kernel::{prelude::*, sync::Arc};
use vmbus_protocol::{link::HostMemory, message::GpadlTeardown};

/// The end of a GPADL, begun.
#[must_use = "only its end says what became of the memory"]
pub(crate) struct Teardown(pub(super) State);

pub(super) enum State {
    Asked {
        record: Arc<Record>,
        channel: Arc<Channel>,
        asked: Result<Asked<GpadlTeardown>>,
    },
    Ended(Option<Lingering>),
}

impl Teardown {
    /// One that needs no answer; `lingering` is what is left to the host.
    pub(crate) fn ended(lingering: Option<Lingering>) -> Self {
        Self(State::Ended(lingering))
    }

    /// Waits until the host has let go of the memory, for a bounded time from the question on. May
    /// sleep. Returns what is left to the host if it does not say that it has.
    pub(crate) fn finish(self, connection: &Connection) -> Option<Lingering> {
        let (record, channel, asked) = match self.0 {
            State::Ended(lingering) => return lingering,
            State::Asked {
                record,
                channel,
                asked,
            } => (record, channel, asked),
        };

        // No answer comes to what was not posted.
        let posted = asked.is_ok();

        match asked.and_then(|asked| connection.finish_request(asked)) {
            Ok(()) => {
                let _ = record.life.lock().torndown();
                channel.life.lock().let_go(record.handle);
            }
            Err(_) if has_let_go(connection, &channel) => record.life.lock().revoked(),
            Err(error) => {
                // An answer that came meanwhile counts.
                if record.give_up() {
                    pr_err!(
                        "GPADL {:#x} of relid {} not torn down: {:?}; {} pages are left to the host\n",
                        record.handle.raw(),
                        record.relid.raw(),
                        error,
                        record.pages.count()
                    );
                    if !posted {
                        record.life.lock().ask_again();
                        late::schedule(channel.clone());
                    }
                }
            }
        }
        end(connection, &channel, record)
    }
}

impl Teardown {
    /// Ends it without the host: there is no connection any more.
    pub(crate) fn abandon(self) -> Option<Lingering> {
        match self.0 {
            State::Ended(lingering) => lingering,
            State::Asked { record, .. } => record.give_up().then_some(Lingering(record)),
        }
    }
}

/// The end of a GPADL, good or not: what is left to the host.
pub(super) fn end(
    connection: &Connection,
    channel: &Channel,
    record: Arc<Record>,
) -> Option<Lingering> {
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

/// Whether a rescind or an UNLOAD that came meanwhile has taken all memory from the host. May
/// sleep: waits for the end of an UNLOAD.
pub(super) fn has_let_go(connection: &Connection, channel: &Channel) -> bool {
    memory_of(connection, channel) == HostMemory::LetGo
}

/// What the host does with the memory of a channel. May sleep.
pub(crate) fn memory_of(connection: &Connection, channel: &Channel) -> HostMemory {
    if channel.is_rescinded() {
        HostMemory::LetGo
    } else {
        connection.host_memory()
    }
}
