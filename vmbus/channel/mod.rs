// SPDX-License-Identifier: GPL-2.0

//! Channels: what an offer becomes, how a driver opens it, and how packets move.

mod gpadl;
pub(crate) mod offer;
mod open;
mod receive;
mod requests;
mod send;
mod sub;
pub(crate) mod table;
mod target;

pub(crate) use offer::take_everything_down;
pub use open::{ChannelConfig, OpenChannel};
pub use receive::{Context, Handler, ReadMode};
pub use send::{Batch, Doorbell, Outbox, Sender};
pub use sub::{SubChannel, SubChannels};
pub(crate) use target::{evacuate, retarget};

use crate::{
    abstractions::{workqueue, Shown},
    bus::NewDevice,
    connection::{Connection, Doorbells, CONNECTION},
    hv,
    memory::RingMap,
};
use kernel::{
    cpu::CpuId,
    impl_has_work, new_mutex, new_spinlock, new_spinlock_irq, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        static_lock_class, Arc, Mutex, SpinLock, SpinLockIrq,
    },
    workqueue::{Work, WorkItem},
};
use receive::{Drain, Observer};
use send::Transmitter;
use vmbus_protocol::{
    affinity::Affinity,
    channel::{ChannelLife, State},
    message::Offer,
    offers::{LiveChannel, Properties},
};
use vmbus_ring::RingStats;

/// Work items of a channel: events from the host, and the two ends of its device's life.
const EVENT: u64 = 0;
const ADD: u64 = 1;
const REMOVE: u64 = 2;

/// One channel, from its offer to the release of its relid.
#[pin_data]
pub(crate) struct Channel {
    offer: Offer,
    properties: Properties,
    doorbells: Arc<Doorbells>,
    /// The channel that this one is a sub-channel of.
    primary: Option<Arc<Channel>>,
    /// Of a primary channel: who takes its sub-channels.
    #[pin]
    acceptor: Mutex<Option<Arc<dyn SubChannels>>>,
    /// Of a sub-channel: its driver knows of it.
    announced: Atomic<bool>,
    /// The CPU that the host interrupts for this channel. Innermost: `life` may be held.
    #[pin]
    affinity: SpinLock<Affinity>,
    /// Held while the host is asked for another CPU, and while a close begins.
    #[pin]
    modifying: Mutex<()>,
    /// Interrupts from the host.
    interrupts: Atomic<u64>,
    /// Doorbells rung at the host.
    signals: Atomic<u64>,
    /// Packets were sent whose doorbell was deferred.
    doorbell_owed: Atomic<bool>,
    /// Packets that did not fit into the outgoing ring at once.
    ring_full: Atomic<u64>,
    /// Packets that were dropped because something was wrong with them.
    dropped: Atomic<u64>,
    /// Where the handler runs: a [`Context`].
    context: Atomic<u32>,
    /// The host took the channel back, or broke its rings: nothing may be sent any more.
    dead: Atomic<bool>,
    #[pin]
    life: SpinLock<ChannelLife>,
    /// The outgoing ring and the requests under way while the channel is open.
    #[pin]
    tx: SpinLockIrq<Option<Transmitter>>,
    /// The incoming ring and its handler while the channel is open and no event is being handled.
    #[pin]
    rx: SpinLockIrq<Option<KBox<dyn Drain>>>,
    /// Who wants to know what becomes of the channel while it is open.
    #[pin]
    observer: Mutex<Option<Arc<dyn Observer>>>,
    /// A second view of the incoming ring, for statistics.
    #[pin]
    rx_view: Mutex<Option<RingMap>>,
    /// The device that the driver model sees.
    #[pin]
    device: Mutex<Option<NewDevice>>,
    #[pin]
    event: Work<Channel, EVENT>,
    #[pin]
    add: Work<Channel, ADD>,
    #[pin]
    remove: Work<Channel, REMOVE>,
}

impl_has_work! {
    impl HasWork<Channel, 0> for Channel { self.event }
    impl HasWork<Channel, 1> for Channel { self.add }
    impl HasWork<Channel, 2> for Channel { self.remove }
}

/// Statistics of an open channel's rings.
pub(crate) struct ChannelStats {
    pub(crate) outgoing: RingStats,
    pub(crate) incoming: RingStats,
}

/// What a channel counts.
pub(crate) struct ChannelCounts {
    /// Interrupts from the host.
    pub(crate) interrupts: u64,
    /// Doorbells rung at the host.
    pub(crate) signals: u64,
    /// Packets that did not fit into the outgoing ring at once.
    pub(crate) ring_full: u64,
    /// Packets that were dropped because something was wrong with them.
    pub(crate) dropped: u64,
}

impl Channel {
    fn new(
        connection: &Connection,
        offer: Offer,
        properties: Properties,
        primary: Option<Arc<Channel>>,
        target_cpu: u32,
    ) -> Result<Arc<Self>> {
        // The two kinds of channels are added and removed on queues of their own, and the removal
        // of a primary one waits for those of its sub-channels: not the same thing for lockdep.
        let (add_class, remove_class) = if primary.is_none() {
            (static_lock_class!(), static_lock_class!())
        } else {
            (static_lock_class!(), static_lock_class!())
        };

        Arc::pin_init(
            pin_init!(Self {
                offer,
                properties,
                doorbells: connection.doorbells.clone(),
                primary,
                acceptor <- new_mutex!(None),
                announced: Atomic::new(false),
                affinity <- new_spinlock!(Affinity::new(target_cpu)),
                modifying <- new_mutex!(()),
                interrupts: Atomic::new(0),
                signals: Atomic::new(0),
                doorbell_owed: Atomic::new(false),
                ring_full: Atomic::new(0),
                dropped: Atomic::new(0),
                context: Atomic::new(Context::Process as u32),
                dead: Atomic::new(false),
                life <- new_spinlock!(ChannelLife::new()),
                tx <- new_spinlock_irq!(None),
                rx <- new_spinlock_irq!(None),
                observer <- new_mutex!(None),
                rx_view <- new_mutex!(None),
                device <- new_mutex!(None),
                event <- new_work!("vmbus_event"),
                add <- Work::new(c"vmbus_add", add_class),
                remove <- Work::new(c"vmbus_remove", remove_class),
            }),
            GFP_KERNEL,
        )
    }

    /// The offer, all fields checked by [`vmbus_protocol::offers::admit`].
    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    fn is_sub_of(&self, primary: &Arc<Channel>) -> bool {
        self.primary
            .as_ref()
            .is_some_and(|other| Arc::ptr_eq(other, primary))
    }

    /// The channel's number in messages and in the event flags.
    pub(crate) fn relid(&self) -> u32 {
        self.offer.relid
    }

    /// The CPU that the host interrupts for this channel.
    pub(crate) fn target_cpu(&self) -> u32 {
        self.affinity.lock().target()
    }

    /// The NUMA node of that CPU.
    pub(crate) fn numa_node(&self) -> i32 {
        CpuId::from_u32(self.target_cpu()).map_or(-1, hv::node_of)
    }

    /// The state as the C core numbers it: offered 0, opening 1, open 2, opened 3.
    pub(crate) fn state_number(&self) -> u32 {
        match self.life.lock().state() {
            State::Offered | State::Closed => 0,
            State::Opening => 1,
            State::Open | State::Closing => 3,
        }
    }

    /// What admission has to know about this channel.
    fn live(&self) -> LiveChannel {
        LiveChannel {
            relid: self.relid(),
            class: self.offer.class,
            instance: self.offer.instance,
            sub_channel_index: self.offer.sub_channel_index,
            rescinded: self.life.lock().is_rescinded(),
        }
    }

    /// What the channel counted so far.
    pub(crate) fn counts(&self) -> ChannelCounts {
        ChannelCounts {
            interrupts: self.interrupts.load(Relaxed),
            signals: self.signals.load(Relaxed),
            ring_full: self.ring_full.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }

    /// Statistics of both rings; `EINVAL` while the channel is not open.
    pub(crate) fn ring_stats(&self) -> Result<ChannelStats> {
        let view = self.rx_view.lock();
        let incoming = vmbus_ring::stats(view.as_ref().ok_or(EINVAL)?);
        let tx = self.tx.lock();
        let outgoing = vmbus_ring::stats(tx.as_ref().ok_or(EINVAL)?.writer.memory());

        Ok(ChannelStats { outgoing, incoming })
    }

    /// Handles an event, or has it handled. Runs in the interrupt of the CPU that the host chose.
    #[inline]
    pub(crate) fn on_event(self: Arc<Self>, connection: &Connection) {
        self.interrupts.fetch_add(1u64, Relaxed);
        if self.context.load(Relaxed) == Context::Interrupt as u32 {
            receive::run_in_interrupt(self);
        } else {
            self.schedule(connection);
        }
    }

    /// Queues the work that drains the incoming ring. Any context but NMI.
    fn schedule(self: Arc<Self>, connection: &Connection) {
        let cpu = CpuId::current();

        // An item that is queued already will see this event too.
        if self.context.load(Relaxed) == Context::Process as u32 {
            let _ = connection.queues.channels.enqueue_on::<_, EVENT>(cpu, self);
        } else {
            let _ = workqueue::system_bh_enqueue_on::<_, EVENT>(cpu, self);
        }
    }

    /// As [`Self::schedule`], for who does not have the connection at hand.
    #[cold]
    fn schedule_again(self: Arc<Self>) {
        CONNECTION.with(|connection| self.schedule(&connection));
    }

    /// Rings the host's doorbell of this channel. Any context.
    fn signal_host(&self) {
        self.signals.fetch_add(1u64, Relaxed);
        if !self.offer.dedicated_interrupt {
            self.doorbells
                .interrupt_page
                .set(crate::memory::FlagPage::SEND_OFFSET, self.relid() as usize);
        }
        if let Some(bit) = self.properties.monitor {
            self.doorbells.monitor_out.trigger(bit);
            return;
        }
        if let Err(status) = hv::hypercall::signal_event(self.offer.connection_id) {
            crate::ratelimited!(pr_err!(
                "{}: signalling the host failed: status {}\n",
                Shown(&self.offer.instance),
                Shown(&status)
            ));
        }
    }

    /// Stops all sending; the receiving side stops by itself.
    fn mark_dead(&self) {
        self.dead.store(true, Relaxed);
    }
}

impl WorkItem<EVENT> for Channel {
    type Pointer = Arc<Channel>;

    fn run(this: Arc<Channel>) {
        receive::run(this);
    }
}

impl WorkItem<ADD> for Channel {
    type Pointer = Arc<Channel>;

    fn run(this: Arc<Channel>) {
        match this.primary {
            None => offer::add_device(&this),
            Some(_) => sub::announce(&this),
        }
    }
}

impl WorkItem<REMOVE> for Channel {
    type Pointer = Arc<Channel>;

    fn run(this: Arc<Channel>) {
        offer::remove(&this);
    }
}
