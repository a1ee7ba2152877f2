// SPDX-License-Identifier: GPL-2.0

//! How a device ends: its channels, then the commands that are still with the host.

use crate::{
    channels::{Channels, PRIMARY},
    revive,
    scsi::{Completed, End},
    shared::{Shared, END, IDENTIFY, LATER, RECLAIM, REVIVE, UNITS, WATCHDOG},
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{delay::fsleep, Delta},
    workqueue::WorkItem,
};
use storvsc_protocol::{outcome::Sent, HostByte, Outcome, ANSWER_TIMEOUT_MS};
use vmbus::abstractions::{workqueue, Reclaim};

/// How often to look whether the host gave memory back, in milliseconds.
const RECLAIM_EVERY_MS: u32 = 1_000;

impl Shared {
    /// Stops everything that waits for the host, and has the device ended in a work item. Any
    /// context but NMI.
    pub(crate) fn give_up(self: &Arc<Self>) {
        self.set_dead();
        self.init.lock().on_channel_lost();
        self.step.complete();
        self.reset_done.complete();
        // An error means that it is about to run anyway, or that the device is unbound.
        let _ = workqueue::reclaim().enqueue::<_, END>(self.clone());
    }

    /// Ends the device: closes the channels, so that the host lets go of all memory, and then ends
    /// all commands that are still with it. May sleep; takes a while when the host does not answer.
    /// Does no harm when it was done before. Memory may be waiting for writes that end here.
    ///
    /// A command that is being sent meanwhile finds the channel closed, or was handed over before
    /// that and is ended here. The routes stay as long as there are commands, for error handling.
    ///
    /// A command whose channel the host does not confirm to be closed is not ended: its memory
    /// would be somebody else's, and the host may still write there. It is ended when the host says
    /// so after all, takes the controller back, or unloads.
    pub(crate) fn end(self: &Arc<Self>, _: &Reclaim) {
        let mut ended = self.ended.lock();

        self.set_dead();
        let channels = self.channels.lock().take();

        if channels.count() != 0 {
            channels.close();
            *ended = channels;
        }
        if self.end_commands(&ended) == 0 {
            self.host.withdraw();
        } else {
            dev_err!(
                self.dev,
                "the host withholds the memory of {} commands; they wait, and so does unbinding, \
                 until it gives it back, takes the device away, or the machine restarts\n",
                self.host.slots().in_flight()
            );
            self.reclaim_later();
        }
        drop(ended);
        revive::try_later(self);
    }

    /// Ends all commands, but those whose memory the host has not given back; how many of the
    /// midlayer's those are.
    fn end_commands(&self, ended: &Channels) -> usize {
        let mut count = 0u32;

        if !ended.withholds(PRIMARY) {
            self.internal.forget();
        }
        self.host.slots().take_all(
            |number| !ended.withholds(number),
            |command| {
                count = count.saturating_add(1);
                not_done(command, HostByte::NoConnect);
            },
        );
        self.counters.abandoned.add(count.into());
        if count != 0 {
            dev_warn!(
                self.dev,
                "{} commands ended without an answer of the host\n",
                count
            );
        }
        self.host.slots().in_flight()
    }

    fn reclaim_later(self: &Arc<Self>) {
        let queue = workqueue::reclaim();
        let _ = workqueue::enqueue_delayed::<_, RECLAIM>(queue, self.clone(), RECLAIM_EVERY_MS);
    }

    /// Commands of an ended device whose memory the host withholds. Slow.
    pub(crate) fn withheld(&self) -> usize {
        if self.is_dead() {
            self.host.slots().in_flight()
        } else {
            0
        }
    }

    /// Waits until no command is with the host, of a device that was ended. May sleep, for as long
    /// as the host withholds memory.
    pub(crate) fn wait_for_commands(&self) {
        while self.host.slots().in_flight() != 0 {
            fsleep(Delta::from_millis(RECLAIM_EVERY_MS.into()));
        }
    }
}

/// Ends a command that the host did not do.
pub(crate) fn not_done(command: Completed<'_, Sent>, host: HostByte) {
    let outcome = Outcome::not_done(host, command.of_driver().data_len);

    command.finish(&End {
        result: outcome.result(),
        residual: outcome.residual,
        sense: &[],
        is_sign_of_life: false,
    });
}

impl WorkItem<RECLAIM> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        // It may have been revived before this came about.
        if !this.is_dead() {
            return;
        }
        let left = this.end_commands(&this.ended.lock());

        if left != 0 {
            return this.reclaim_later();
        }
        dev_info!(this.dev, "no command's memory is withheld any more\n");
    }
}

impl WorkItem<WATCHDOG> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        dev_err!(
            this.dev,
            "the removal takes too long, the device is given up\n"
        );
        this.give_up();
    }
}

impl WorkItem<END> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        // It may have been ended, and revived, before this came about.
        if this.is_dead() {
            this.end(&Reclaim::new());
        }
    }
}

/// A device that is bound, or on its way to be. Dropping it ends the binding.
pub(crate) struct Bound(pub(crate) Arc<Shared>);

impl Drop for Bound {
    fn drop(&mut self) {
        let shared = &self.0;

        workqueue::disable_delayed_sync::<Shared, REVIVE>(shared);
        if shared.is_dead() {
            shared.end(&Reclaim::new());
        } else {
            // The midlayer waits for the host below; not for ever.
            let _ = workqueue::enqueue_delayed::<_, WATCHDOG>(
                workqueue::reclaim(),
                shared.clone(),
                ANSWER_TIMEOUT_MS,
            );
        }
        workqueue::disable_delayed_sync::<Shared, LATER>(shared);
        workqueue::disable_sync::<Shared, UNITS>(shared);
        // Commands of the removal may wait until a unit has said who it is.
        shared.host.remove();
        workqueue::disable_sync::<Shared, IDENTIFY>(shared);
        workqueue::disable_delayed_sync::<Shared, WATCHDOG>(shared);
        shared.end(&Reclaim::new());
        workqueue::disable_sync::<Shared, END>(shared);
        workqueue::disable_delayed_sync::<Shared, RECLAIM>(shared);
    }
}
