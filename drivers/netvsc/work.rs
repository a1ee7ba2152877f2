// SPDX-License-Identifier: GPL-2.0

//! Work items of an adapter: what nobody waits for, and what the host is asked until it answers.

use crate::{
    adapter::Adapter,
    connection::Connection,
    control::{is_silence, Wait},
    numbers,
};
use kernel::{prelude::*, sync::Arc, time::Instant, workqueue::WorkItem};
use netvsc_protocol::{
    link::tell_after,
    silence::{Question, Unanswered},
};
use vmbus::abstractions::workqueue;

/// Identifies the work item that sets which frames are wanted.
pub(crate) const MODE: u64 = 0;
/// Identifies the work item that tells of another link.
pub(crate) const LINK: u64 = 1;
/// Identifies the work item that uses the channels that there are.
pub(crate) const SPREAD: u64 = 2;
/// Identifies the work item that ends a connection.
pub(crate) const END: u64 = 3;
/// Identifies the work item that makes a connection anew whose host does not send frames.
pub(crate) const RECOVER: u64 = 4;
/// Identifies the work item that asks the host again what it has not answered.
pub(crate) const AGAIN: u64 = 5;
/// Identifies the work item that makes a connection anew once its host was left alone for long
/// enough.
pub(crate) const REST: u64 = 6;
/// Identifies the work item that asks the host by which path frames are to go.
pub(crate) const PATH: u64 = 7;
/// Identifies the work item that takes up a card that was joined.
pub(crate) const TAKE_UP: u64 = 8;
/// Identifies the work item that shows the link again.
pub(crate) const SHOW: u64 = 9;

/// How long until it is looked again whether RTNL is free, in milliseconds.
const LOOK_MS: u32 = 100;

/// How long until it is looked whether a host that is left alone does something with frames by
/// itself, in milliseconds: less than it has to have done nothing to be left alone.
const LOOK_AT_REST_MS: u32 = 2_000;

impl Adapter {
    /// The link leads elsewhere, or is there again. Any context but NMI.
    pub(crate) fn tell_neighbours(self: &Arc<Self>) {
        let told = self.told.lock().map(|told| told.elapsed().as_millis());

        // An error means that they will be told anyway, or that the device is unbound.
        let _ = workqueue::enqueue_delayed::<_, LINK>(
            workqueue::system_long(),
            self.clone(),
            tell_after(told),
        );
    }

    /// Shows the link again in so many milliseconds. Any context but NMI.
    pub(crate) fn show_link_in(self: &Arc<Self>, ms: u32) {
        // An error means that it is to run in a while, and looks again then, or that the device is
        // unbound.
        let _ = workqueue::enqueue_delayed::<_, SHOW>(workqueue::system_long(), self.clone(), ms);
    }

    /// Has the host deliver the frames that are wanted now, if that is not done when the interface
    /// comes up. Any context but NMI.
    pub(crate) fn renew_mode(self: &Arc<Self>) {
        if self.is_up() {
            self.ask(Question::Mode);
        }
    }

    /// Has the channels used that there are. Any context but NMI.
    pub(crate) fn respread(self: &Arc<Self>) {
        self.ask(Question::Spread);
    }

    /// Has the adapter connected anew if that helps. Any context but NMI.
    pub(crate) fn recover_soon(self: &Arc<Self>) {
        self.ask(Question::Recovery);
    }

    /// Has a work item ask the host. Any context but NMI.
    fn ask(self: &Arc<Self>, question: Question) {
        // An error means that it is about to run anyway, or that the device is unbound.
        let _ = match question {
            Question::Mode => workqueue::system_dfl().enqueue::<_, MODE>(self.clone()),
            Question::Spread => workqueue::system_dfl_long().enqueue::<_, SPREAD>(self.clone()),
            Question::Path => workqueue::system_dfl_long().enqueue::<_, PATH>(self.clone()),
            Question::Recovery => workqueue::system_dfl_long().enqueue::<_, RECOVER>(self.clone()),
        };
    }

    /// Has a work item ask the host again later, or when it answers again. Any context but NMI.
    pub(crate) fn ask_again(self: &Arc<Self>, question: Question) {
        let pause = self.unanswered.lock().add(question);

        self.ask_later(pause);
    }

    fn ask_later(self: &Arc<Self>, pause: u32) {
        // An error means that it is to run in a while, as others have asked, or that the device is
        // unbound.
        let _ =
            workqueue::enqueue_delayed::<_, AGAIN>(workqueue::system_long(), self.clone(), pause);
    }

    /// The host has fallen silent. Whatever it was asked, what is wanted of it is asked again: it
    /// may have done what was asked last, and what was asked for was given up.
    pub(crate) fn on_silence(self: &Arc<Self>) {
        let times = self.unanswered.lock().silent();

        if let Some(times) = times {
            dev_warn!(
                self.dev,
                "the host does not answer, and is asked again until it does (for the {}. time)\n",
                times
            );
        }
        self.ask_again(Question::Mode);
    }

    /// The host answers again. Any context but NMI.
    pub(crate) fn on_sound(self: &Arc<Self>) {
        if self.unanswered.lock().answered() {
            dev_info!(self.dev, "the host answers again\n");
        }
        self.ask_what_is_left(Unanswered::take_harmless);
    }

    /// The host is asked what `take` gives.
    fn ask_what_is_left(self: &Arc<Self>, take: fn(&mut Unanswered) -> Option<Question>) {
        loop {
            let question = take(&mut self.unanswered.lock());

            match question {
                Some(question) => self.ask(question),
                None => break,
            }
        }
    }

    /// There is another connection.
    pub(crate) fn on_connected(&self) {
        self.unanswered.lock().reset();
        self.recoveries.lock().useful();
    }

    /// Has a connection closed that is dead. Any context but NMI.
    pub(crate) fn close_soon(self: &Arc<Self>) {
        let _ = workqueue::system_dfl_long().enqueue::<_, END>(self.clone());
    }

    /// The host answers, and does nothing with frames: whether another connection is due. If not,
    /// it is later, and there is no link until then.
    fn recovers_now(self: &Arc<Self>, connection: &Connection) -> bool {
        let rest = self.recoveries.lock().rest(self.frames_sent(), self.now());

        if let Some(ms) = rest {
            connection.set_useless();
            self.rest_for(ms);
        }
        rest.is_none()
    }

    /// Leaves the host alone for so many milliseconds, or until it does something with frames.
    fn rest_for(self: &Arc<Self>, ms: u32) {
        // Not the timer for questions, which are asked again much sooner. An error means that its
        // end is waited for, or that the device is unbound.
        let _ = workqueue::enqueue_delayed::<_, REST>(
            workqueue::system_long(),
            self.clone(),
            ms.min(LOOK_AT_REST_MS),
        );
    }

    /// The adapter is connected anew since the host does nothing with frames.
    pub(crate) fn begin_recovery(&self) {
        self.recoveries.lock().begin(self.frames_sent());
    }

    /// Frames that the host has sent since the device was bound.
    fn frames_sent(&self) -> u64 {
        numbers::stats(self).tx_packets
    }
}

impl WorkItem<LINK> for Adapter {
    type Pointer = Arc<Adapter>;

    /// The link leads elsewhere, or is there again: neighbours have to know.
    fn run(this: Arc<Adapter>) {
        *this.told.lock() = Some(Instant::now());
        this.netdev.notify_peers();
    }
}

impl WorkItem<SHOW> for Adapter {
    type Pointer = Arc<Adapter>;

    /// Shows a link that was shown as down for long enough.
    fn run(this: Arc<Adapter>) {
        let Ok(connection) = this.connection() else {
            return;
        };

        // It was lost once more.
        if let Some(ms) = connection.link_up_in() {
            return this.show_link_in(ms);
        }
        // Who tells of the loss has to have RTNL, and may be waiting for it.
        if !this.netdev.try_with_rtnl(|| this.show_link()) {
            return this.show_link_in(LOOK_MS);
        }
        if connection.has_link() {
            this.tell_neighbours();
        }
    }
}

impl WorkItem<MODE> for Adapter {
    type Pointer = Arc<Adapter>;

    fn run(this: Arc<Adapter>) {
        let Ok(connection) = this.connection() else {
            return;
        };

        match connection.control.apply_mode(&connection, Wait::Patient) {
            Err(error) if is_silence(error) => this.ask_again(Question::Mode),
            // It goes away.
            Ok(()) | Err(ENODEV) => {}
            Err(error) => dev_warn!(
                this.dev,
                "the host delivers the frames that it did: {:?}\n",
                error
            ),
        }
    }
}

impl WorkItem<AGAIN> for Adapter {
    type Pointer = Arc<Adapter>;

    fn run(this: Arc<Adapter>) {
        this.unanswered.lock().ask_again();
        this.ask_what_is_left(Unanswered::take);
    }
}

impl WorkItem<REST> for Adapter {
    type Pointer = Arc<Adapter>;

    /// Looks whether the host is to be left alone any longer. Without a link nothing else would
    /// notice that it goes on.
    fn run(this: Arc<Adapter>) {
        let rest = this.recoveries.lock().rest(this.frames_sent(), this.now());
        let is_stuck = this
            .connection()
            .is_ok_and(|connection| connection.is_stuck());

        match rest {
            Some(ms) if is_stuck => this.rest_for(ms),
            _ => this.recover_soon(),
        }
    }
}

impl WorkItem<END> for Adapter {
    type Pointer = Arc<Adapter>;

    fn run(this: Arc<Adapter>) {
        if let Some(connection) = this.connection.get() {
            if connection.is_dead() {
                connection.end();
            }
        }
    }
}

impl WorkItem<RECOVER> for Adapter {
    type Pointer = Arc<Adapter>;

    /// Does what helps, if it still has to be done.
    fn run(this: Arc<Adapter>) {
        let Some(connection) = this.connection.get() else {
            // It could not be made the last time.
            return this.netdev.recover();
        };

        if connection.is_dead() || !this.is_up() {
            return;
        }
        if !connection.is_stuck() {
            return connection.set_useful();
        }
        match connection.control.apply_mode(&connection, Wait::Patient) {
            Err(error) if is_silence(error) => {
                connection.mute();
                this.recoveries.lock().silent();
                this.ask_again(Question::Recovery);
            }
            Err(ENODEV) => {}
            // What it thinks of the question does not matter: it is there.
            _ => {
                if this.recovers_now(&connection) {
                    // Its memory goes before there is another one.
                    drop(connection);
                    this.netdev.recover();
                }
            }
        }
    }
}
