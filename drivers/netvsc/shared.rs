// SPDX-License-Identifier: GPL-2.0

//! What all parts of the driver share, and how a device ends.

use crate::{
    buffers::Io,
    channels::{self, Channels},
    control::Control,
    net::{self, NetDevice, Registration},
    queue::Queue,
    status::Counters,
};
use kernel::{
    device, impl_has_work, new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, Mutex, SetOnce,
    },
    time::{delay::fsleep, Delta, Instant, Monotonic},
    workqueue::{new_work, Work, WorkItem},
};
use netvsc_protocol::{
    inbound::TABLE_LEN,
    link::Event,
    nvsp::Version,
    rss::{self, MAX_CHANNELS},
    setup::Agreed,
};
use vmbus::{abstractions::workqueue, Sender};

/// Identifies the work item that sets which frames are wanted.
pub(crate) const MODE: u64 = 0;
/// Identifies the work item that tells of another link.
pub(crate) const LINK: u64 = 1;
/// Identifies the work item that uses the channels that there are.
pub(crate) const SPREAD: u64 = 2;
/// Identifies the work item that ends the device.
pub(crate) const END: u64 = 3;

/// How long frames that are with the host are waited for before the channels are closed, in
/// milliseconds.
const DRAIN_MS: i64 = 2_000;
/// How often to look.
const LOOK_EVERY_MS: i64 = 5;

/// Which queue frames with which hash go out on.
pub(crate) struct Table([Atomic<u32>; TABLE_LEN]);

impl Table {
    fn new() -> Self {
        Self(core::array::from_fn(|slot| {
            Atomic::new(rss::default_entry(slot))
        }))
    }

    /// As the host says.
    pub(crate) fn set(&self, table: [u32; TABLE_LEN]) {
        for (entry, value) in self.0.iter().zip(table) {
            entry.store(value, Relaxed);
        }
    }

    /// The queue for a hash, of so many.
    #[inline]
    pub(crate) fn queue(&self, hash: u32, queues: u32) -> u32 {
        let entry = self.0.get(rss::slot(hash)).map_or(0, |e| e.load(Relaxed));

        rss::channel(entry, queues)
    }
}

/// What the host said last of the link.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Link {
    /// Nothing.
    Unsaid = 0,
    Up = 1,
    Down = 2,
}

/// What all parts of the driver share.
#[pin_data]
pub(crate) struct Shared {
    pub(crate) dev: ARef<device::Device>,
    pub(crate) netdev: Arc<NetDevice>,
    pub(crate) counters: Counters,
    /// One for each channel that there may be.
    pub(crate) queues: KVec<Arc<Queue>>,
    pub(crate) table: Table,
    /// The two buffers, once the host knows them.
    pub(crate) io: SetOnce<Io>,
    /// What was agreed on, once it was.
    pub(crate) agreed: SetOnce<Agreed>,
    /// Version that is being tried, or agreed on.
    version: Atomic<u32>,
    /// Queues that are used.
    used: Atomic<u32>,
    /// The host does not answer any more: nothing is sent, and nobody waits for it.
    dead: Atomic<bool>,
    /// Frames are given to the stack.
    up: Atomic<bool>,
    link: Atomic<u32>,
    /// The link's speed in Mb/s, or 0.
    speed: Atomic<u32>,
    #[pin]
    pub(crate) control: Control,
    #[pin]
    pub(crate) channels: Mutex<Channels>,
    /// Held while the device is ended.
    #[pin]
    ending: Mutex<()>,
    #[pin]
    mode: Work<Shared, MODE>,
    #[pin]
    other_link: Work<Shared, LINK>,
    #[pin]
    spread: Work<Shared, SPREAD>,
    #[pin]
    end: Work<Shared, END>,
}

impl_has_work! {
    impl HasWork<Self, 0> for Shared { self.mode }
    impl HasWork<Self, 1> for Shared { self.other_link }
    impl HasWork<Self, 2> for Shared { self.spread }
    impl HasWork<Self, 3> for Shared { self.end }
}

impl Shared {
    /// Creates the state of a device that is about to be bound. Nothing of it is known to anybody.
    pub(crate) fn new(dev: &device::Device<device::Bound>) -> Result<Arc<Self>> {
        let count = net::default_queues()
            .min(net::cpus_online())
            .clamp(1, MAX_CHANNELS);
        let mut queues = KVec::with_capacity(count as usize, GFP_KERNEL)?;

        for index in 0..count {
            queues.push(Queue::new(index)?, GFP_KERNEL)?;
        }
        let netdev = NetDevice::new(dev, count)?;
        let control = Control::new()?;

        Arc::pin_init(
            try_pin_init!(Self {
                netdev,
                dev: (&**dev).into(),
                counters: Counters::new(),
                queues,
                table: Table::new(),
                io: SetOnce::new(),
                agreed: SetOnce::new(),
                version: Atomic::new(Version::V6_1.0),
                used: Atomic::new(1),
                dead: Atomic::new(false),
                up: Atomic::new(false),
                link: Atomic::new(Link::Unsaid as u32),
                speed: Atomic::new(0),
                control <- control,
                channels <- new_mutex!(Channels::new()),
                ending <- new_mutex!(()),
                mode <- new_work!("hv_netvsc::mode"),
                other_link <- new_work!("hv_netvsc::link"),
                spread <- new_work!("hv_netvsc::spread"),
                end <- new_work!("hv_netvsc::end"),
            }),
            GFP_KERNEL,
        )
    }

    /// The way to the host for everything but frames. `ENODEV` when there is none.
    pub(crate) fn sender(&self) -> Result<&Sender> {
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

    /// Whether nothing can be expected of the host any more.
    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Acquire)
    }

    /// Whether frames are given to the stack.
    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Release);
    }

    /// Queues that are used.
    #[inline]
    pub(crate) fn used(&self) -> u32 {
        self.used.load(Relaxed)
    }

    pub(crate) fn set_used(&self, used: u32) {
        self.used.store(used, Relaxed);
    }

    /// The link's speed in Mb/s.
    pub(crate) fn link_speed(&self) -> Option<u32> {
        match self.speed.load(Relaxed) {
            0 => self.agreed.as_ref()?.speed,
            speed => Some(speed),
        }
    }

    /// The host tells of the link. Any context but NMI.
    pub(crate) fn on_link_event(self: &Arc<Self>, event: Event) {
        match event {
            Event::Connected => self.set_link(Link::Up),
            Event::Disconnected => self.set_link(Link::Down),
            Event::Speed(speed) => self.speed.store(speed, Relaxed),
            Event::Changed => {}
        }
        if matches!(event, Event::Connected | Event::Changed) {
            let _ = workqueue::system_dfl().enqueue::<_, LINK>(self.clone());
        }
    }

    fn set_link(&self, link: Link) {
        self.link.store(link as u32, Release);
        self.netdev.set_carrier(link == Link::Up && !self.is_dead());
    }

    /// The interface is registered: what came before takes effect.
    fn apply_link(&self) {
        match self.link.load(Acquire) {
            link if link == Link::Up as u32 => self.set_link(Link::Up),
            link if link == Link::Down as u32 => self.set_link(Link::Down),
            _ => {}
        }
    }

    /// Has the channels used that there are. Any context but NMI.
    pub(crate) fn respread(self: &Arc<Self>) {
        channels::enqueue(self);
    }

    /// Stops everything that waits for the host, and has the channels closed in a work item. Any
    /// context but NMI.
    pub(crate) fn give_up(self: &Arc<Self>) {
        self.die();
        // An error means that it is about to run anyway, or that the device is unbound.
        let _ = workqueue::system_dfl_long().enqueue::<_, END>(self.clone());
    }

    /// From now on nothing is sent, and nobody waits for the host.
    fn die(&self) {
        self.dead.store(true, Release);
        self.control.wake();
        self.netdev.set_carrier(false);
    }

    /// Ends the device: closes the channels, so that the host lets go of all memory, and frees what
    /// was with it. May sleep. Does no harm when it was done before.
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

    /// Waits until the host is done with all frames, for a while.
    fn drain(&self) {
        let start = Instant::<Monotonic>::now();
        let busy = || self.queues.iter().any(|queue| queue.in_flight() != 0);

        while busy() && !self.is_dead() && start.elapsed().as_millis() < DRAIN_MS {
            fsleep(Delta::from_millis(LOOK_EVERY_MS));
        }
    }
}

impl WorkItem<LINK> for Shared {
    type Pointer = Arc<Shared>;

    /// The link leads elsewhere, or is there again: neighbours have to know.
    fn run(this: Arc<Shared>) {
        if !this.is_dead() {
            this.netdev.notify_peers();
        }
    }
}

impl WorkItem<END> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        this.end();
    }
}

/// A device that is bound, or on its way to be. Dropping it ends the binding.
pub(crate) struct Bound {
    shared: Arc<Shared>,
    registration: Option<Registration>,
}

impl Bound {
    /// From now on dropping it ends the device.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            registration: None,
        }
    }

    /// Makes the interface known to the stack. May sleep.
    pub(crate) fn register(&mut self) -> Result {
        let shared = &self.shared;
        let agreed = shared.agreed.as_ref().ok_or(ENODEV)?;
        let config = net::Config { agreed };

        self.registration = Some(Registration::new(&shared.netdev, shared, &config)?);
        shared.apply_link();
        Ok(())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let shared = &self.shared;

        // From here on the stack uses nothing of it.
        drop(self.registration.take());
        workqueue::disable_sync::<Shared, MODE>(shared);
        workqueue::disable_sync::<Shared, LINK>(shared);
        workqueue::disable_sync::<Shared, SPREAD>(shared);
        if !shared.is_dead() && shared.io.as_ref().is_some() {
            shared.drain();
            shared.control.halt(shared);
        }
        shared.end();
        workqueue::disable_sync::<Shared, END>(shared);
    }
}
