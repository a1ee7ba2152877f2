// SPDX-License-Identifier: GPL-2.0

//! The connection with the host: what it owns, and where it is.

mod control;
mod negotiate;
mod unload;

pub(crate) use control::{busy_wait, Asked, Waiter};

use crate::{
    abstractions::{Completion, CpuHotplug, RcuArc, Workqueue, WqFlags},
    bus::attach::Turns,
    channel::{gpadl::Gpadls, release::Releases, stock::Stock, table::ChannelTable},
    hv::{self, interrupt::InterruptHandler, synic::Synic},
    memory::{FlagPage, MonitorPage},
    messages::MessageWork,
    state::StateCell,
};
use kernel::{
    cpu::CpuId,
    device::Device,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, Mutex,
    },
};
use vmbus_protocol::{
    link::{HostMemory, Link, LinkEvent},
    message::MAX_CHANNEL_RELIDS,
    pending::{Pending, Place},
    synic::MESSAGE_CONNECTION_ID,
    Version,
};

/// The one connection; interrupts and CPU hotplug find it here.
pub(crate) static CONNECTION: RcuArc<Connection> = RcuArc::empty();

/// The protocol version in force; 0.0 without a connection, which no device is without.
pub(crate) fn protocol_version() -> Version {
    CONNECTION
        .with(|connection| connection.version())
        .unwrap_or(Version(0))
}

/// The CPU that receives all channel messages, and that stays online while connected.
pub(crate) const CONNECT_CPU: u32 = 0;

/// The number of no CPU.
const NO_CPU: u32 = u32::MAX;

/// Requests that may wait for a reply at the same time: one for each channel, and some more. The
/// channels of a device are closed all at the same time.
const MAX_PENDING: usize = MAX_CHANNEL_RELIDS as usize + 64;

/// The pages that signal the host without a hypercall.
pub(crate) struct Doorbells {
    /// Interrupt page, for channels without an interrupt of their own.
    pub(crate) interrupt_page: FlagPage,
    /// Host-to-guest monitor page.
    pub(crate) monitor_in: MonitorPage,
    /// Guest-to-host monitor page.
    pub(crate) monitor_out: MonitorPage,
}

/// The work queues of the core.
pub(crate) struct Queues {
    /// Reads message slots; bound to the CPU of the slot, never waits for the host.
    pub(crate) messages: Workqueue,
    /// Adds and removes devices, one after the other in the order of the host's messages. Not for
    /// memory reclaim: it runs drivers' `unbind`, and what that is built on waits for queues that
    /// are not (runtime power management does).
    pub(crate) devices: Workqueue,
    /// Probes devices that are probed in order, see [`attach`](crate::bus::attach).
    pub(crate) probes: Workqueue,
    /// Announces sub-channels to drivers, and takes them back: of each device one after the other,
    /// of several at the same time, since drivers open them here and a host may be slow. Also makes
    /// their folders in sysfs, and removes them. Not for memory reclaim: all of this may wait for
    /// memory, or for locks of others who do, and memory waits for nothing that is queued here.
    pub(crate) sub_channels: Workqueue,
    /// Takes rescinded sub-channels of disks from their driver. Commands that were sent on them end
    /// here, and memory may be waiting for those. While there is none for more workers, one thread
    /// does all that is queued here, one after the other: so nothing else is.
    pub(crate) withdrawals: Workqueue,
    /// Runs the handlers of channels that want process context.
    pub(crate) channels: Workqueue,
}

/// Who waits for a reply.
type Waiting = Pending<Arc<Waiter>, KVVec<Place<Arc<Waiter>>>>;

/// Everything about the connection.
///
/// Locks, outermost first: a device's lock, that of CPU hotplug, a channel's `modifying`,
/// `channels.list`, `gpadls`, `pending`; a channel's `session`, `life`, `affinity` and ring locks,
/// and those of `releases` and `stock`, are innermost. None of them is held while the host is
/// waited for, except the device lock, which the driver core holds around `probe` and `unbind`, and
/// CPU hotplug's and `modifying` in a change of a channel's CPU.
#[pin_data]
pub(crate) struct Connection {
    /// The ACPI device below which the VMBus devices hang.
    pub(crate) root: ARef<Device>,
    pub(crate) synic: Synic,
    pub(crate) doorbells: Arc<Doorbells>,
    pub(crate) queues: Queues,
    /// Who is probed next of those that are probed in order.
    pub(crate) turns: Arc<Turns>,
    #[pin]
    pub(crate) channels: ChannelTable,
    #[pin]
    pub(crate) gpadls: Gpadls,
    /// Relids that the host is still to be given back.
    pub(crate) releases: Arc<Releases>,
    /// Memory for channels that it is still to offer.
    pub(crate) stock: Arc<Stock>,
    /// One work item for each CPU that can have messages, indexed by CPU number.
    message_works: KVec<Option<Arc<MessageWork>>>,
    #[pin]
    pending: Mutex<Waiting>,
    #[pin]
    pub(crate) offers_done: Completion,
    /// The hotplug state, here so that kexec can remove it.
    #[pin]
    pub(crate) hotplug: Mutex<Option<CpuHotplug>>,
    /// The interrupt handler, from before the first message until after the last.
    #[pin]
    pub(crate) interrupts: Mutex<Option<InterruptHandler>>,
    link: StateCell<Link>,
    /// Whether the host had no room for the last message, in all the time.
    full: Atomic<bool>,
    /// Whether CPUs go without a word to the host.
    cpus_released: Atomic<bool>,
    /// The CPU that goes offline, or went last; [`NO_CPU`].
    leaving: Atomic<u32>,
    version: Atomic<u32>,
    message_connection: Atomic<u32>,
    next_handle: Atomic<u32>,
    /// Whether an UNLOAD was answered; for a crash, which cannot wait for a completion.
    unload_answered: Atomic<bool>,
    /// The answer to UNLOAD, here because UNLOAD has to work without memory.
    #[pin]
    unload_response: Completion,
    /// UNLOAD is over, one way or the other.
    #[pin]
    unload_ended: Completion,
}

impl Connection {
    /// Allocates what a connection needs. Nothing is sent, and the hypervisor knows nothing yet.
    pub(crate) fn new(root: ARef<Device>) -> Result<Arc<Self>> {
        let synic = Synic::new()?;
        let doorbells = Arc::new(
            Doorbells {
                interrupt_page: FlagPage::new()?,
                monitor_in: MonitorPage::new()?,
                monitor_out: MonitorPage::new()?,
            },
            GFP_KERNEL,
        )?;
        let reclaim = WqFlags::MEM_RECLAIM;
        let queues = Queues {
            messages: Workqueue::new(
                c"vmbus_messages",
                WqFlags::PERCPU | WqFlags::HIGHPRI | reclaim,
                1,
            )?,
            devices: Workqueue::new_ordered(c"vmbus_devices", WqFlags::empty())?,
            probes: Workqueue::new_ordered(c"vmbus_probes", WqFlags::empty())?,
            sub_channels: Workqueue::new(c"vmbus_sub_channels", WqFlags::UNBOUND, 0)?,
            withdrawals: Workqueue::new(c"vmbus_withdrawals", WqFlags::UNBOUND | reclaim, 0)?,
            channels: Workqueue::new(
                c"vmbus_channels",
                WqFlags::PERCPU | WqFlags::HIGHPRI | reclaim,
                0,
            )?,
        };
        let mut message_works = KVec::new();
        let mut places = KVVec::with_capacity(MAX_PENDING, GFP_KERNEL)?;

        for _ in 0..MAX_PENDING {
            places.push(Place::new(), GFP_KERNEL)?;
        }

        for cpu in 0..kernel::cpu::nr_cpu_ids() {
            let work = match CpuId::from_u32(cpu).filter(|&cpu| hv::cpu_present(cpu)) {
                Some(cpu) => Some(MessageWork::new(cpu)?),
                None => None,
            };

            message_works.push(work, GFP_KERNEL)?;
        }
        Arc::pin_init(
            try_pin_init!(Self {
                root,
                synic,
                doorbells,
                queues,
                turns: Turns::new()?,
                channels <- ChannelTable::new(),
                gpadls <- Gpadls::new(),
                releases: Releases::new()?,
                stock: Stock::new()?,
                message_works,
                pending <- new_mutex!(Pending::new(places)),
                offers_done <- Completion::new(),
                hotplug <- new_mutex!(None),
                interrupts <- new_mutex!(None),
                link: StateCell::new(Link::Down),
                full: Atomic::new(false),
                cpus_released: Atomic::new(false),
                leaving: Atomic::new(NO_CPU),
                version: Atomic::new(0),
                message_connection: Atomic::new(MESSAGE_CONNECTION_ID),
                next_handle: Atomic::new(vmbus_protocol::gpadl::FIRST_HANDLE),
                unload_answered: Atomic::new(false),
                unload_response <- Completion::new(),
                unload_ended <- Completion::new(),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// The protocol version in force.
    pub(crate) fn version(&self) -> Version {
        Version(self.version.load(Relaxed))
    }

    /// Lets all CPUs go, for good: nothing is expected from the host any more. May sleep.
    pub(crate) fn release_cpus(&self) {
        self.cpus_released.store(true, Release);
        // Dropped outside of the lock.
        let hotplug = self.hotplug.lock().take();

        drop(hotplug);
    }

    /// Where the connection is.
    fn link(&self) -> Link {
        self.link.get()
    }

    /// Lets an event happen; whether it fits. Of several that are first at the same time, one is.
    fn happens(&self, event: LinkEvent) -> bool {
        self.link.happen(event).is_some()
    }

    /// A CPU is about to go offline, or `None`: it comes, or stays. Seen by [`Self::leaving_cpu`]
    /// of whoever gave a channel that CPU before this could see it.
    pub(crate) fn set_leaving_cpu(&self, cpu: Option<CpuId>) {
        self.leaving
            .xchg(cpu.map_or(NO_CPU, |cpu| cpu.as_u32()), Full);
    }

    /// The CPU that is about to go offline.
    pub(crate) fn leaving_cpu(&self) -> Option<u32> {
        // With a full barrier, see `set_leaving_cpu`.
        let cpu = self.leaving.cmpxchg(NO_CPU, NO_CPU, Full);

        cpu.err().filter(|&cpu| cpu != NO_CPU)
    }

    /// Whether the host has to be told before a CPU goes.
    pub(crate) fn needs_cpus(&self) -> bool {
        self.link().needs_cpus() && !self.cpus_released.load(Acquire)
    }

    /// Whether the host answers requests.
    pub(crate) fn is_up(&self) -> bool {
        self.link().memory() == HostMemory::Ask
    }

    /// Whether the host may offer channels.
    pub(crate) fn takes_offers(&self) -> bool {
        self.link().takes_offers()
    }

    /// Takes no more offers from now on: what is there can be taken down in a bounded time.
    pub(crate) fn close_to_offers(&self) {
        // Without effect unless the connection is up.
        let _ = self.happens(LinkEvent::Close);
    }

    /// What has to be done about the memory of a channel that is closed now. Waits for the end of
    /// an UNLOAD that is under way, for a bounded time; may sleep.
    pub(crate) fn host_memory(&self) -> HostMemory {
        match self.link().memory() {
            HostMemory::Wait => {
                self.wait_for_others_unload();
                match self.link().memory() {
                    HostMemory::LetGo => HostMemory::LetGo,
                    // Whoever has not waited long enough keeps the memory.
                    _ => HostMemory::Keep,
                }
            }
            memory => memory,
        }
    }

    /// A number that no live GPADL or open request has.
    pub(crate) fn next_handle(&self) -> u32 {
        loop {
            let handle = self.next_handle.fetch_add(1u32, Relaxed);

            if handle != 0 {
                return handle;
            }
        }
    }

    /// Queues the reading of the message slot of `cpu`. Any context but NMI.
    #[inline]
    pub(crate) fn schedule_messages(&self, cpu: CpuId) {
        if let Some(Some(work)) = self.message_works.get(cpu.as_u32() as usize) {
            // An item that is queued already will see this message too.
            let _ = self.queues.messages.enqueue_on(cpu, work.clone());
        }
    }
}
