// SPDX-License-Identifier: GPL-2.0

//! The connection with the host: version negotiation, posting of messages, replies, unload.

use crate::{
    abstractions::{Completion, CpuHotplug, Published, Shown, Workqueue, WqFlags},
    channel::table::ChannelTable,
    counters,
    hv::{self, hypercall, interrupt::InterruptHandler, synic::Synic},
    memory::{FlagPage, MonitorPage},
    messages::MessageWork,
};
use kernel::{
    cpu::CpuId,
    device::Device,
    new_mutex, new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, Mutex, SpinLock,
    },
    time::{delay, Delta},
};
use vmbus_protocol::{
    message::{ContactParams, InitiateContact, RequestOffers, Unload},
    pending::{Pending, Reply, ReplyKey},
    synic::MESSAGE_CONNECTION_ID,
    version::{Attempt, Negotiation, Step},
    Version,
};
use zerocopy::IntoBytes;

/// The one connection; interrupts and CPU hotplug find it here.
pub(crate) static CONNECTION: Published<Connection> = Published::empty();

/// The CPU that receives all channel messages, and that stays online while connected.
pub(crate) const CONNECT_CPU: u32 = 0;

/// How long the host may take for a reply.
const REPLY_TIMEOUT_MS: u32 = 60_000;
/// How long it may take to send all boot-time offers.
const OFFERS_TIMEOUT_MS: u32 = 60_000;
/// How long it may take to unload: it flushes the caches of its disks first.
const UNLOAD_TIMEOUT_MS: u32 = 100_000;
/// Progress is reported this often meanwhile.
const UNLOAD_NOTICE_MS: u32 = 5_000;
/// How often a message is posted before that counts as failed.
const POST_TRIES: u32 = 100;
/// Longest pause between two tries, in microseconds.
const POST_MAX_PAUSE_US: i64 = 100_000;
/// Requests that may wait for a reply at the same time.
const MAX_PENDING: usize = 64;

const DISCONNECTED: u32 = 0;
const CONNECTING: u32 = 1;
const CONNECTED: u32 = 2;
/// Channels are being closed for good: nothing new is taken from the host.
const CLOSING: u32 = 3;

/// Somebody who waits for a reply.
#[pin_data]
pub(crate) struct Waiter {
    #[pin]
    done: Completion,
    #[pin]
    reply: SpinLock<Option<Reply>>,
}

impl Waiter {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                done <- Completion::new(),
                reply <- new_spinlock!(None),
            }),
            GFP_KERNEL,
        )
    }

    /// Hands the reply over and wakes the waiter.
    pub(crate) fn wake(&self, reply: Reply) {
        *self.reply.lock() = Some(reply);
        self.done.complete_all();
    }
}

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
    /// memory reclaim: it runs drivers' `probe` and `unbind`, and what they are built on waits for
    /// queues that are not (runtime power management does).
    pub(crate) devices: Workqueue,
    /// Announces sub-channels to drivers, and takes them back.
    pub(crate) sub_channels: Workqueue,
    /// Runs the handlers of channels that want process context.
    pub(crate) channels: Workqueue,
}

/// Everything about the connection.
///
/// Locks, outermost first: a device's lock, `channels.list`, `pending`; a channel's `life` and its
/// ring locks are innermost. None of them is held while the host is waited for, except the device
/// lock, which the driver core holds around `probe` and `unbind`.
#[pin_data]
pub(crate) struct Connection {
    /// The ACPI device below which the VMBus devices hang.
    pub(crate) root: ARef<Device>,
    pub(crate) synic: Synic,
    pub(crate) doorbells: Arc<Doorbells>,
    pub(crate) queues: Queues,
    #[pin]
    pub(crate) channels: ChannelTable,
    /// One work item for each CPU that can have messages, indexed by CPU number.
    message_works: KVec<Option<Arc<MessageWork>>>,
    #[pin]
    pending: Mutex<Pending<Arc<Waiter>, MAX_PENDING>>,
    #[pin]
    pub(crate) offers_done: Completion,
    /// The hotplug state, here so that kexec can remove it.
    #[pin]
    pub(crate) hotplug: Mutex<Option<CpuHotplug>>,
    /// The interrupt handler, from before the first message until after the last.
    #[pin]
    pub(crate) interrupts: Mutex<Option<InterruptHandler>>,
    state: Atomic<u32>,
    version: Atomic<u32>,
    message_connection: Atomic<u32>,
    next_handle: Atomic<u32>,
    /// Whether an UNLOAD was answered; for a crash, which cannot use `pending`.
    unload_answered: Atomic<bool>,
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
            sub_channels: Workqueue::new_ordered(c"vmbus_sub_channels", reclaim)?,
            channels: Workqueue::new(
                c"vmbus_channels",
                WqFlags::PERCPU | WqFlags::HIGHPRI | reclaim,
                0,
            )?,
        };
        let mut message_works = KVec::new();

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
                channels <- ChannelTable::new(),
                message_works,
                pending <- new_mutex!(Pending::new()),
                offers_done <- Completion::new(),
                hotplug <- new_mutex!(None),
                interrupts <- new_mutex!(None),
                state: Atomic::new(DISCONNECTED),
                version: Atomic::new(0),
                message_connection: Atomic::new(MESSAGE_CONNECTION_ID),
                next_handle: Atomic::new(vmbus_protocol::gpadl::FIRST_HANDLE),
                unload_answered: Atomic::new(false),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// The protocol version in force.
    pub(crate) fn version(&self) -> Version {
        Version(self.version.load(Relaxed))
    }

    /// Whether the host knows of this connection, so that it has to be told what ends.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.state.load(Acquire), CONNECTED | CLOSING)
    }

    /// Whether the host may offer channels.
    pub(crate) fn takes_offers(&self) -> bool {
        self.state.load(Acquire) == CONNECTED
    }

    /// Takes no more offers from now on: what is there can be taken down in a bounded time.
    pub(crate) fn close_to_offers(&self) {
        // Without effect unless connected.
        let _ = self.state.cmpxchg(CONNECTED, CLOSING, Full);
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

    /// Posts a message, again and again while the host has no room for it. May sleep.
    ///
    /// `ENXIO` when the host does not know the connection id, `EAGAIN` when it stayed full, `EIO`
    /// for anything else the hypervisor says.
    pub(crate) fn post(&self, message: &[u8]) -> Result {
        Self::post_on(self.message_connection.load(Relaxed), message, |pause| {
            delay::fsleep(pause)
        })
    }

    fn post_on(connection: u32, message: &[u8], pause: impl Fn(Delta)) -> Result {
        let mut pause_us = 1;

        for _ in 0..POST_TRIES {
            match hypercall::post_message(connection, message) {
                Ok(()) => return Ok(()),
                Err(status) if status.is_busy() => {}
                Err(status) if status.is_no_connection() => return Err(ENXIO),
                Err(status) => {
                    crate::ratelimited!(pr_err!(
                        "posting a message failed: status {}\n",
                        Shown(&status)
                    ));
                    return Err(EIO);
                }
            }
            pause(Delta::from_micros(pause_us));
            pause_us = POST_MAX_PAUSE_US.min(pause_us.saturating_mul(2));
        }
        crate::ratelimited!(pr_err!(
            "the host took no message in {} tries\n",
            POST_TRIES
        ));
        Err(EAGAIN)
    }

    /// Posts a request with `post` and waits for its reply, for a bounded time. May sleep.
    ///
    /// `alive` is asked after the waiter is registered: a rescind that came earlier is seen there,
    /// one that comes later wakes the waiter. `ENODEV` for a rescinded channel, `ETIMEDOUT`.
    pub(crate) fn request(
        &self,
        key: ReplyKey,
        alive: impl FnOnce() -> bool,
        post: impl FnOnce() -> Result,
    ) -> Result<Reply> {
        let waiter = Waiter::new()?;
        let token = self
            .pending
            .lock()
            .register(key, waiter.clone())
            .map_err(|_| EBUSY)?;
        let cancel = || drop(self.pending.lock().cancel(token));

        if !alive() {
            cancel();
            return Err(ENODEV);
        }
        if let Err(error) = post() {
            cancel();
            return Err(error);
        }
        if !waiter.done.wait_timeout(REPLY_TIMEOUT_MS) {
            cancel();
            counters::TIMEOUTS.count();
            pr_err!("no reply to {:?} in {} s\n", key, REPLY_TIMEOUT_MS / 1000);
            return Err(ETIMEDOUT);
        }
        let reply = waiter.reply.lock().take();

        match reply {
            Some(Reply::Rescinded) | None => Err(ENODEV),
            Some(reply) => Ok(reply),
        }
    }

    /// Hands a reply to whoever waits for it.
    pub(crate) fn on_reply(&self, message: &vmbus_protocol::message::Inbound) {
        let found = self.pending.lock().resolve(message);

        match found {
            Some((waiter, reply)) => waiter.wake(reply),
            None => {
                counters::STRAY_REPLIES.count();
                crate::ratelimited!(pr_warn!("reply that nobody waits for: {:?}\n", message))
            }
        }
    }

    /// Wakes everybody who waits for a reply about a channel that is gone.
    pub(crate) fn abort_requests(&self, relid: u32) {
        loop {
            // The lock is released before the waiter, which may be the last owner, is dropped.
            let Some(waiter) = self.pending.lock().rescind(relid) else {
                return;
            };

            waiter.wake(Reply::Rescinded);
        }
    }

    /// Negotiates the protocol version. May sleep.
    pub(crate) fn connect(&self) -> Result {
        let mut negotiation = Negotiation::new(Some(hv::max_version())).map_err(|_| {
            pr_err!(
                "max_version {:#x} excludes every version this driver speaks\n",
                hv::max_version()
            );
            EINVAL
        })?;

        self.state.store(CONNECTING, Release);
        let result = loop {
            let Some(attempt) = negotiation.current() else {
                break Err(ECONNREFUSED);
            };

            negotiation.posted();
            let step = match self.propose(attempt) {
                Ok(Reply::Version(response)) => negotiation.on_response(&response),
                Ok(_) => break Err(EPROTO),
                Err(error) if error == ENXIO => negotiation.on_invalid_connection(),
                Err(error) => {
                    negotiation.on_timeout();
                    break Err(error);
                }
            };

            match step {
                Step::Accepted {
                    version,
                    msg_conn_id,
                    ..
                } => {
                    self.version.store(version.0, Relaxed);
                    self.message_connection.store(msg_conn_id, Relaxed);
                    break Ok(version);
                }
                Step::TryNext(_) => {}
                Step::Refused | Step::Unexpected => break Err(ECONNREFUSED),
            }
        };

        match result {
            Ok(version) => {
                self.state.store(CONNECTED, Release);
                pr_info!("Vmbus version:{}.{}\n", version.major(), version.minor());
                Ok(())
            }
            Err(error) => {
                self.state.store(DISCONNECTED, Release);
                if error == ETIMEDOUT {
                    // The host may still take the proposal, and the pages with it.
                    self.leak_everything("no answer to the version proposed");
                }
                pr_err!("unable to connect to the host: {:?}\n", error);
                Err(error)
            }
        }
    }

    fn propose(&self, attempt: Attempt) -> Result<Reply> {
        let message = InitiateContact::new(
            attempt.version,
            &ContactParams {
                target_vp: CpuId::from_u32(CONNECT_CPU).map_or(0, hv::vp_number),
                interrupt_page: self.doorbells.interrupt_page.pages().phys(),
                monitor_page1: self.doorbells.monitor_in.pages().phys(),
                monitor_page2: self.doorbells.monitor_out.pages().phys(),
                ..Default::default()
            },
        );

        self.request(
            ReplyKey::Version,
            || true,
            || {
                Self::post_on(attempt.connection_id, message.as_bytes(), |pause| {
                    delay::fsleep(pause)
                })
            },
        )
    }

    /// Asks for the offers and waits until the devices of all of them are there. May sleep.
    pub(crate) fn request_offers(&self) -> Result {
        self.post(RequestOffers::new().as_bytes())?;
        if !self.offers_done.wait_timeout(OFFERS_TIMEOUT_MS) {
            pr_warn!(
                "the host did not finish its offers in {} s; going on with what is there\n",
                OFFERS_TIMEOUT_MS / 1000
            );
        }
        self.queues.devices.flush();
        Ok(())
    }

    /// Ends the connection on this side; whether there was one, so that the host is told once.
    fn disconnect(&self) -> bool {
        matches!(self.state.xchg(DISCONNECTED, Full), CONNECTED | CLOSING)
    }

    /// Ends the connection: the host forgets all channels and lets go of all memory. May sleep.
    pub(crate) fn unload(&self) {
        if !self.disconnect() {
            return;
        }
        let Ok(waiter) = Waiter::new() else {
            return self.leak_everything("UNLOAD failed, no memory");
        };
        let Ok(token) = self
            .pending
            .lock()
            .register(ReplyKey::Unload, waiter.clone())
        else {
            return self.leak_everything("UNLOAD failed, no place to wait");
        };

        if self.post(Unload::new().as_bytes()).is_err() {
            drop(self.pending.lock().cancel(token));
            return self.leak_everything("UNLOAD could not be posted");
        }
        for _ in 0..UNLOAD_TIMEOUT_MS / UNLOAD_NOTICE_MS {
            if waiter.done.wait_timeout(UNLOAD_NOTICE_MS) {
                return;
            }
            pr_notice!("Waiting for VMBus UNLOAD to complete\n");
        }
        drop(self.pending.lock().cancel(token));
        self.leak_everything("the host did not answer UNLOAD");
    }

    /// The host may go on writing to pages that it was told about, so they are never freed.
    fn leak_everything(&self, why: &str) {
        pr_err!("{}: pages shared with the host are not freed\n", why);
        self.doorbells.interrupt_page.pages().leak();
        self.doorbells.monitor_in.pages().leak();
        self.doorbells.monitor_out.pages().leak();
    }

    /// [`Self::unload`] for a crash: takes no lock, does not sleep, and reads the message pages
    /// itself. Bounded by the same time.
    pub(crate) fn unload_in_crash(&self) {
        if !self.disconnect() {
            return;
        }
        // An answer that was there before is not the one to this.
        self.unload_answered.store(false, Relaxed);
        let connection = self.message_connection.load(Relaxed);
        let posted = Self::post_on(connection, Unload::new().as_bytes(), busy_wait);

        if posted.is_err() {
            return;
        }
        crate::messages::poll_for_unload(self, UNLOAD_TIMEOUT_MS, UNLOAD_NOTICE_MS);
    }

    /// The answer to UNLOAD is in a slot. Any context, any CPU.
    pub(crate) fn note_unload_response(&self) {
        self.unload_answered.store(true, Release);
    }

    /// Whether an answer was noted since [`Self::unload_in_crash`] began.
    pub(crate) fn has_unload_response(&self) -> bool {
        self.unload_answered.load(Acquire)
    }
}

/// Waits without sleeping; the argument may be longer than one `udelay()` can be.
pub(crate) fn busy_wait(time: Delta) {
    let mut left = time.as_micros_ceil();

    while left > 0 {
        let step = left.min(1_000);

        delay::udelay(Delta::from_micros(step));
        left = left.saturating_sub(step);
    }
}
