// SPDX-License-Identifier: GPL-2.0

//! The end of a session, and what becomes of the memory.
//!
//! The C core closes the channels of a device together, when the primary one is closed. So a
//! sub-channel that its driver closes is silent from then on, but it is the host's until then.

use super::{
    gpadl::Lingering,
    session::{Opened, Session, EVENT, NOTICE},
    sub,
};
use crate::abstractions::{workqueue, Shown};
use kernel::{prelude::*, sync::Arc};
use vmbus_protocol::session::SessionEvent;

/// How often whoever waits for an end that somebody else began looks at it.
const LOOK_EVERY_MS: u32 = 1_000;

impl Session {
    /// Begins the end of the session: afterwards nothing of the driver is called any more, and
    /// nothing is sent. A primary channel is closed here, and its sub-channels with it: may sleep,
    /// as long as the C core waits for the host. Does no harm when it was begun before.
    pub(super) fn begin_close(self: &Arc<Self>) {
        if self.life.happen(SessionEvent::BeginClose).is_none() {
            return;
        }
        let channel = &self.channel;

        // A sub-channel whose open has not seen that this ends is in its list after this.
        drop(channel.session.lock());
        while !self.attempted.wait_timeout(LOOK_EVERY_MS) {}
        let primary = channel.offer.primary;

        if primary {
            sub::stop(channel);
        }
        let open = self.silence();

        if primary {
            self.close_all(open);
        } else if !open {
            self.end();
        }
        self.silent.complete_all();
    }

    /// Waits for who began the end of a sub-channel's session. May sleep, as long as the driver is
    /// in one of its functions that the channel calls.
    pub(super) fn wait_until_silent(&self) {
        while !self.silent.wait_timeout(LOOK_EVERY_MS) {}
    }

    /// Ends the session, see [`Self::begin_close`], and returns what is left to the host.
    pub(super) fn close(self: &Arc<Self>) -> Option<Lingering> {
        self.begin_close();
        if !self.channel.offer.primary && !self.over.is_done() {
            let rescinded = self.channel.raw.is_rescinded();

            return (!rescinded).then(|| Lingering(self.fate.clone()));
        }
        // Somebody else may be at it.
        while !self.over.wait_timeout(LOOK_EVERY_MS) {}
        self.lingering.lock().clone()
    }

    /// No code of the driver is called after this. Returns whether the channel is open.
    fn silence(self: &Arc<Self>) -> bool {
        let channel = &self.channel;
        let events = (*self.opened.lock())
            .as_mut()
            .and_then(|opened| opened.events.take());
        let open = events.is_some();

        // Whatever is taken out of a lock is dropped after the lock is released: unmapping sleeps,
        // and a driver's objects may do anything.
        drop(events);
        let writer = self.writer.lock().take();

        drop(writer);
        workqueue::disable_sync::<Session, EVENT>(self);
        let slot = channel.rx.lock().take();

        drop(slot);
        workqueue::disable_sync::<Session, NOTICE>(self);
        let observer = self.observer.lock().take();

        drop(observer);
        open
    }

    /// Closes a primary channel that is `open`, and all that the C core closes with it.
    fn close_all(&self, open: bool) {
        if open {
            if let Some(Opened { claim, .. }) = &*self.opened.lock() {
                claim.close();
            }
        }
        while let Some(sub) = sub::take_last(&self.channel) {
            sub.end();
            // What is left to the host ends with a rescind of this very channel, which `Lingering`
            // looks at.
            if sub.lingering.lock().is_none() {
                sub.channel.raw.let_go();
            }
        }
        self.end();
    }

    /// The channel is closed; afterwards it can be opened again, unless the host may have its
    /// memory.
    fn end(&self) {
        let opened = self.opened.lock().take();
        let session = self.channel.session.lock().take();

        if let Some(Opened {
            claim,
            rings,
            refused,
            ..
        }) = opened
        {
            if refused.unwrap_or_else(|| claim.is_with_host()) {
                rings.pages().leak();
                pr_err!(
                    "{}: the C core did not close the channel; {} pages are left to the host\n",
                    Shown(&self.channel.offer.instance),
                    rings.pages().count()
                );
                *self.lingering.lock() = Some(Lingering(self.fate.clone()));
            } else {
                self.fate.let_go();
                claim.release();
            }
        }
        let _ = self.life.happen(SessionEvent::Closed);
        self.over.complete_all();
        drop(session);
    }
}
