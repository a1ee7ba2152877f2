// SPDX-License-Identifier: GPL-2.0

//! The channel itself, from its offer to the release of its relid.

use super::{
    drain, late, offer,
    session::{RxSlot, Session},
    stock::Place,
    sub, SubChannels,
};
use crate::{
    abstractions::{workqueue, Shown},
    bus::{attach, Device, DeviceRegistration},
    connection::{Connection, Doorbells, CONNECT_CPU},
    counters, hv,
    state::StateCell,
    Lines,
};
use kernel::{
    cpu::CpuId,
    impl_has_delayed_work, impl_has_work, new_delayed_work, new_mutex, new_spinlock,
    new_spinlock_irq, new_work,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Full, Relaxed},
        static_lock_class, Arc, Mutex, SpinLock, SpinLockIrq,
    },
    time::Msecs,
    workqueue::{DelayedWork, Work, WorkItem},
};
use vmbus_protocol::{
    affinity::Affinity,
    attach::AttachLife,
    channel::{ChannelLife, State},
    class,
    message::Offer,
    offers::{LiveChannel, Properties},
    synic::MonitorBit,
    Relid,
};
use vmbus_ring::RingStats;

/// Work items of a channel: the two ends of its device's life, what the host has done late, the
/// doorbell that it refused, the next `probe` of a device for which it was late, and what is left
/// of a sub-channel that its driver was told to drop.
pub(super) const ADD: u64 = 0;
pub(super) const REMOVE: u64 = 1;
pub(super) const LATE: u64 = 2;
const REFUSED: u64 = 3;
pub(crate) const ATTACH: u64 = 4;
pub(super) const FORGET: u64 = 5;

/// How long a host that refuses the doorbell may take until it says that the channel is taken back.
const RESCIND_MS: Msecs = 10_000;

/// One channel, from its offer to the release of its relid.
#[pin_data]
pub(crate) struct Channel {
    pub(super) offer: Offer,
    /// What admission found out about it; nothing about an offer that it refused.
    pub(super) properties: Option<Properties>,
    doorbells: Arc<Doorbells>,
    /// The bit of the monitor page that rings the doorbell; without one it is a hypercall.
    monitor: Option<MonitorBit>,
    /// The channel that this one is a sub-channel of.
    pub(super) primary: Option<Arc<Channel>>,
    /// Of a primary channel: who takes its sub-channels.
    #[pin]
    pub(super) acceptor: Mutex<Option<Arc<dyn SubChannels>>>,
    /// Of a primary channel: held while its driver is told of a sub-channel, which it may open
    /// then.
    #[pin]
    pub(super) telling: Mutex<()>,
    /// Of a sub-channel: its driver knows of it.
    pub(super) announced: Atomic<bool>,
    /// The CPU that the host interrupts for this channel. Innermost: `life` may be held.
    #[pin]
    pub(super) affinity: SpinLock<Affinity>,
    /// Held while the host is asked for another CPU, and while a close begins.
    #[pin]
    pub(super) modifying: Mutex<()>,
    /// Interrupts from the host.
    interrupts: Atomic<u64>,
    /// Doorbells rung at the host.
    signals: Atomic<u64>,
    /// Of those, the ones because the host waited for room in the incoming ring.
    signals_for_room: Atomic<u64>,
    /// Packets that did not fit into the outgoing ring at once.
    ring_full: Atomic<u64>,
    /// Of those, the ones before which there was room.
    ring_full_first: Atomic<u64>,
    /// Where the outgoing ring was when it was full last.
    full_at: Atomic<u32>,
    /// Packets that were dropped because something was wrong with them.
    pub(super) dropped: Atomic<u64>,
    /// Lines about it that the host can cause.
    pub(crate) lines: Lines,
    #[pin]
    pub(super) life: SpinLock<ChannelLife>,
    /// Where interrupts find the session of now. Written when a session begins and ends.
    #[pin]
    pub(super) rx: SpinLockIrq<Option<RxSlot>>,
    /// The session of now, from before it is open until it is closed. That of a primary channel may
    /// be held around that of a sub-channel.
    #[pin]
    pub(super) session: Mutex<Option<Arc<Session>>>,
    /// Of a primary channel: a driver is bound to the device, or about to be. Written under the
    /// lock of `session`.
    pub(super) bound: Atomic<bool>,
    /// The device that the driver model sees.
    #[pin]
    pub(super) device: Mutex<Option<DeviceRegistration>>,
    #[pin]
    pub(super) add: Work<Channel, ADD>,
    #[pin]
    pub(super) remove: Work<Channel, REMOVE>,
    #[pin]
    forget: Work<Channel, FORGET>,
    #[pin]
    late: DelayedWork<Channel, LATE>,
    /// How long until the host is told again what it did not take.
    pub(super) late_pause_ms: Atomic<Msecs>,
    #[pin]
    refused: DelayedWork<Channel, REFUSED>,
    attach_life: StateCell<AttachLife>,
    #[pin]
    attach: DelayedWork<Channel, ATTACH>,
}

impl_has_work! {
    impl HasWork<Channel, 0> for Channel { self.add }
    impl HasWork<Channel, 1> for Channel { self.remove }
    impl HasWork<Channel, 5> for Channel { self.forget }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, 2> for Channel { self.late }
    impl HasDelayedWork<Self, 3> for Channel { self.refused }
    impl HasDelayedWork<Self, 4> for Channel { self.attach }
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
    /// Of those, the ones because the host waited for room in the incoming ring.
    pub(crate) signals_for_room: u64,
    /// Packets that did not fit into the outgoing ring at once.
    pub(crate) ring_full: u64,
    /// Of those, the ones before which there was room.
    pub(crate) ring_full_first: u64,
    /// Packets that were dropped because something was wrong with them.
    pub(crate) dropped: u64,
}

/// Whether an offer is of a device with disks.
fn is_of_disks(offer: &Offer) -> bool {
    [class::SCSI, class::IDE].contains(&offer.class)
}

impl Channel {
    /// The channel of a refused offer: it has a relid that is to be handed back, and nothing else.
    pub(super) fn refused(connection: &Connection, place: Place, offer: Offer) -> Arc<Self> {
        Self::new(connection, place, offer, None, None, CONNECT_CPU)
    }

    /// Makes it of memory that is there already: waits for nothing.
    pub(super) fn new(
        connection: &Connection,
        place: Place,
        offer: Offer,
        properties: Option<Properties>,
        primary: Option<Arc<Channel>>,
        target_cpu: u32,
    ) -> Arc<Self> {
        // The two kinds of channels are added and removed on queues of their own, and the removal
        // of a primary one waits for those of its sub-channels, whose sessions end inside of the
        // end of its own: not the same thing for lockdep.
        let (add_class, remove_class, session_class) = if primary.is_none() {
            (
                static_lock_class!(),
                static_lock_class!(),
                static_lock_class!(),
            )
        } else {
            (
                static_lock_class!(),
                static_lock_class!(),
                static_lock_class!(),
            )
        };

        // Memory may be waiting for the end of a disk, and a driver of something else may ask for
        // memory when it is told of a sub-channel.
        let telling_class = if is_of_disks(&offer) {
            static_lock_class!()
        } else {
            static_lock_class!()
        };

        let Ok(channel) = place.pin_init_with(pin_init!(Self {
            offer,
            monitor: properties.and_then(|properties| properties.monitor),
            properties,
            doorbells: connection.doorbells.clone(),
            primary,
            acceptor <- new_mutex!(None),
            telling <- Mutex::new((), c"vmbus_telling", telling_class),
            announced: Atomic::new(false),
            affinity <- new_spinlock!(Affinity::new(target_cpu)),
            modifying <- new_mutex!(()),
            interrupts: Atomic::new(0),
            signals: Atomic::new(0),
            signals_for_room: Atomic::new(0),
            ring_full: Atomic::new(0),
            ring_full_first: Atomic::new(0),
            full_at: Atomic::new(u32::MAX),
            dropped: Atomic::new(0),
            lines: Lines::new(),
            life <- new_spinlock!(ChannelLife::new()),
            rx <- new_spinlock_irq!(None),
            session <- Mutex::new(None, c"vmbus_session", session_class),
            bound: Atomic::new(false),
            device <- new_mutex!(None),
            add <- Work::new(c"vmbus_add", add_class),
            remove <- Work::new(c"vmbus_remove", remove_class),
            forget <- new_work!("vmbus_forget"),
            late <- new_delayed_work!("vmbus_late"),
            late_pause_ms: Atomic::new(late::AGAIN_MS),
            refused <- new_delayed_work!("vmbus_refused"),
            attach_life: StateCell::zero(),
            attach <- new_delayed_work!("vmbus_attach"),
        }));

        channel.into()
    }

    /// The offer, all fields checked by [`vmbus_protocol::offers::admit`].
    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Whether memory may be waiting for the end of its sessions.
    pub(super) fn is_of_disks(&self) -> bool {
        is_of_disks(&self.offer)
    }

    /// It was refused: no device, no driver.
    pub(super) fn is_refused(&self) -> bool {
        self.properties.is_none()
    }

    pub(super) fn is_sub_of(&self, primary: &Arc<Channel>) -> bool {
        self.primary
            .as_ref()
            .is_some_and(|other| Arc::ptr_eq(other, primary))
    }

    /// The channel's number in messages and in the event flags.
    pub(crate) fn relid(&self) -> Relid {
        self.offer.relid
    }

    /// The device of the channel, while there is one.
    pub(crate) fn device(&self) -> Option<ARef<Device>> {
        self.device.lock().as_ref().map(DeviceRegistration::device)
    }

    /// Whether and when its device is offered to the drivers again.
    pub(crate) fn attach_life(&self) -> &StateCell<AttachLife> {
        &self.attach_life
    }

    /// The CPU that the host interrupts for this channel.
    pub(crate) fn target_cpu(&self) -> u32 {
        self.affinity.lock().target()
    }

    /// The NUMA node of that CPU.
    pub(crate) fn numa_node(&self) -> i32 {
        CpuId::from_u32(self.target_cpu()).map_or(-1, hv::node_of)
    }

    /// The state as the C core numbers it: 1 is being opened, 2 may be opened, 3 is open.
    pub(crate) fn state_number(&self) -> u32 {
        match self.life.lock().state() {
            State::Opening => 1,
            State::Offered | State::Closed => 2,
            State::Open | State::Closing => 3,
        }
    }

    /// What admission has to know about this channel.
    pub(super) fn live(&self) -> LiveChannel {
        LiveChannel {
            relid: self.relid(),
            class: self.offer.class,
            instance: self.offer.instance,
            sub_channel_index: self.offer.sub_channel_index,
            rescinded: self.is_refused() || self.is_rescinded(),
        }
    }

    /// What the channel counted so far.
    pub(crate) fn counts(&self) -> ChannelCounts {
        ChannelCounts {
            interrupts: self.interrupts.load(Relaxed),
            signals: self.signals.load(Relaxed),
            signals_for_room: self.signals_for_room.load(Relaxed),
            ring_full: self.ring_full.load(Relaxed),
            ring_full_first: self.ring_full_first.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }

    /// The host has taken it back.
    pub(crate) fn is_rescinded(&self) -> bool {
        self.life.lock().is_rescinded()
    }

    /// Statistics of both rings; `EINVAL` while the channel is not open.
    pub(crate) fn ring_stats(&self) -> Result<ChannelStats> {
        let session = self.session.lock().clone().ok_or(EINVAL)?;
        let (outgoing, incoming) = session.ring_stats()?;

        Ok(ChannelStats { outgoing, incoming })
    }

    /// Handles an event, or has it handled. Runs in the interrupt of the CPU that the host chose.
    #[inline]
    pub(crate) fn on_event(&self, connection: &Connection) {
        self.interrupts.fetch_add(1u64, Relaxed);
        drain::on_event(self, &connection.queues.channels);
    }

    /// A packet did not fit into the outgoing ring, which is written next at `position`.
    #[cold]
    pub(super) fn note_full(&self, position: u32) {
        self.ring_full.fetch_add(1u64, Relaxed);
        // Nothing was written since the last time: it is full still.
        if self.full_at.xchg(position, Full) != position {
            self.ring_full_first.fetch_add(1u64, Relaxed);
        }
    }

    /// Tells the host that waits for it of room in the incoming ring. Any context.
    #[cold]
    pub(super) fn signal_room(self: &Arc<Self>) {
        self.signals_for_room.fetch_add(1u64, Relaxed);
        self.signal_host();
    }

    #[cold]
    fn not_signalled(self: &Arc<Self>, status: hv::hypercall::Status) {
        let instance = &self.offer.instance;

        // What was sent is stuck otherwise: the next packet finds the ring not empty, and rings no
        // doorbell.
        let _ = workqueue::enqueue_delayed::<_, REFUSED>(
            workqueue::system_dfl(),
            self.clone(),
            RESCIND_MS,
        );
        if !status.is_no_connection() {
            return self.warn_of_refusal(status);
        }
        // what a host says that takes the channel back, until the guest has heard of that
        if self.lines.allow_about(instance) {
            pr_info!("{}: the host does not listen any more\n", Shown(instance));
        }
    }

    fn warn_of_refusal(&self, status: hv::hypercall::Status) {
        let instance = &self.offer.instance;

        counters::REFUSED_DOORBELLS.count();
        if self.lines.allow_about(instance) {
            pr_warn!(
                "{}: the host refuses the doorbell of relid {}: status {}\n",
                Shown(instance),
                self.relid().raw(),
                Shown(&status)
            );
        }
    }

    /// Rings the host's doorbell of this channel. Any context.
    pub(super) fn signal_host(self: &Arc<Self>) {
        if let Err(status) = self.ring_doorbell() {
            self.not_signalled(status);
        }
    }

    #[inline(always)] // of each request
    fn ring_doorbell(&self) -> Result<(), hv::hypercall::Status> {
        self.signals.fetch_add(1u64, Relaxed);
        if !self.offer.dedicated_interrupt {
            self.doorbells.interrupt_page.set(
                crate::memory::FlagPage::SEND_OFFSET,
                self.relid().raw() as usize,
            );
        }
        if let Some(bit) = self.monitor {
            self.doorbells.monitor_out.trigger(bit);
            return Ok(());
        }
        hv::hypercall::signal_event(self.offer.connection_id)
    }

    /// The channel goes: afterwards none of its delayed work runs. May sleep.
    pub(super) fn end_delayed_work(self: &Arc<Self>) {
        workqueue::disable_delayed_sync::<Channel, LATE>(self);
        workqueue::disable_delayed_sync::<Channel, REFUSED>(self);
        if self.primary.is_none() {
            // Its device is gone; those of sub-channels end inside of a `probe`, which may run in
            // this very work.
            workqueue::disable_delayed_sync::<Channel, ATTACH>(self);
        }
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

impl WorkItem<FORGET> for Channel {
    type Pointer = Arc<Channel>;

    fn run(this: Arc<Channel>) {
        offer::forget(&this);
    }
}

impl WorkItem<LATE> for Channel {
    type Pointer = Arc<Channel>;

    fn run(this: Arc<Channel>) {
        late::make_good(&this);
    }
}

impl WorkItem<ATTACH> for Channel {
    type Pointer = Arc<Channel>;

    fn run(this: Arc<Channel>) {
        attach::again(&this);
    }
}

impl WorkItem<REFUSED> for Channel {
    type Pointer = Arc<Channel>;

    /// Rings once more, which is what a host needs that did not mean it. Whoever refuses that, too,
    /// is not taking the channel back.
    fn run(this: Arc<Channel>) {
        let in_use = {
            let life = this.life.lock();

            life.state() == State::Open && !life.is_rescinded()
        };

        if in_use {
            if let Err(status) = this.ring_doorbell() {
                this.warn_of_refusal(status);
            }
        }
    }
}
