// SPDX-License-Identifier: GPL-2.0

//! What all parts of the driver share, sending, and the negotiation.

use crate::{
    memory::{self, withheld, Balloon, Listening, Memory},
    pressure::Schedule,
    requests::Refused,
    status::Counters, //
};
use balloon_protocol::{
    hint::Health,
    message::{Capabilities, HotAdd, VersionRequest},
    policy::{self, pause_ms, Patience},
    session::{Action, Features, Session, SessionError, State, STEP_TIMEOUT_MS},
    MAX_MESSAGE,
};
use kernel::{
    device, impl_has_delayed_work, impl_has_work, new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, Mutex,
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
    workqueue::{new_delayed_work, new_work, DelayedWork, Work},
};
use vmbus::{
    abstractions::{Completion, Shown},
    Lingering, OpenChannel, Sender,
};

/// Identifies the work item that serves a balloon request.
pub(crate) const INFLATE: u64 = 0;

/// Identifies the work item that reports memory pressure.
pub(crate) const PRESSURE: u64 = 1;

/// Identifies the work item that serves a request to add memory.
pub(crate) const HOT_ADD: u64 = 2;

/// Identifies the work item that ends free page reporting.
pub(crate) const REPORTING: u64 = 3;

/// How long a message may wait for room in the ring once the device is going away.
const LAST_MS: u64 = 1000;

/// What the parts of the driver share.
#[pin_data]
pub(crate) struct Shared {
    pub(crate) dev: ARef<device::Device>,
    pub(crate) features: Features,
    pub(crate) counters: Counters,
    /// The device is going away: long work ends early.
    closing: Atomic<bool>,
    /// When it was about to be closed, in milliseconds since `since`.
    closing_ms: Atomic<u64>,
    since: Instant<Monotonic>,
    #[pin]
    pub(crate) session: Mutex<Session<'static>>,
    #[pin]
    pub(crate) balloon: Mutex<Balloon>,
    /// The balloon request to serve next, in pages.
    #[pin]
    pub(crate) request: Mutex<Option<u32>>,
    /// What the host has added, if memory can be added.
    pub(crate) added: Option<Arc<Memory>>,
    /// The request to add memory to serve next.
    #[pin]
    pub(crate) hot_add_request: Mutex<Option<HotAdd>>,
    /// Where balloon responses are built.
    #[pin]
    pub(crate) response: Mutex<KBox<[u8; MAX_MESSAGE]>>,
    #[pin]
    pub(crate) schedule: Mutex<Schedule>,
    /// The last message that was refused.
    #[pin]
    pub(crate) last_refused: Mutex<Option<Refused>>,
    /// What the host did with hints about free memory.
    #[pin]
    pub(crate) health: Mutex<Health>,
    /// Hearing of free memory, while that is so.
    #[pin]
    pub(crate) listening: Mutex<Option<Listening<Shared>>>,
    /// What the host was left with when the channel was closed.
    #[pin]
    lingering: Mutex<Option<Lingering>>,
    /// The way to the host, while the work items may use it.
    #[pin]
    sender: Mutex<Option<Sender>>,
    /// The negotiation went a step further.
    #[pin]
    step: Completion,
    #[pin]
    inflate: Work<Shared, INFLATE>,
    #[pin]
    pressure: DelayedWork<Shared, PRESSURE>,
    #[pin]
    hot_add: Work<Shared, HOT_ADD>,
    #[pin]
    reporting: Work<Shared, REPORTING>,
}

impl_has_work! {
    impl HasWork<Self, 0> for Shared { self.inflate }
    impl HasWork<Self, 2> for Shared { self.hot_add }
    impl HasWork<Self, 3> for Shared { self.reporting }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, 1> for Shared { self.pressure }
}

impl Shared {
    /// Creates the state of a device that is about to be bound. `added` is there if memory can be
    /// added.
    pub(crate) fn new(dev: &device::Device, added: Option<Arc<Memory>>) -> Result<Arc<Self>> {
        let features = Features {
            hibernation: memory::hibernation_possible(),
            balloon: memory::HOST_PAGES_FIT,
            hot_add: added.is_some(),
        };

        if features.hibernation {
            dev_info!(
                dev,
                "the machine has ACPI S4, over which the host forgets what it has: it gets no memory, and adds none\n"
            );
        } else if !features.balloon {
            dev_info!(
                dev,
                "the host gets no memory: the pages of this kernel are larger than 4 KiB\n"
            );
        }

        Arc::pin_init(
            try_pin_init!(Self {
                dev: dev.into(),
                features,
                counters: Counters::new(),
                closing: Atomic::new(false),
                closing_ms: Atomic::new(0),
                since: Instant::now(),
                session <- new_mutex!(Session::new(*features)),
                balloon <- new_mutex!(Balloon::new()),
                request <- new_mutex!(None),
                added,
                hot_add_request <- new_mutex!(None),
                response <- new_mutex!(KBox::new([0; MAX_MESSAGE], GFP_KERNEL)?),
                schedule <- new_mutex!(Schedule::new()),
                last_refused <- new_mutex!(None),
                health <- new_mutex!(Health::new()),
                listening <- new_mutex!(None),
                lingering <- new_mutex!(None),
                sender <- new_mutex!(None),
                step <- Completion::new(),
                inflate <- new_work!("hv_balloon::inflate"),
                pressure <- new_delayed_work!("hv_balloon::pressure"),
                hot_add <- new_work!("hv_balloon::hot_add"),
                reporting <- new_work!("hv_balloon::reporting"),
            }),
            GFP_KERNEL,
        )
    }

    /// The device is going away: long work ends early. Any context.
    pub(crate) fn close(&self) {
        if !self.is_closing() {
            self.closing_ms.store(self.age_ms(), Relaxed);
        }
        // Release: who sees this knows since when.
        self.closing.store(true, Release);
    }

    /// Milliseconds since this was made.
    fn age_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(0)
    }

    /// Whether there is time for a message that is being sent since `since_ms`: always, until the
    /// device goes away, and then for [`LAST_MS`], however long it has waited before.
    fn has_time(&self, since_ms: u64) -> bool {
        let last_since = || self.closing_ms.load(Relaxed).max(since_ms);

        !self.is_closing() || self.age_ms().saturating_sub(last_since()) < LAST_MS
    }

    /// Returns whether the device is going away.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Acquire)
    }

    /// Returns the way to the host, for the work items.
    pub(crate) fn sender(&self) -> Option<Sender> {
        self.sender.lock().clone()
    }

    /// Returns the transaction id of the next message.
    pub(crate) fn next_id(&self) -> u32 {
        self.session.lock().next_transaction_id()
    }

    /// Sends a message. If the ring is full, waits for room: see [`Patience`].
    ///
    /// `EAGAIN` says that the message is not sent and the ring still full; where the device is
    /// going away, for [`LAST_MS`] already. Any other error says that the channel is out of use.
    /// May sleep.
    pub(crate) fn send(&self, sender: &Sender, message: &[u8], patience: Patience) -> Result {
        let since_ms = self.age_ms();
        let mut tries = 0u32;

        loop {
            let error = match sender.send_inband(message, 0) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let elapsed = self.age_ms().saturating_sub(since_ms);
            let pause = pause_ms(patience, tries, elapsed);

            match pause.and_then(|pause| i64::try_from(pause).ok()) {
                Some(pause) if error == EAGAIN && self.has_time(since_ms) => {
                    fsleep(Delta::from_millis(pause));
                }
                _ => {
                    self.counters.unsent.fetch_add(1, Relaxed);
                    return Err(error);
                }
            }
            tries = tries.saturating_add(1);
        }
    }

    /// Waits until the host has read the last messages, for [`LAST_MS`]: it would go on to believe
    /// that memory was not added, or not taken. May sleep.
    fn wait_until_read(&self, sender: &Sender) {
        let since_ms = self.age_ms();

        while !sender.is_read() && self.age_ms().saturating_sub(since_ms) < LAST_MS {
            fsleep(Delta::from_millis(1));
        }
    }

    /// Agrees with the host on a version and on what the guest can do.
    ///
    /// Each step takes 5 seconds at most, and there are no more of them than there are versions
    /// to propose, and one.
    pub(crate) fn negotiate(&self, sender: Sender) -> Result {
        *self.sender.lock() = Some(sender.clone());

        let action = self.session.lock().start();
        self.negotiation_step(&sender, action);

        loop {
            let state = self.session.lock().state();
            match state {
                State::Ready => return Ok(()),
                _ if !sender.is_alive() => return Err(ENODEV),
                State::Failed(error) => {
                    dev_err!(self.dev, "negotiation failed: {}\n", Shown(&error));
                    return Err(errno(error));
                }
                _ => (),
            }
            if !self.step.wait_timeout(STEP_TIMEOUT_MS) {
                let action = self.session.lock().on_timeout();
                self.negotiation_step(&sender, action);
            }
        }
    }

    /// Does what the session asks for during the negotiation. May sleep.
    pub(crate) fn negotiation_step(&self, sender: &Sender, action: Action<'_>) {
        let sent = match action {
            Action::SendVersion {
                version,
                is_last_attempt,
            } => {
                let message = VersionRequest::new(self.next_id(), version, is_last_attempt);
                self.send(sender, message.as_bytes(), Patience::Step)
            }
            Action::SendCapabilities => {
                let version = self.session.lock().version();
                dev_info!(
                    self.dev,
                    "Using Dynamic Memory protocol version {}.{}\n",
                    version >> 16,
                    version & 0xffff
                );
                let bits = policy::capabilities(
                    PAGE_SIZE as u32,
                    self.features.states_hot_add(),
                    memory::memory_block_bytes(),
                );
                let message = Capabilities::new(self.next_id(), bits);
                self.send(sender, message.as_bytes(), Patience::Step)
            }
            _ => Ok(()),
        };

        if sent.is_err() {
            let _ = self.session.lock().on_send_failed();
        }
        self.step.complete();
    }

    /// Wakes up whoever waits in [`Shared::negotiate`], to look at what happened to the channel.
    pub(crate) fn channel_lost(&self) {
        self.step.complete();
    }
}

fn errno(error: SessionError) -> Error {
    match error {
        SessionError::VersionTimeout | SessionError::CapabilitiesTimeout => ETIMEDOUT,
        SessionError::SendFailed => EIO,
        _ => EPROTO,
    }
}

/// Tells all work that the device is going away, when dropped.
pub(crate) struct Stop(pub(crate) Arc<Shared>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The channel, which is closed when this is dropped.
pub(crate) struct Channel {
    channel: OpenChannel,
    shared: Arc<Shared>,
}

impl Channel {
    /// Of a channel that has just been opened.
    pub(crate) fn new(channel: OpenChannel, shared: Arc<Shared>) -> Self {
        Self { channel, shared }
    }

    /// Returns the way to the host.
    pub(crate) fn sender(&self) -> Sender {
        self.channel.sender()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.shared.wait_until_read(&self.sender());
        // Of the frames in the balloon, too: the host may act on a message that names them.
        *self.shared.lingering.lock() = self.channel.close();
    }
}

/// Takes all frames back, when dropped, unless the host may still act on messages that name them.
/// The channel must be closed before, and the work over.
pub(crate) struct Reclaim(pub(crate) Arc<Shared>);

impl Drop for Reclaim {
    fn drop(&mut self) {
        let shared = &self.0;

        // The channel refers to its handler, which is `shared`.
        let sender = shared.sender.lock().take();
        drop(sender);

        let balloon = core::mem::replace(&mut *shared.balloon.lock(), Balloon::new());
        let lingering = shared.lingering.lock().take();
        let frames = balloon.frames();

        shared.counters.ballooned.store(0, Relaxed);
        if frames == 0 {
            return;
        }
        match lingering {
            Some(lingering) if !lingering.is_over() => {
                dev_warn!(
                    shared.dev,
                    "the host has not let go of the channel: {} pages stay with it until it does\n",
                    frames
                );
                withheld::keep(lingering, balloon);
            }
            _ => {
                drop(balloon);
                dev_info!(shared.dev, "{} pages returned to the guest\n", frames);
            }
        }
    }
}
