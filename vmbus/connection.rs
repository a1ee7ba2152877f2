// SPDX-License-Identifier: GPL-2.0

//! The connection with the host: version negotiation, posting of messages, replies, unload.

use crate::{
    abstractions::{Completion, CpuHotplug, Published, Workqueue, WqFlags},
    channel::{gpadl::Gpadls, table::ChannelTable},
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
    time::{delay, Delta, Instant, Monotonic},
};
use vmbus_protocol::{
    link::{HostMemory, Link, LinkEvent},
    message::{ContactParams, Inbound, InitiateContact, RequestOffers, Unload},
    pending::{Pending, Reply, ReplyKey, Token},
    post::{Next, PostError, Purpose, Tries},
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
/// Requests that may wait for a reply at the same time.
const MAX_PENDING: usize = 64;

/// Somebody who waits for a reply.
#[pin_data]
pub(crate) struct Waiter {
    #[pin]
    done: Completion,
    #[pin]
    reply: SpinLock<Option<Reply>>,
}

impl Waiter {
    /// Somebody who will wait for one reply.
    pub(crate) fn new() -> Result<Arc<Self>> {
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

/// A request that was posted and not yet answered.
#[must_use = "whoever asked takes the waiter back by waiting"]
pub(crate) struct Asked {
    key: ReplyKey,
    token: Token,
    waiter: Arc<Waiter>,
    at: Instant<Monotonic>,
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
/// Locks, outermost first: a device's lock, that of CPU hotplug, a channel's `modifying`, `channels.list`, `gpadls`,
/// `pending`; a channel's `session`, `life`, `affinity` and ring locks are innermost. None of them is
/// held while the host is waited for, except the device lock, which the driver core holds around
/// `probe` and `unbind`, and CPU hotplug's and `modifying` in a change of a channel's CPU.
#[pin_data]
pub(crate) struct Connection {
    /// The ACPI device below which the VMBus devices hang.
    pub(crate) root: ARef<Device>,
    pub(crate) synic: Synic,
    pub(crate) doorbells: Arc<Doorbells>,
    pub(crate) queues: Queues,
    #[pin]
    pub(crate) channels: ChannelTable,
    #[pin]
    pub(crate) gpadls: Gpadls,
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
    /// A [`Link`].
    link: Atomic<u32>,
    /// Whether the host had no room for the last message, in all the time.
    full: Atomic<bool>,
    /// Whether CPUs go without a word to the host.
    cpus_released: Atomic<bool>,
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
                gpadls <- Gpadls::new(),
                message_works,
                pending <- new_mutex!(Pending::new()),
                offers_done <- Completion::new(),
                hotplug <- new_mutex!(None),
                interrupts <- new_mutex!(None),
                link: Atomic::new(Link::Down.raw()),
                full: Atomic::new(false),
                cpus_released: Atomic::new(false),
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
        Link::from_raw(self.link.load(Acquire))
    }

    /// Lets an event happen; whether it fits. Of several that are first at the same time, one is.
    fn happens(&self, event: LinkEvent) -> bool {
        loop {
            let link = self.link();
            let Some(next) = link.after(event) else {
                return false;
            };

            if self.link.cmpxchg(link.raw(), next.raw(), Full).is_ok() {
                return true;
            }
        }
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

    /// Waits until an UNLOAD that is under way elsewhere has ended, for as long as it may take.
    fn wait_for_others_unload(&self) {
        // Pauses last longer than they are asked to.
        const LONGEST_MS: u32 = UNLOAD_TIMEOUT_MS + Purpose::Request.budget_us() / 1_000 * 2;

        for _ in 0..LONGEST_MS / UNLOAD_NOTICE_MS {
            if self.link() != Link::Unloading || self.unload_ended.wait_timeout(UNLOAD_NOTICE_MS) {
                return;
            }
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

    /// Posts a message, again and again while the host has no room for it and `alive` says that it
    /// makes sense. May sleep, for minutes.
    ///
    /// `EAGAIN` when the host stayed full, `ENODEV` when it is not `alive` or the connection is not
    /// up (any more), `EIO` for anything else the hypervisor says.
    pub(crate) fn post(&self, message: &[u8], alive: &dyn Fn() -> bool) -> Result {
        let purpose = if self.full.load(Relaxed) {
            Purpose::AfterFull
        } else {
            Purpose::Request
        };
        let connection = self.message_connection.load(Relaxed);
        let alive = || self.is_up() && alive();
        let result = post_on(connection, message, purpose, delay::fsleep, alive);

        match result {
            Ok(()) => self.full.store(false, Relaxed),
            Err(error) if error == EAGAIN => self.full.store(true, Relaxed),
            Err(_) => {}
        }
        result
    }

    /// Posts a request with `post` and waits for its reply, for a bounded time. May sleep.
    ///
    /// `alive` is asked after the waiter is registered: a rescind that came earlier is seen there,
    /// one that comes later wakes the waiter. `ENODEV` for a rescinded channel, `ETIMEDOUT`.
    pub(crate) fn request(
        &self,
        key: ReplyKey,
        alive: &dyn Fn() -> bool,
        post: impl FnOnce() -> Result,
    ) -> Result<Reply> {
        let asked = self.begin_request(Waiter::new()?, key, alive, post)?;

        self.finish_request(asked)
    }

    /// The first half of [`Self::request`], with a new `waiter`: registers it and posts. Allocates
    /// nothing.
    pub(crate) fn begin_request(
        &self,
        waiter: Arc<Waiter>,
        key: ReplyKey,
        alive: &dyn Fn() -> bool,
        post: impl FnOnce() -> Result,
    ) -> Result<Asked> {
        let token = self
            .pending
            .lock()
            .register(key, waiter.clone())
            .map_err(|_| EBUSY)?;
        let posted = if alive() { post() } else { Err(ENODEV) };

        if let Err(error) = posted {
            drop(self.pending.lock().cancel(token));
            return Err(error);
        }
        Ok(Asked {
            key,
            token,
            waiter,
            at: Instant::now(),
        })
    }

    /// The second half: waits for the reply, for a bounded time from the first half on.
    pub(crate) fn finish_request(&self, asked: Asked) -> Result<Reply> {
        let Asked {
            key,
            token,
            waiter,
            at,
        } = asked;
        let waited = u32::try_from(at.elapsed().as_millis()).unwrap_or(u32::MAX);
        let left = REPLY_TIMEOUT_MS.saturating_sub(waited);

        if !waiter.done.wait_timeout(left) {
            drop(self.pending.lock().cancel(token));
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
    pub(crate) fn on_reply(&self, message: &Inbound) {
        let found = self.pending.lock().resolve(message);

        match (found, message) {
            (Some((waiter, reply)), _) => waiter.wake(reply),
            // Late, but good to know.
            (None, Inbound::GpadlTorndown(torndown))
                if self.gpadls.on_late_torndown(torndown.gpadl) =>
            {
                pr_info!("GPADL {:#x} is torn down after all\n", torndown.gpadl);
            }
            (None, _) => {
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

        if !self.happens(LinkEvent::Propose) {
            return Err(EBUSY);
        }
        // What is said when no version is left.
        let mut reason = ECONNREFUSED;
        let result = loop {
            let Some(attempt) = negotiation.current() else {
                break Err(reason);
            };

            negotiation.posted();
            let step = match self.propose(attempt) {
                Ok(Reply::Version(response)) => negotiation.on_response(&response),
                Ok(_) => break Err(EPROTO),
                Err(error) if error == ETIMEDOUT => {
                    negotiation.on_timeout();
                    break Err(error);
                }
                Err(error) if error == ENXIO => negotiation.on_invalid_connection(),
                // Nothing was posted, so nothing can be answered: on with the next version.
                Err(error) if error == EAGAIN || error == EIO => {
                    reason = error;
                    negotiation.on_not_posted()
                }
                Err(error) => break Err(error),
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
                Step::Refused => break Err(reason),
                Step::Unexpected => break Err(EPROTO),
            }
        };

        match result {
            Ok(version) => {
                self.happens(LinkEvent::Accepted);
                pr_info!("Vmbus version:{}.{}\n", version.major(), version.minor());
                Ok(())
            }
            Err(error) => {
                if error == ECONNREFUSED {
                    pr_err!("the host has none of this driver's versions (4.0 and newer: Windows Server 2016)\n");
                }
                if error == ETIMEDOUT {
                    // The host may still take the proposal, and the pages with it.
                    self.happens(LinkEvent::NoAnswer);
                    self.leak_everything("no answer to the version proposed");
                } else {
                    self.happens(LinkEvent::Refused);
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
                interrupt_page: self.doorbells.interrupt_page.page().phys(),
                monitor_page1: self.doorbells.monitor_in.page().phys(),
                monitor_page2: self.doorbells.monitor_out.page().phys(),
                ..Default::default()
            },
        );

        self.request(ReplyKey::Version, &|| true, || {
            post_on(
                attempt.connection_id,
                message.as_bytes(),
                Purpose::Contact,
                delay::fsleep,
                || true,
            )
        })
    }

    /// Asks for the offers and waits until the devices of all of them are there. May sleep.
    pub(crate) fn request_offers(&self) -> Result {
        self.post(RequestOffers::new().as_bytes(), &|| true)?;
        if !self.offers_done.wait_timeout(OFFERS_TIMEOUT_MS) {
            pr_warn!(
                "the host did not finish its offers in {} s; going on with what is there\n",
                OFFERS_TIMEOUT_MS / 1000
            );
        }
        self.queues.devices.flush();
        Ok(())
    }

    /// Ends the connection: the host forgets all channels and lets go of all memory. May sleep.
    ///
    /// Allocates nothing: a machine without memory has to be shut down, too.
    pub(crate) fn unload(&self) {
        // The first one sends it; whoever comes second must not find a host that still writes.
        if !self.happens(LinkEvent::Unload) {
            return self.wait_for_others_unload();
        }
        let posted = post_on(
            self.message_connection.load(Relaxed),
            Unload::new().as_bytes(),
            Purpose::Request,
            delay::fsleep,
            || true,
        );
        let answered = match posted {
            Ok(()) => self.wait_for_unload(),
            Err(error) => Err(error),
        };

        match answered {
            Ok(()) => {
                self.happens(LinkEvent::Unloaded);
                self.gpadls.on_unloaded();
            }
            Err(error) => {
                self.happens(LinkEvent::NoAnswer);
                pr_err!("UNLOAD failed: {:?}\n", error);
                self.leak_everything("the host may use them");
            }
        }
        self.unload_ended.complete_all();
    }

    fn wait_for_unload(&self) -> Result {
        for _ in 0..UNLOAD_TIMEOUT_MS / UNLOAD_NOTICE_MS {
            if self.unload_response.wait_timeout(UNLOAD_NOTICE_MS) {
                return Ok(());
            }
            pr_notice!("Waiting for VMBus UNLOAD to complete\n");
        }
        Err(ETIMEDOUT)
    }

    /// UNLOAD_RESPONSE was read. Process context.
    pub(crate) fn on_unload_response(&self) {
        if self.link() == Link::Unloading {
            self.unload_response.complete_all();
        } else {
            counters::STRAY_REPLIES.count();
            crate::ratelimited!(pr_warn!("UNLOAD_RESPONSE that nobody waits for\n"));
        }
    }

    /// The host may go on writing to pages that it was told about, so they are never freed.
    fn leak_everything(&self, why: &str) {
        pr_err!("{}: pages shared with the host are not freed\n", why);
        self.doorbells.interrupt_page.page().leak();
        self.doorbells.monitor_in.page().leak();
        self.doorbells.monitor_out.page().leak();
    }

    /// [`Self::unload`] for a crash: takes no lock, does not sleep, and reads the message pages
    /// itself. Bounded.
    pub(crate) fn unload_in_crash(&self) {
        if !self.happens(LinkEvent::Unload) {
            return;
        }
        // An answer that was there before is not the one to this.
        self.unload_answered.store(false, Relaxed);
        let connection = self.message_connection.load(Relaxed);
        let posted = post_on(
            connection,
            Unload::new().as_bytes(),
            Purpose::Crash,
            busy_wait,
            || true,
        );

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

/// Posts a message; `ENXIO` when the host does not know the connection id of a contact, `ENODEV` once
/// it is not `alive`.
fn post_on(
    connection: u32,
    message: &[u8],
    purpose: Purpose,
    pause: impl Fn(Delta),
    alive: impl Fn() -> bool,
) -> Result {
    let mut tries = Tries::new(purpose);

    loop {
        if !alive() {
            return Err(ENODEV);
        }
        let status = hypercall::post_message(connection, message).map_or_else(|s| s.raw(), |()| 0);

        match tries.after(status) {
            Next::Posted => return Ok(()),
            Next::Pause(us) => pause(Delta::from_micros(us.into())),
            Next::Failed(PostError::NoConnection) => return Err(ENXIO),
            Next::Failed(PostError::Full(status)) => {
                crate::ratelimited!(pr_err!(
                    "the host had no room for a message for too long: status {:#x}\n",
                    status
                ));
                return Err(EAGAIN);
            }
            Next::Failed(PostError::Status(status)) => {
                crate::ratelimited!(pr_err!("posting a message failed: status {:#x}\n", status));
                return Err(EIO);
            }
        }
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
