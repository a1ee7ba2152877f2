// SPDX-License-Identifier: GPL-2.0

//! What all parts of the driver share.

use crate::{
    channels::Channels,
    internal::Internal,
    luns::Identities,
    obstacles::Obstacles,
    params::{cpus_online, cpus_present, Parameters},
    queue::Storvsc,
    scsi::Host,
    status::Counters,
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
    workqueue::{new_delayed_work, new_work, DelayedWork, Work},
};
use storvsc_protocol::{
    init::Init,
    limits::{self, DepthInput},
    luns::Luns,
    outcome::LogLevel,
};
use vmbus::{abstractions::Completion, Lines};

/// Identifies the work item that has the midlayer remove, rescan and find logical units.
pub(crate) const UNITS: u64 = 0;

/// Identifies the work item that ends the device.
pub(crate) const END: u64 = 1;

/// Identifies the work item that ends the device when its removal takes too long.
pub(crate) const WATCHDOG: u64 = 2;

/// Identifies the work item that looks whether the host gave memory back.
pub(crate) const RECLAIM: u64 = 3;

/// Identifies the work item that compares the identities of logical units.
pub(crate) const IDENTIFY: u64 = 4;

/// Identifies the work item that tries whether a host that was given up answers again.
pub(crate) const REVIVE: u64 = 5;

/// Identifies the work item that has the removal of busy units tried again.
pub(crate) const LATER: u64 = 6;

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
    /// The host does not answer any more: nothing is sent, and nobody waits for it.
    dead: Atomic<bool>,
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
    /// Whose commands may not be sent, since the device is dead or for a reason that `luns` knows.
    /// Changes with `luns` locked.
    pub(crate) obstacles: Obstacles,
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
    #[pin]
    later: DelayedWork<Shared, LATER>,
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
    impl HasDelayedWork<Self, 6> for Shared { self.later }
}

impl Shared {
    /// Creates the state of a device that is about to be bound. Nothing of it is known to anybody.
    pub(crate) fn new(dev: &device::Device<device::Bound>, kind: Kind) -> Result<Arc<Self>> {
        let parameters = Parameters::read();
        let ring_bytes = limits::ring_bytes(parameters.ring_size);
        let depth = limits::depth(&DepthInput {
            ring_bytes,
            cpus: cpus_online(),
            cpus_per_channel: parameters.vcpus_per_sub_channel,
            low_water_percent: parameters.low_water_percent,
            sub_channels: kind == Kind::Scsi,
        });
        let (queues, bad) = match kind {
            Kind::Scsi => limits::hardware_queues(cpus_present(), parameters.max_hw_queues),
            Kind::Ide => (1, false),
        };

        if bad {
            dev_warn!(
                dev,
                "storvsc_max_hw_queues is more than there are CPUs; ignored\n"
            );
        }
        let host = Host::new(dev, queues, depth)?;
        let settings = Settings {
            kind,
            ring_bytes,
            low_water: limits::low_water(ring_bytes, parameters.low_water_percent),
            queues,
            depth,
            // A number for the host's log; more than 256 adapters share some.
            port: (host.number() & 0xff) as u8,
        };

        let plain: &device::Device = dev;

        Arc::pin_init(
            try_pin_init!(Self {
                dev: plain.into(),
                settings,
                host,
                dead: Atomic::new(false),
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
                obstacles: Obstacles::new(),
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
                later <- new_delayed_work!("hv_storvsc::later"),
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

    /// Does something with what is known about logical units. Any context but NMI.
    pub(crate) fn with_luns<R>(&self, f: impl FnOnce(&mut Luns) -> R) -> R {
        let mut luns = self.luns.lock();
        let result = f(&mut luns);

        self.obstacles.set(&luns, self.is_dead());
        result
    }

    /// Nothing can be expected of the host any more. Any context but NMI.
    pub(crate) fn set_dead(&self) {
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

    /// Whether lines of this level are printed.
    pub(crate) fn logs(&self, level: LogLevel) -> bool {
        level != LogLevel::None && Parameters::logging_level() >= level as u32
    }
}
