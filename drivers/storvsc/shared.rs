// SPDX-License-Identifier: GPL-2.0

//! What all parts of the driver share, and how a device ends.

use crate::{
    channels::Channels,
    internal::Internal,
    luns::Identities,
    queue::Storvsc,
    revive,
    scsi::{self, Host, Parameters, Slots},
    status::{Counters, Lines},
    Kind,
};
use kernel::{
    device, impl_has_delayed_work, impl_has_work, new_mutex, new_spinlock_irq,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Release},
        Arc, Mutex, SpinLockIrq,
    },
    time::{delay::fsleep, Delta},
    workqueue::{new_delayed_work, new_work, DelayedWork, Work, WorkItem},
};
use storvsc_protocol::{
    init::Init,
    limits::{self, DepthInput},
    luns::Luns,
    outcome::LogLevel,
    HostByte, Outcome, ANSWER_TIMEOUT_MS,
};
use vmbus::abstractions::{workqueue, Completion};

/// Identifies the work item that has the midlayer remove, rescan and find logical units.
pub(crate) const UNITS: u64 = 0;

/// Identifies the work item that ends the device.
pub(crate) const END: u64 = 1;

/// Identifies the work item that ends the device when its removal takes too long.
pub(crate) const WATCHDOG: u64 = 2;

/// Identifies the work item that looks whether the host gave memory back.
pub(crate) const RECLAIM: u64 = 3;

/// How often it looks, in milliseconds.
const RECLAIM_EVERY_MS: u32 = 1_000;

/// Identifies the work item that compares the identities of logical units.
pub(crate) const IDENTIFY: u64 = 4;

/// Identifies the work item that tries whether a host that was given up answers again.
pub(crate) const REVIVE: u64 = 5;

/// What does not change while the device is bound.
pub(crate) struct Settings {
    pub(crate) kind: Kind,
    /// Bytes of data of each ring.
    pub(crate) ring_bytes: u32,
    /// Bytes of an outgoing ring that should stay free.
    pub(crate) low_water: u32,
    /// Hardware queues.
    pub(crate) queues: u32,
    /// Commands of each.
    pub(crate) depth: u32,
    /// Number of the SCSI host in packets.
    pub(crate) port: u8,
}

/// What all parts of the driver share.
#[pin_data]
pub(crate) struct Shared {
    pub(crate) dev: ARef<device::Device>,
    pub(crate) settings: Settings,
    pub(crate) host: Host<Storvsc>,
    pub(crate) slots: Slots,
    /// The host does not answer any more: nothing is sent, and nobody waits for it.
    dead: Atomic<bool>,
    /// The midlayer knows the host.
    added: Atomic<bool>,
    pub(crate) counters: Counters,
    /// Lines about commands.
    pub(crate) command_lines: Lines,
    /// Lines about packets.
    pub(crate) packet_lines: Lines,
    #[pin]
    pub(crate) init: SpinLockIrq<Init>,
    /// The initialisation went a step further, or the device died.
    #[pin]
    pub(crate) step: Completion,
    #[pin]
    pub(crate) reset: Mutex<()>,
    /// A bus reset is under way.
    pub(crate) resetting: Atomic<bool>,
    /// NT status of its answer.
    pub(crate) reset_status: Atomic<u32>,
    /// The bus reset was answered, or the device died.
    #[pin]
    pub(crate) reset_done: Completion,
    #[pin]
    luns: SpinLockIrq<Luns>,
    /// Some commands may not be sent, since the device is dead or for a reason that `luns` knows.
    /// Changes with `luns` locked.
    obstructed: Atomic<bool>,
    /// Held while identities are compared.
    #[pin]
    pub(crate) identities: Mutex<Identities>,
    #[pin]
    pub(crate) internal: Internal,
    #[pin]
    pub(crate) channels: Mutex<Channels>,
    /// The channels, once the device was ended. Held while it is.
    #[pin]
    pub(crate) ended: Mutex<Channels>,
    #[pin]
    identify: Work<Shared, IDENTIFY>,
    #[pin]
    units: Work<Shared, UNITS>,
    #[pin]
    end: Work<Shared, END>,
    #[pin]
    watchdog: DelayedWork<Shared, WATCHDOG>,
    #[pin]
    reclaim: DelayedWork<Shared, RECLAIM>,
    #[pin]
    revive: DelayedWork<Shared, REVIVE>,
    /// Times that it was tried, since it was used last.
    pub(crate) revivals: Atomic<u32>,
}

impl_has_work! {
    impl HasWork<Self, 0> for Shared { self.units }
    impl HasWork<Self, 1> for Shared { self.end }
    impl HasWork<Self, 4> for Shared { self.identify }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, 2> for Shared { self.watchdog }
    impl HasDelayedWork<Self, 3> for Shared { self.reclaim }
    impl HasDelayedWork<Self, 5> for Shared { self.revive }
}

impl Shared {
    /// Creates the state of a device that is about to be bound. Nothing of it is known to anybody.
    pub(crate) fn new(dev: &device::Device, kind: Kind) -> Result<Arc<Self>> {
        let parameters = Parameters::read();
        let ring_bytes = limits::ring_bytes(parameters.ring_size);
        let depth = limits::depth(&DepthInput {
            ring_bytes,
            cpus: scsi::cpus_online(),
            cpus_per_channel: parameters.vcpus_per_sub_channel,
            low_water_percent: parameters.low_water_percent,
            sub_channels: kind == Kind::Scsi,
        });
        let (queues, bad) = match kind {
            Kind::Scsi => limits::hardware_queues(scsi::cpus_present(), parameters.max_hw_queues),
            Kind::Ide => (1, false),
        };

        if bad {
            dev_warn!(
                dev,
                "storvsc_max_hw_queues is more than there are CPUs; ignored\n"
            );
        }
        let host = Host::new()?;
        let settings = Settings {
            kind,
            ring_bytes,
            low_water: limits::low_water(ring_bytes, parameters.low_water_percent),
            queues,
            depth,
            // A number for the host's log; more than 256 adapters share some.
            port: (host.number() & 0xff) as u8,
        };

        Arc::pin_init(
            try_pin_init!(Self {
                slots: Slots::new(dev.into(), queues, depth)?,
                dev: dev.into(),
                settings,
                host,
                dead: Atomic::new(false),
                added: Atomic::new(false),
                counters: Counters::new(),
                command_lines: Lines::new(),
                packet_lines: Lines::new(),
                init <- new_spinlock_irq!(Init::new()),
                step <- Completion::new(),
                reset <- new_mutex!(()),
                resetting: Atomic::new(false),
                reset_status: Atomic::new(0),
                reset_done <- Completion::new(),
                luns <- new_spinlock_irq!(Luns::new()),
                obstructed: Atomic::new(false),
                identities <- new_mutex!(Identities::new()),
                internal <- Internal::new(),
                channels <- new_mutex!(Channels::new()),
                ended <- new_mutex!(Channels::new()),
                identify <- new_work!("hv_storvsc::identify"),
                units <- new_work!("hv_storvsc::units"),
                end <- new_work!("hv_storvsc::end"),
                watchdog <- new_delayed_work!("hv_storvsc::watchdog"),
                reclaim <- new_delayed_work!("hv_storvsc::reclaim"),
                revive <- new_delayed_work!("hv_storvsc::revive"),
                revivals: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether nothing can be expected of the host any more.
    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Acquire)
    }

    /// Whether some commands may not be sent: which, [`Self::is_dead`] and [`Self::with_luns`] say.
    #[inline]
    pub(crate) fn is_obstructed(&self) -> bool {
        self.obstructed.load(Acquire)
    }

    /// Does something with what is known about logical units. Any context but NMI.
    pub(crate) fn with_luns<R>(&self, f: impl FnOnce(&mut Luns) -> R) -> R {
        let mut luns = self.luns.lock();
        let result = f(&mut luns);

        self.obstructed
            .store(luns.is_obstructed() || self.is_dead(), Release);
        result
    }

    /// Nothing can be expected of the host any more. Any context but NMI.
    fn set_dead(&self) {
        self.dead.store(true, Release);
        self.with_luns(|_| ());
        self.internal.give_up();
    }

    /// The host answers again: from now on something can be expected of it.
    ///
    /// Nothing is sent before there are channels, and routes to them.
    pub(crate) fn set_alive(&self) {
        *self.init.lock() = Init::new();
        while self.step.try_wait() {}
        self.dead.store(false, Release);
        self.with_luns(|_| ());
    }

    /// Whether the midlayer knows the host.
    pub(crate) fn is_added(&self) -> bool {
        self.added.load(Acquire)
    }

    /// The midlayer knows the host from now on.
    pub(crate) fn set_added(&self) {
        self.added.store(true, Release);
    }

    /// Whether lines of this level are printed.
    pub(crate) fn logs(&self, level: LogLevel) -> bool {
        level != LogLevel::None && Parameters::logging_level() >= level as u32
    }

    /// Stops everything that waits for the host, and has the device ended in a work item. Any
    /// context but NMI.
    pub(crate) fn give_up(self: &Arc<Self>) {
        self.set_dead();
        self.init.lock().on_channel_lost();
        self.step.complete();
        self.reset_done.complete();
        // An error means that it is about to run anyway, or that the device is unbound.
        let _ = workqueue::system_dfl_long().enqueue::<_, END>(self.clone());
    }

    /// Ends the device: closes the channels, so that the host lets go of all memory, and then ends
    /// all commands that are still with it. May sleep; takes a while when the host does not answer.
    /// Does no harm when it was done before.
    ///
    /// A command that is being sent meanwhile finds the channel closed, or was handed over before that
    /// and is ended here. The routes stay as long as there are commands: error handling that finds
    /// none answers at once, and the midlayer ends commands then whatever became of them.
    ///
    /// A command whose channel the host does not confirm to be closed is not ended: its memory would
    /// be somebody else's, and the host may still write there. It is ended when the host says so after
    /// all, takes the controller back, or unloads.
    pub(crate) fn end(self: &Arc<Self>) {
        let mut ended = self.ended.lock();

        self.set_dead();
        let channels = self.channels.lock().take();

        if channels.count() != 0 {
            channels.close();
            *ended = channels;
        }
        if self.end_commands(&ended) == 0 {
            self.slots.wait_for_completions();
            drop(self.host.withdraw());
        } else {
            dev_err!(
                self.dev,
                "{} commands wait until the host gives their memory back\n",
                self.slots.in_flight()
            );
            self.reclaim_later();
        }
        drop(ended);
        revive::try_later(self);
    }

    /// Ends all commands, but those whose memory the host has not given back; how many those are.
    fn end_commands(&self, ended: &Channels) -> usize {
        let mut count = 0u32;

        self.slots.take_all(
            |number| !ended.withholds(number),
            |command| {
                count = count.saturating_add(1);
                let outcome = Outcome::not_done(HostByte::NoConnect, command.sent().data_len);
                command.finish(&outcome, &[], false);
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
        self.slots.in_flight()
    }

    fn reclaim_later(self: &Arc<Self>) {
        let queue = workqueue::system_dfl_long();
        let _ = workqueue::enqueue_delayed::<_, RECLAIM>(queue, self.clone(), RECLAIM_EVERY_MS);
    }

    /// Waits until no command is with the host, or on its way back to the midlayer, of a device that
    /// was ended. May sleep, for as long as the host withholds memory.
    pub(crate) fn wait_for_commands(&self) {
        while self.slots.in_flight() != 0 {
            fsleep(Delta::from_millis(RECLAIM_EVERY_MS.into()));
        }
        self.slots.wait_for_completions();
    }
}

impl WorkItem<RECLAIM> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        let left = this.end_commands(&this.ended.lock());

        if left != 0 {
            this.reclaim_later();
        }
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
            this.end();
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
            shared.end();
        } else {
            // The midlayer waits for the host below; not for ever.
            let _ = workqueue::enqueue_delayed::<_, WATCHDOG>(
                workqueue::system_dfl_long(),
                shared.clone(),
                ANSWER_TIMEOUT_MS,
            );
        }
        workqueue::disable_sync::<Shared, UNITS>(shared);
        if shared.is_added() {
            // Commands of the removal may wait until a unit has said who it is.
            shared.host.remove();
        }
        workqueue::disable_sync::<Shared, IDENTIFY>(shared);
        workqueue::disable_delayed_sync::<Shared, WATCHDOG>(shared);
        shared.end();
        workqueue::disable_sync::<Shared, END>(shared);
        workqueue::disable_delayed_sync::<Shared, RECLAIM>(shared);
    }
}
