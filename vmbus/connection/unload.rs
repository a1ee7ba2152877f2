// SPDX-License-Identifier: GPL-2.0

//! The end of the connection: UNLOAD, also in a crash.

use super::{
    control::{busy_wait, post_on},
    Connection,
};
use crate::counters;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Relaxed, Release},
    time::delay,
};
use vmbus_protocol::{
    link::{Link, LinkEvent},
    message::Unload,
    post::Purpose,
};
use zerocopy::IntoBytes;

/// How long it may take to unload: it flushes the caches of its disks first.
const UNLOAD_TIMEOUT_MS: u32 = 100_000;
/// Progress is reported this often meanwhile.
const UNLOAD_NOTICE_MS: u32 = 5_000;

impl Connection {
    /// Ends the connection: the host forgets all channels and lets go of all memory. May sleep.
    ///
    /// Allocates nothing: a machine without memory has to be shut down, too.
    pub(crate) fn unload(&self) {
        // The first one sends it; whoever comes second must not find a host that still writes.
        if !self.happens(LinkEvent::Unload) {
            return self.wait_for_others_unload();
        }
        let posted = post_on(
            self.message_connection.load(Relaxed),
            Unload::new().as_bytes(),
            Purpose::Request,
            delay::fsleep,
            || true,
        );
        let answered = match posted {
            Ok(()) => self.wait_for_unload(),
            Err(error) => Err(error),
        };

        match answered {
            Ok(()) => {
                self.happens(LinkEvent::Unloaded);
                self.gpadls.on_unloaded();
            }
            Err(error) => {
                self.happens(LinkEvent::NoAnswer);
                pr_err!("UNLOAD failed: {:?}\n", error);
                self.leak_everything("the host may use them");
            }
        }
        self.unload_ended.complete_all();
    }

    fn wait_for_unload(&self) -> Result {
        for _ in 0..UNLOAD_TIMEOUT_MS / UNLOAD_NOTICE_MS {
            if self.unload_response.wait_timeout(UNLOAD_NOTICE_MS) {
                return Ok(());
            }
            pr_notice!("Waiting for VMBus UNLOAD to complete\n");
        }
        Err(ETIMEDOUT)
    }

    /// UNLOAD_RESPONSE was read. Process context.
    pub(crate) fn on_unload_response(&self) {
        if self.link() == Link::Unloading {
            self.unload_response.complete_all();
        } else {
            counters::STRAY_REPLIES.count();
            crate::ratelimited!(pr_warn!("UNLOAD_RESPONSE that nobody waits for\n"));
        }
    }

    /// The host may go on writing to pages that it was told about, so they are never freed.
    pub(super) fn leak_everything(&self, why: &str) {
        pr_err!("{}: pages shared with the host are not freed\n", why);
        self.doorbells.interrupt_page.page().leak();
        self.doorbells.monitor_in.page().leak();
        self.doorbells.monitor_out.page().leak();
    }

    /// [`Self::unload`] for a crash: takes no lock, does not sleep, and reads the message pages
    /// itself. Bounded.
    pub(crate) fn unload_in_crash(&self) {
        if !self.happens(LinkEvent::Unload) {
            return;
        }
        // An answer that was there before is not the one to this.
        self.unload_answered.store(false, Relaxed);
        let connection = self.message_connection.load(Relaxed);
        let posted = post_on(
            connection,
            Unload::new().as_bytes(),
            Purpose::Crash,
            busy_wait,
            || true,
        );

        if posted.is_err() {
            return;
        }
        crate::messages::poll_for_unload(self, UNLOAD_TIMEOUT_MS, UNLOAD_NOTICE_MS);
    }

    /// The answer to UNLOAD is in a slot. Any context, any CPU.
    pub(crate) fn note_unload_response(&self) {
        self.unload_answered.store(true, Release);
    }

    /// Whether an answer was noted since [`Self::unload_in_crash`] began.
    pub(crate) fn has_unload_response(&self) -> bool {
        self.unload_answered.load(Acquire)
    }

    /// Waits until an UNLOAD that is under way elsewhere has ended, for as long as it may take.
    pub(super) fn wait_for_others_unload(&self) {
        // Pauses last longer than they are asked to.
        const LONGEST_MS: u32 = UNLOAD_TIMEOUT_MS + Purpose::Request.budget_us() / 1_000 * 2;

        for _ in 0..LONGEST_MS / UNLOAD_NOTICE_MS {
            if self.link() != Link::Unloading || self.unload_ended.wait_timeout(UNLOAD_NOTICE_MS) {
                return;
            }
        }
    }
}
