// SPDX-License-Identifier: GPL-2.0

//! What a network adapter keeps from its binding to its end, whatever becomes of its connections.

use crate::{
    connection::Connection,
    net::{self, NetDevice, Parent},
    status::{Counters, QueueCounters},
    vf::Function,
    work::{AGAIN, END, LINK, MODE, PATH, RECOVER, REST, SHOW, SPREAD, TAKE_UP},
};
use kernel::{
    device, impl_has_delayed_work, impl_has_work, new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed, Release},
        Arc, Mutex, SpinLockIrq,
    },
    time::{Instant, Monotonic},
    workqueue::{new_delayed_work, new_work, DelayedWork, Work},
};
use netvsc_protocol::{
    buffers::{RECEIVE_BYTES, SEND_BYTES},
    inbound::TABLE_LEN,
    offload::Offloads,
    query::Filter,
    rss::{self, KEY_LEN, MAX_CHANNELS, MAX_TABLE},
    setup::STANDARD_MTU,
    silence::{Recoveries, Unanswered},
};
use vmbus::{abstractions::RcuArc, Device, Lines};

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
    /// It is what anybody has who has not asked for another one, for the number of channels of that
    /// time.
    pub(crate) is_plain: bool,
}

impl Spread {
    /// Takes a table for `row` channels.
    pub(crate) fn set_table(&mut self, table: KVec<u16>, row: u32) {
        let plain = |(slot, entry): (u32, &u16)| u32::from(*entry) == rss::channel(slot, row);

        self.is_plain = (0..).zip(table.iter()).all(plain);
        self.table = Some(table);
    }

    /// There is another number of channels: a plain table was not for that, unless somebody `asked`
    /// for it.
    pub(crate) fn on_other_row(&mut self, asked: bool) {
        if self.is_plain && !asked {
            self.table = None;
        }
    }

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
    /// Lines about frames and packets.
    pub(crate) packet_lines: Lines,
    /// Lines about what happens to the adapter.
    pub(crate) event_lines: Lines,
    /// One for each queue that there may be.
    pub(crate) tallies: KVec<Arc<QueueCounters>>,
    pub(crate) table: Table,
    /// What frames go out on; none while it is made anew.
    pub(crate) connection: RcuArc<Connection>,
    #[pin]
    pub(crate) settings: Mutex<Settings>,
    #[pin]
    pub(crate) spread: Mutex<Spread>,
    /// What the stack was told that the host does.
    #[pin]
    pub(crate) offered: Mutex<Offloads>,
    /// Frames are given to the stack.
    up: Atomic<bool>,
    #[pin]
    pub(crate) mode: Work<Adapter, MODE>,
    #[pin]
    pub(crate) other_link: DelayedWork<Adapter, LINK>,
    /// When the neighbours were told of the link last.
    #[pin]
    pub(crate) told: SpinLockIrq<Option<Instant<Monotonic>>>,
    #[pin]
    pub(crate) shown_link: DelayedWork<Adapter, SHOW>,
    #[pin]
    pub(crate) use_channels: Work<Adapter, SPREAD>,
    #[pin]
    pub(crate) end: Work<Adapter, END>,
    #[pin]
    pub(crate) recover: Work<Adapter, RECOVER>,
    #[pin]
    pub(crate) again: DelayedWork<Adapter, AGAIN>,
    #[pin]
    pub(crate) rest: DelayedWork<Adapter, REST>,
    /// When the device was bound.
    pub(crate) since: Instant<Monotonic>,
    #[pin]
    pub(crate) unanswered: SpinLockIrq<Unanswered>,
    #[pin]
    pub(crate) recoveries: SpinLockIrq<Recoveries>,
    #[pin]
    pub(crate) function: Function,
    #[pin]
    pub(crate) path: Work<Adapter, PATH>,
    #[pin]
    pub(crate) take_up: DelayedWork<Adapter, TAKE_UP>,
}

impl_has_work! {
    impl HasWork<Self, 0> for Adapter { self.mode }
    impl HasWork<Self, 2> for Adapter { self.use_channels }
    impl HasWork<Self, 3> for Adapter { self.end }
    impl HasWork<Self, 4> for Adapter { self.recover }
    impl HasWork<Self, 7> for Adapter { self.path }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, 1> for Adapter { self.other_link }
    impl HasDelayedWork<Self, 5> for Adapter { self.again }
    impl HasDelayedWork<Self, 6> for Adapter { self.rest }
    impl HasDelayedWork<Self, 8> for Adapter { self.take_up }
    impl HasDelayedWork<Self, 9> for Adapter { self.shown_link }
}

impl Adapter {
    /// Creates the state of a device that is about to be bound. Nothing of it is known to anybody.
    pub(crate) fn new(device: &Device<device::Bound>) -> Result<Arc<Self>> {
        let dev: &device::Device<device::Bound> = device.as_ref();
        let count = net::cpus_online().clamp(1, MAX_CHANNELS);
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
            channels: net::default_queues().min(count),
            coalesce: true,
        };

        Arc::pin_init(
            try_pin_init!(Self {
                dev: (&**dev).into(),
                parent: Parent::new(device),
                netdev,
                counters: Counters::new(),
                packet_lines: Lines::new(),
                event_lines: Lines::new(),
                tallies,
                table: Table::new(),
                connection: RcuArc::empty(),
                settings <- new_mutex!(settings),
                spread <- new_mutex!(Spread { key, table: None, is_plain: true }),
                offered <- new_mutex!(Offloads::NONE),
                up: Atomic::new(false),
                mode <- new_work!("hv_netvsc::mode"),
                other_link <- new_delayed_work!("hv_netvsc::link"),
                told <- new_spinlock_irq!(None),
                shown_link <- new_delayed_work!("hv_netvsc::show"),
                use_channels <- new_work!("hv_netvsc::use_channels"),
                end <- new_work!("hv_netvsc::end"),
                recover <- new_work!("hv_netvsc::recover"),
                again <- new_delayed_work!("hv_netvsc::again"),
                rest <- new_delayed_work!("hv_netvsc::rest"),
                since: Instant::now(),
                unanswered <- new_spinlock_irq!(Unanswered::new()),
                recoveries <- new_spinlock_irq!(Recoveries::new()),
                function <- Function::new(),
                path <- new_work!("hv_netvsc::path"),
                take_up <- new_delayed_work!("hv_netvsc::take_up"),
            }),
            GFP_KERNEL,
        )
    }

    /// How many channels there may be.
    pub(crate) fn most_channels(&self) -> u32 {
        u32::try_from(self.tallies.len()).unwrap_or(MAX_CHANNELS)
    }

    /// Milliseconds since the device was bound.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(0)
    }

    /// The connection, if there is one that works.
    pub(crate) fn connection(&self) -> Result<Arc<Connection>> {
        self.connection
            .get()
            .filter(|connection| !connection.is_dead())
            .ok_or(ENODEV)
    }

    /// Whether frames go out on this connection.
    pub(crate) fn is_published(&self, connection: &Connection) -> bool {
        self.connection
            .with(|published| core::ptr::eq(&*published, connection))
            .unwrap_or(false)
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
        self.connection.with(|connection| connection.speed())?
    }

    /// Shows the link of the connection that frames go out on; without one, and where it has died,
    /// there is no link. One that is up, but not to be shown so yet, is later. To be called
    /// whenever one of these has changed. Any context but NMI.
    pub(crate) fn show_link(&self) {
        let has_link = || {
            self.connection
                .with(|connection| connection.has_link())
                .unwrap_or(false)
        };

        // Whoever shows it last has looked after that once more, so it is as it is now.
        loop {
            let up = has_link();

            // Before it is: what comes from then on is a loss.
            self.connection
                .with(|connection| connection.set_link_shown(up));
            self.netdev.set_carrier(up);
            self.connection.with(|connection| {
                if let Some(ms) = connection.link_up_in() {
                    connection.adapter.show_link_in(ms);
                }
            });
            // If it may be shown by now, it was not yet when it was looked when it might.
            if up == has_link() {
                break;
            }
        }
    }

    /// Which frames the host is to deliver.
    pub(crate) fn wanted(&self) -> Filter {
        if !self.is_up() {
            return Filter::NONE;
        }
        let mode = self.netdev.mode();

        Filter::new(mode.promiscuous, mode.multicast, true)
    }

    /// How long a table the spreading of frames has; at most [`MAX_TABLE`].
    pub(crate) fn spread_len(&self) -> usize {
        self.connection()
            .ok()
            .and_then(|connection| connection.agreed.as_ref()?.rss)
            .map_or(0, |rss| usize::from(rss.table).min(MAX_TABLE))
    }
}
