// SPDX-License-Identifier: GPL-2.0

//! The end of a session: CLOSECHANNEL, and what becomes of the memory.

use super::{
    gpadl::{self, Lingering, Teardown},
    late, offer,
    session::{Rings, Session, EVENT, NOTICE},
    sub, Channel,
};
use crate::{
    abstractions::{workqueue, Shown},
    connection::{Connection, CONNECTION},
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use vmbus_protocol::{
    affinity::Affinity, channel::CloseAction, link::HostMemory, message::CloseChannel,
    session::SessionEvent,
};
use zerocopy::IntoBytes;

/// How often whoever waits for an end that somebody else began looks at it.
const LOOK_EVERY_MS: u32 = 1_000;

impl Session {
    /// Begins the end of the session: afterwards nothing of the driver is called any more, nothing
    /// is sent, and the host is asked for the memory. Sub-channels that the driver left open are
    /// closed before. May sleep; allocates nothing. Does no harm when it was begun before.
    pub(super) fn begin_close(self: &Arc<Self>) {
        if self.life.happen(SessionEvent::BeginClose).is_none() {
            return;
        }
        let teardown = self.tear_down();

        *self.teardown.lock() = Some(teardown);
    }

    /// Ends the session, see [`Self::begin_close`], and returns what is left to the host. May
    /// sleep, for a bounded time from the beginning of the end on.
    pub(super) fn close(self: &Arc<Self>) -> Option<Lingering> {
        self.begin_close();
        // Somebody else may be at it: at the second half, for a bounded time, or at the first one,
        // and leave the second one to us.
        loop {
            let teardown = self.teardown.lock().take();

            if let Some(teardown) = teardown {
                self.finish_close(teardown);
            }
            if self.over.wait_timeout(LOOK_EVERY_MS) {
                break;
            }
        }
        self.lingering.lock().clone()
    }

    fn tear_down(self: &Arc<Self>) -> Teardown {
        let channel = &self.channel;
        let connection = CONNECTION.get();

        // A sub-channel whose open has not seen that this ends is in its list after this.
        drop(channel.session.lock());
        // Whoever opens it waits for a bounded time.
        while !self.opened.wait_timeout(LOOK_EVERY_MS) {}
        if let Some(connection) = &connection {
            sub::begin_stop(connection, channel);
        }
        // Whatever is taken out of a lock is dropped after the lock is released: unmapping sleeps,
        // and a driver's objects may do anything.
        let writer = self.writer.lock().take();

        drop(writer);
        workqueue::disable_sync::<Session, EVENT>(self);
        let slot = channel.rx.lock().take();

        drop(slot);
        workqueue::disable_sync::<Session, NOTICE>(self);
        let observer = self.observer.lock().take();

        drop(observer);
        let rings = self.rings.lock().take();

        match &connection {
            Some(connection) => self.close_at_host(connection, rings),
            None => Teardown::ended(rings.map(|rings| rings.gpadl.abandon())),
        }
    }

    /// Begins to end what the host has of the channel.
    fn close_at_host(&self, connection: &Connection, rings: Option<Rings>) -> Teardown {
        let channel = &self.channel;
        let action = {
            // Not while the host is asked for another CPU: it would not answer.
            let _modifying = channel.modifying.lock();

            channel.life.lock().close_begin()
        };
        let mut memory = gpadl::memory_of(connection, channel);
        let mut told = true;

        if action == Ok(CloseAction::Post) && memory == HostMemory::Ask {
            told = self.post_close(connection);
            memory = gpadl::memory_of(connection, channel);
        }
        match rings {
            Some(rings) if told || memory != HostMemory::Ask => {
                rings.gpadl.tear_down(connection, memory)
            }
            // It may write to a channel that it has open: the memory is asked for once that is
            // closed.
            Some(rings) => rings.gpadl.tear_down_later(connection),
            None => Teardown::ended(None),
        }
    }

    /// Returns whether the host was told that the channel is closed, or has let go of it.
    fn post_close(&self, connection: &Connection) -> bool {
        let channel = &self.channel;
        let close = CloseChannel::new(channel.relid());
        let alive = || !channel.is_rescinded();

        match connection.post(close.as_bytes(), &alive) {
            Ok(()) => true,
            Err(_) if channel.is_rescinded() => true,
            Err(error) => {
                pr_err!(
                    "{}: not closed yet: {:?}\n",
                    Shown(&channel.offer.instance),
                    error
                );
                channel.life.lock().close_not_posted();
                false
            }
        }
    }

    /// Waits for the host's answer; afterwards the channel can be opened again, or goes.
    fn finish_close(&self, teardown: Teardown) {
        let channel = &self.channel;
        let connection = CONNECTION.get();

        if let Some(connection) = &connection {
            sub::finish_stop(connection, channel);
        }
        let lingering = match &connection {
            Some(connection) => teardown.finish(connection),
            None => teardown.abandon(),
        };
        let target = channel.target_cpu();

        if let Some(connection) = connection.as_ref().filter(|_| lingering.is_none()) {
            connection.forget_modifies(channel.relid());
        }
        *channel.affinity.lock() = Affinity::new(target);
        let session = channel.session.lock().take();

        // It is being closed, by whoever has taken the teardown.
        let _ = channel.life.lock().close_end();
        if let Some(connection) = &connection {
            offer::release(connection, channel);
        }
        // What the host could not be told, it is told now, or later.
        if lingering.is_some() {
            late::schedule(channel.clone());
        }
        *self.lingering.lock() = lingering;
        let _ = self.life.happen(SessionEvent::Closed);
        self.over.complete_all();
        drop(session);
    }
}

/// A driver was unbound from the device of this channel: nothing is opened any more, and what it
/// left open is closed. May sleep.
pub(crate) fn forbid_open(primary: &Arc<Channel>) {
    let session = {
        let current = primary.session.lock();

        primary.bound.store(false, Relaxed);
        current.clone()
    };

    if let Some(session) = session {
        pr_warn!(
            "{}: the driver left its channel open; closed\n",
            Shown(&primary.offer.instance)
        );
        let _ = session.close();
    }
}
