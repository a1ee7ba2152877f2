// SPDX-License-Identifier: GPL-2.0

//! A connection with the host: from the opening of the primary channel to the end of all of them.
//!
//! A change of MTU, of the buffers or of the number of channels makes another one.

use crate::{adapter::Adapter, buffers::Io, channels::Channels, control::Control, queue::Queue};
use kernel::{
    new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, Mutex, SetOnce, SpinLockIrq,
    },
    time::{delay::fsleep, Delta, Instant, Monotonic},
};
use netvsc_protocol::{
    link::{Event, Link},
    nvsp::Version,
    setup::Agreed,
};
use vmbus::{abstractions::Completion, OutgoingPacket, Sender};

/// How long frames that are with the host are waited for before the channels are closed, in
/// milliseconds.
const DRAIN_MS: i64 = 2_000;
/// How often to look.
const LOOK_EVERY_MS: i64 = 5;

/// What becomes of the frames that are with the host when a connection is left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frames {
    /// They are waited for, for a while.
    Waited,
    /// The host does nothing with them.
    Left,
}

/// A connection.
#[pin_data]
pub(crate) struct Connection {
    pub(crate) adapter: Arc<Adapter>,
    /// One for each channel that there may be.
    pub(crate) queues: KVec<Arc<Queue>>,
    /// The two buffers, once the host knows them.
    pub(crate) io: SetOnce<Io>,
    /// What was agreed on, once it was.
    pub(crate) agreed: SetOnce<Agreed>,
    /// Version that is being tried, or agreed on.
    version: Atomic<u32>,
    /// Queues that are used.
    used: Atomic<u32>,
    /// The host may coalesce frames, as it was told last.
    coalesces: Atomic<bool>,
    /// When it was begun.
    since: Instant<Monotonic>,
    /// The host does not answer any more: nothing is sent, and nobody waits for it.
    dead: Atomic<bool>,
    /// The host carries no frames: it does not answer, or does nothing with frames whatever is
    /// tried.
    mute: Atomic<bool>,
    useless: Atomic<bool>,
    #[pin]
    link: SpinLockIrq<Link>,
    #[pin]
    pub(crate) control: Control,
    #[pin]
    pub(crate) channels: Mutex<Channels>,
    /// The sub-channels that the host has promised were offered.
    #[pin]
    pub(crate) all_came: Completion,
    /// Held while it is ended.
    #[pin]
    ending: Mutex<()>,
}

impl Connection {
    /// Nothing is open.
    pub(crate) fn new(adapter: &Arc<Adapter>) -> Result<Arc<Self>> {
        // As many channels as are wanted now.
        let wanted = adapter.settings.lock().channels;
        let mut queues = KVec::with_capacity(wanted as usize, GFP_KERNEL)?;

        for (index, tally) in (0..wanted).zip(adapter.tallies.iter()) {
            queues.push(Queue::new(index, tally.clone())?, GFP_KERNEL)?;
        }
        let control = Control::new()?;

        Arc::pin_init(
            try_pin_init!(Self {
                adapter: adapter.clone(),
                queues,
                io: SetOnce::new(),
                agreed: SetOnce::new(),
                version: Atomic::new(Version::V6_1.0),
                used: Atomic::new(1),
                coalesces: Atomic::new(false),
                since: Instant::now(),
                dead: Atomic::new(false),
                mute: Atomic::new(false),
                useless: Atomic::new(false),
                link <- new_spinlock_irq!(Link::new()),
                control <- control,
                channels <- new_mutex!(Channels::new()),
                all_came <- Completion::new(),
                ending <- new_mutex!(()),
            }),
            GFP_KERNEL,
        )
    }

    /// Sends something that is no frame, on the primary channel. Errors as for [`Sender::send`]; a
    /// ring that the host broke ends the connection. Any context but NMI.
    pub(crate) fn send(&self, packet: &OutgoingPacket<'_>) -> Result {
        let sent = self.sender()?.send(packet);

        if sent == Err(EIO) {
            self.give_up();
        }
        sent
    }

    /// The way to the host. `ENODEV` when there is none.
    fn sender(&self) -> Result<&Sender> {
        self.queues
            .first()
            .and_then(|queue| queue.sender.as_ref())
            .ok_or(ENODEV)
    }

    /// The version that is being tried, or agreed on.
    pub(crate) fn version(&self) -> Version {
        Version(self.version.load(Relaxed))
    }

    pub(crate) fn set_version(&self, version: Version) {
        self.version.store(version.0, Relaxed);
    }

    /// Whether the host may coalesce frames, as it was told last.
    pub(crate) fn coalesces(&self) -> bool {
        self.coalesces.load(Relaxed)
    }

    pub(crate) fn set_coalesces(&self, on: bool) {
        self.coalesces.store(on, Relaxed);
    }

    /// Whether nothing can be expected of the host any more.
    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Acquire)
    }

    /// Wakes whoever waits; from now on nobody waits for a silent host. Any context but NMI.
    pub(crate) fn hurry(&self) {
        self.control.hurry();
        self.all_came.complete();
    }

    /// Queues that are used.
    #[inline]
    pub(crate) fn used(&self) -> u32 {
        self.used.load(Relaxed)
    }

    /// How many milliseconds ago it was begun.
    pub(crate) fn age_ms(&self) -> i64 {
        self.since.elapsed().as_millis()
    }

    pub(crate) fn set_used(&self, used: u32) {
        self.used.store(used, Relaxed);
    }

    /// The host was asked for the link.
    pub(crate) fn on_link_answer(&self, up: bool, speed: Option<u32>) {
        self.link.lock().on_answer(up, speed);
    }

    /// The host tells of the link. Any context but NMI.
    pub(crate) fn on_link_event(&self, event: Event) {
        let now = self.adapter.now();

        self.link.lock().on_event(event, now);
        self.adapter.show_link();
        // Of one that is not used nobody has to know. When it is shown later, they are told then.
        if event == Event::Connected && self.has_link() && self.adapter.is_published(self) {
            self.adapter.tell_neighbours();
        }
    }

    /// Its link is shown as up, or not.
    pub(crate) fn set_link_shown(&self, up: bool) {
        self.link.lock().set_shown(up);
    }

    /// In how many milliseconds its link is shown again, if it is up and not shown so.
    pub(crate) fn link_up_in(&self) -> Option<u32> {
        self.link.lock().up_in(self.adapter.now())
    }

    /// Whether frames reach somebody.
    pub(crate) fn has_link(&self) -> bool {
        let carries = !self.mute.load(Relaxed) && !self.useless.load(Relaxed);

        self.link.lock().is_up(self.adapter.now()) && carries && !self.is_dead()
    }

    /// The host does not answer what it was asked, from now on. It is asked again, by nobody who
    /// holds a lock.
    pub(crate) fn on_silence(&self) {
        if self.adapter.is_published(self) {
            self.adapter.on_silence();
        }
    }

    /// The host answers again. Softirq context.
    #[cold]
    pub(crate) fn on_sound(&self) {
        self.mute.store(false, Relaxed);
        if self.adapter.is_published(self) {
            self.adapter.show_link();
            self.adapter.on_sound();
        }
    }

    /// As long as the host does not answer there is no link. May sleep.
    pub(crate) fn mute(&self) {
        self.mute.xchg(true, Full);
        // It has answered meanwhile.
        if !self.control.is_silent() {
            self.mute.store(false, Relaxed);
        }
        self.adapter.show_link();
    }

    /// The host answers, but does nothing with frames: there is no link until something is tried.
    pub(crate) fn set_useless(&self) {
        self.useless.store(true, Relaxed);
        self.adapter.show_link();
    }

    /// The host does something with frames, or is to have another chance. Whether it answers is
    /// another matter.
    pub(crate) fn set_useful(&self) {
        self.useless.store(false, Relaxed);
        self.adapter.recoveries.lock().useful();
        self.adapter.show_link();
    }

    /// The link's speed in Mb/s.
    pub(crate) fn speed(&self) -> Option<u32> {
        self.link.lock().speed()
    }

    /// Whether the host has frames of a queue that has been stopped for long, and does nothing with
    /// them. Any context but NMI.
    pub(crate) fn is_stuck(&self) -> bool {
        self.queues
            .iter()
            .any(|queue| self.adapter.netdev.is_stalled(queue.index) && queue.in_flight() != 0)
    }

    /// Stops everything that waits for the host, and has the channels closed in a work item. Any
    /// context but NMI.
    pub(crate) fn give_up(&self) {
        self.die();
        self.adapter.show_link();
        self.adapter.close_soon();
    }

    /// From now on nothing is sent, and nobody waits for the host.
    fn die(&self) {
        self.dead.store(true, Release);
        self.control.wake();
        self.all_came.complete();
    }

    /// Ends it: closes the channels, so that the host lets go of all memory, and frees what was
    /// with it. May sleep. Does no harm when it was done before.
    ///
    /// A frame that is being sent meanwhile finds the channel closed, or is freed here.
    pub(crate) fn end(&self) {
        let _ending = self.ending.lock();

        self.die();
        let channels = self.channels.lock().take();

        if channels.count() == 0 {
            return;
        }
        let lingering = channels.end(self);

        // A page that the host may still read is left to it.
        if lingering.is_none_or(|lingering| lingering.is_over()) {
            self.control.end();
        }
    }

    /// Ends it in good order, as far as the host takes part: it is told to forget the interface.
    /// May sleep, for a bounded time.
    pub(crate) fn leave(&self, frames: Frames) {
        let takes_part = !self.is_dead() && !self.control.is_silent();

        if takes_part && self.agreed.as_ref().is_some() {
            if frames == Frames::Waited {
                self.drain();
            }
            self.control.halt(self);
        }
        self.end();
    }

    /// Waits until the host is done with all frames, for a while.
    fn drain(&self) {
        let start = Instant::<Monotonic>::now();
        let busy = || self.queues.iter().any(|queue| queue.in_flight() != 0);

        while busy() && !self.is_dead() && start.elapsed().as_millis() < DRAIN_MS {
            fsleep(Delta::from_millis(LOOK_EVERY_MS));
        }
    }
}
