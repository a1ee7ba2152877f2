// SPDX-License-Identifier: GPL-2.0

//! What a network adapter keeps from its binding to its end, whatever becomes of its connections.

use crate::{
    connection::Connection,
    net::{self, NetDevice, Parent, Registration},
    status::{Counters, QueueCounters},
};
use kernel::{
    device, impl_has_work, new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, Mutex,
    },
    workqueue::{new_work, Work, WorkItem},
};
use netvsc_protocol::{
    buffers::{RECEIVE_BYTES, SEND_BYTES},
    inbound::TABLE_LEN,
    link::Event,
    rss::{self, KEY_LEN, MAX_CHANNELS, MAX_TABLE},
    setup::STANDARD_MTU,
};
use vmbus::{
    abstractions::{workqueue, RcuArc},
    Device,
};

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
    Up = 1,
    Down = 2,
}

/// How the adapter is connected: what the administrator may change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Longest frame without its header, in bytes.
    pub(crate) mtu: u32,
    /// Bytes of the receive buffer.
    pub(crate) receive_bytes: u32,
    /// Bytes of the send buffer.
    pub(crate) send_bytes: u32,
    /// Most channels.
    pub(crate) channels: u32,
    /// Coalesced frames are welcome.
    pub(crate) coalesce: bool,
}

/// How the host spreads frames over channels.
pub(crate) struct Spread {
    pub(crate) key: [u8; KEY_LEN],
    /// Numbers of channels, if the administrator chose them.
    pub(crate) table: Option<KVec<u16>>,
}

impl Spread {
    /// The number of the channel in place `slot` of the table, when `row` of them are used.
    pub(crate) fn entry(&self, slot: usize, row: u32) -> u16 {
        let chosen = self.table.as_ref().and_then(|table| table.get(slot));
        let slot = chosen.map_or(slot as u32, |entry| u32::from(*entry));

        // A number of a channel, of which there are few.
        rss::channel(slot, row) as u16
    }
}

/// A network adapter.
#[pin_data]
pub(crate) struct Adapter {
    pub(crate) dev: ARef<device::Device>,
    pub(crate) parent: Parent,
    pub(crate) netdev: Arc<NetDevice>,
    pub(crate) counters: Counters,
    /// One for each queue that there may be.
    pub(crate) tallies: KVec<Arc<QueueCounters>>,
    pub(crate) table: Table,
    /// What frames go out on; none while it is made anew.
    pub(crate) connection: RcuArc<Connection>,
    #[pin]
    pub(crate) settings: Mutex<Settings>,
    #[pin]
    pub(crate) spread: Mutex<Spread>,
    /// Frames are given to the stack.
    up: Atomic<bool>,
    link: Atomic<u32>,
    /// The link's speed in Mb/s, or 0.
    speed: Atomic<u32>,
    #[pin]
    mode: Work<Adapter, MODE>,
    #[pin]
    other_link: Work<Adapter, LINK>,
    #[pin]
    use_channels: Work<Adapter, SPREAD>,
    #[pin]
    end: Work<Adapter, END>,
    #[pin]
    recover: Work<Adapter, RECOVER>,
}

impl_has_work! {
    impl HasWork<Self, 0> for Adapter { self.mode }
    impl HasWork<Self, 1> for Adapter { self.other_link }
    impl HasWork<Self, 2> for Adapter { self.use_channels }
    impl HasWork<Self, 3> for Adapter { self.end }
    impl HasWork<Self, 4> for Adapter { self.recover }
}

impl Adapter {
    /// Creates the state of a device that is about to be bound. Nothing of it is known to anybody.
    pub(crate) fn new(device: &Device<device::Bound>) -> Result<Arc<Self>> {
        let dev: &device::Device<device::Bound> = device.as_ref();
        let count = net::default_queues()
            .min(net::cpus_online())
            .clamp(1, MAX_CHANNELS);
        let mut tallies = KVec::with_capacity(count as usize, GFP_KERNEL)?;

        for _ in 0..count {
            let tally = Arc::new(QueueCounters::new(), GFP_KERNEL)?;

            tallies.push(tally, GFP_KERNEL)?;
        }
        let mut key = [0; KEY_LEN];

        net::rss_key(&mut key);
        let netdev = NetDevice::new(dev, count)?;
        let settings = Settings {
            mtu: STANDARD_MTU,
            receive_bytes: RECEIVE_BYTES,
            send_bytes: SEND_BYTES,
            channels: count,
            coalesce: true,
        };

        Arc::pin_init(
            try_pin_init!(Self {
                dev: (&**dev).into(),
                parent: Parent::new(device),
                netdev,
                counters: Counters::new(),
                tallies,
                table: Table::new(),
                connection: RcuArc::empty(),
                settings <- new_mutex!(settings),
                spread <- new_mutex!(Spread { key, table: None }),
                up: Atomic::new(false),
                link: Atomic::new(Link::Down as u32),
                speed: Atomic::new(0),
                mode <- new_work!("hv_netvsc::mode"),
                other_link <- new_work!("hv_netvsc::link"),
                use_channels <- new_work!("hv_netvsc::use_channels"),
                end <- new_work!("hv_netvsc::end"),
                recover <- new_work!("hv_netvsc::recover"),
            }),
            GFP_KERNEL,
        )
    }

    /// The connection, if there is one that works.
    pub(crate) fn connection(&self) -> Result<Arc<Connection>> {
        self.connection
            .get()
            .filter(|connection| !connection.is_dead())
            .ok_or(ENODEV)
    }

    /// Whether frames are given to the stack.
    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Release);
    }

    /// The link's speed in Mb/s.
    pub(crate) fn link_speed(&self) -> Option<u32> {
        Some(self.speed.load(Relaxed)).filter(|speed| *speed != 0)
    }

    /// What a new connection says of the link. Events that came before say the same or more.
    pub(crate) fn start_link(&self, connected: bool, speed: Option<u32>) {
        self.speed.store(speed.unwrap_or(0), Relaxed);
        self.set_link(if connected { Link::Up } else { Link::Down });
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
        self.netdev.set_carrier(link == Link::Up);
    }

    /// Shows the link as it is, after the interface was registered or detached.
    pub(crate) fn show_link(&self) {
        let up = self.link.load(Acquire) == Link::Up as u32;

        self.netdev.set_carrier(up);
    }

    /// Has the channels used that there are. Any context but NMI.
    pub(crate) fn respread(self: &Arc<Self>) {
        // An error means that it is about to run anyway, or that the device is unbound.
        let _ = workqueue::system_dfl_long().enqueue::<_, SPREAD>(self.clone());
    }

    /// Has a connection closed that is dead. Any context but NMI.
    pub(crate) fn close_soon(self: &Arc<Self>) {
        let _ = workqueue::system_dfl_long().enqueue::<_, END>(self.clone());
    }

    /// How long a table the spreading of frames has; at most [`MAX_TABLE`].
    pub(crate) fn spread_len(&self) -> usize {
        self.connection()
            .ok()
            .and_then(|connection| connection.agreed.as_ref()?.rss)
            .map_or(0, |rss| usize::from(rss.table).min(MAX_TABLE))
    }
}

impl WorkItem<LINK> for Adapter {
    type Pointer = Arc<Adapter>;

    /// The link leads elsewhere, or is there again: neighbours have to know.
    fn run(this: Arc<Adapter>) {
        if this.is_up() {
            this.netdev.notify_peers();
        }
    }
}

impl WorkItem<MODE> for Adapter {
    type Pointer = Arc<Adapter>;

    fn run(this: Arc<Adapter>) {
        if !this.is_up() {
            return;
        }
        let Ok(connection) = this.connection() else {
            return;
        };

        if let Err(error) = connection
            .control
            .apply_mode(&connection, this.netdev.mode())
        {
            dev_warn!(
                this.dev,
                "the host delivers the frames that it did: {:?}\n",
                error
            );
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

    fn run(this: Arc<Adapter>) {
        this.netdev.recover();
    }
}

/// A device that is bound, or on its way to be. Dropping it ends the binding.
pub(crate) struct Bound<'bound> {
    adapter: Arc<Adapter>,
    registration: Option<Registration<'bound>>,
}

impl<'bound> Bound<'bound> {
    /// From now on dropping it ends the device.
    pub(crate) fn new(adapter: Arc<Adapter>) -> Self {
        Self {
            adapter,
            registration: None,
        }
    }

    /// Makes the interface known to the stack. May sleep.
    pub(crate) fn register(&mut self, device: &'bound Device<device::Bound>) -> Result {
        let adapter = &self.adapter;
        let connection = adapter.connection()?;
        let agreed = connection.agreed.as_ref().ok_or(ENODEV)?;
        let config = net::Config { agreed };
        let registration = Registration::new(device, &adapter.netdev, adapter, &config)?;

        self.registration = Some(registration);
        adapter.show_link();
        Ok(())
    }
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        let adapter = &self.adapter;

        // From here on the stack uses nothing of it.
        drop(self.registration.take());
        workqueue::disable_sync::<Adapter, MODE>(adapter);
        workqueue::disable_sync::<Adapter, LINK>(adapter);
        workqueue::disable_sync::<Adapter, SPREAD>(adapter);
        workqueue::disable_sync::<Adapter, END>(adapter);
        workqueue::disable_sync::<Adapter, RECOVER>(adapter);
        if let Some(connection) = adapter.connection.unpublish() {
            connection.leave();
        }
    }
}
