// SPDX-License-Identifier: GPL-2.0

//! A session: one open of a channel, until its end.
//!
//! The C core opens the channel, with pages that are the session's, and maps them for its
//! statistics. Packets move through mappings of our own, under our own ring crate.

use super::{
    claim::{Claim, Events, NotTaken},
    drain::{self, Drain, Observer},
    gpadl::{Fate, Lingering},
    receive::CallbackContext,
    sub, Channel, ChannelConfig, OpenChannel, Sender,
};
use crate::{
    abstractions::{workqueue, Completion, NoIo, Shown, Workqueue},
    memory::{RingMap, RingPages},
    state::StateCell,
    Lines,
};
use kernel::{
    cpu::CpuId,
    impl_has_work, new_mutex, new_spinlock, new_spinlock_irq, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        static_lock_class, Arc, Mutex, SpinLock, SpinLockIrq,
    },
    workqueue::{Work, WorkItem},
};
use vmbus_protocol::session::{SessionEvent, SessionLife};
use vmbus_ring::{init_control, Reader, Writer};

/// Work items of a session: packets to receive, and the channel's fate to tell of.
pub(super) const EVENT: u64 = 0;
pub(super) const NOTICE: u64 = 1;

/// What a session has of the C core.
pub(super) struct Opened {
    pub(super) claim: Claim,
    pub(super) rings: RingPages,
    /// Not there when the channel did not open.
    pub(super) events: Option<Events>,
    /// When the channel did not open: whether the host may have the rings all the same.
    pub(super) refused: Option<bool>,
}

/// One open of a channel.
#[pin_data]
pub(crate) struct Session {
    pub(super) channel: Arc<Channel>,
    /// Where its packets are handled.
    pub(super) context: CallbackContext,
    pub(super) life: StateCell<SessionLife>,
    /// Packets were sent whose doorbell was deferred.
    pub(super) doorbell_owed: Atomic<bool>,
    /// The driver was told of the rescind, or is about to be.
    told: Atomic<bool>,
    /// The outgoing ring, until the end.
    #[pin]
    pub(super) writer: SpinLockIrq<Option<Writer<RingMap>>>,
    #[pin]
    pub(super) opened: Mutex<Option<Opened>>,
    /// Who wants to know what becomes of the channel, until the end.
    #[pin]
    pub(super) observer: Mutex<Option<Arc<dyn Observer>>>,
    /// The attempt to open it is over, well or not.
    #[pin]
    pub(super) attempted: Completion,
    /// The first part of the end is over, and nothing of the driver runs any more.
    #[pin]
    pub(super) silent: Completion,
    /// What becomes of its memory.
    pub(super) fate: Arc<Fate>,
    /// What is left to the host, when the end is over.
    #[pin]
    pub(super) lingering: SpinLock<Option<Lingering>>,
    /// The end is over.
    #[pin]
    pub(super) over: Completion,
    #[pin]
    event: Work<Session, EVENT>,
    #[pin]
    notice: Work<Session, NOTICE>,
}

impl_has_work! {
    impl HasWork<Session, 0> for Session { self.event }
    impl HasWork<Session, 1> for Session { self.notice }
}

/// What takes the packets of a session.
pub(super) struct Reception {
    pub(super) drain: KBox<dyn Drain>,
    pub(super) observer: Arc<dyn Observer>,
    /// Another handle of the incoming ring's mapping; the C core's statistics have their own.
    pub(super) view: RingMap,
}

/// The place of a channel where interrupts find the session of now.
pub(super) struct RxSlot {
    pub(super) session: Arc<Session>,
    /// Not there while the session's work is at it.
    pub(super) drain: Option<KBox<dyn Drain>>,
    /// An event came meanwhile.
    pub(super) missed: bool,
}

/// An attempt to open a session. Whoever closes it waits until this is dropped.
struct Opening<'a>(&'a Arc<Session>);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.attempted.complete_all();
    }
}

/// The limit for lines about a channel that does not open: a host can offer sub-channels without
/// end, and refuse each of them once.
fn lines<'a>(channel: &'a Channel, primary: Option<&'a Arc<Session>>) -> &'a Lines {
    primary.map_or(&channel.lines, |primary| &primary.channel.lines)
}

impl Session {
    /// Opens `channel`, for a sub-channel while `primary` is the session of its primary one.
    /// `receive` makes what takes its packets, and something for the caller.
    ///
    /// The C core sends zeroes to the host's end of the channel: `EOPNOTSUPP` for other user data.
    pub(super) fn open<R>(
        channel: &Arc<Channel>,
        primary: Option<&Arc<Session>>,
        config: &ChannelConfig<'_>,
        context: CallbackContext,
        receive: impl FnOnce(Reader<RingMap>, Sender) -> Result<(Reception, R)>,
    ) -> Result<(OpenChannel, R)> {
        if config.user_data.iter().any(|&byte| byte != 0) {
            return Err(EOPNOTSUPP);
        }
        let claim = Claim::new(channel)?;
        let made =
            Self::new(&claim, channel, config, context).and_then(|(session, rings, reader)| {
                let (reception, received) = receive(reader, Sender(session.clone()))?;

                session.enlist(primary)?;
                Ok((session, rings, reception, received))
            });
        let (session, rings, reception, received) = match made {
            Ok(made) => made,
            Err(error) => {
                claim.release();
                return Err(error);
            }
        };
        // From here on dropping it undoes whatever was done; after `opening` is dropped, for which
        // a close waits.
        let open = OpenChannel::of(session);
        let opening = Opening(open.session());
        let connected = opening
            .0
            .connect(claim, rings, reception)
            .map_err(|error| opening.0.refused(error, lines(channel, primary)));

        drop(opening);
        match (connected, primary) {
            (Ok(()), _) => Ok((open, received)),
            (Err(error), Some(primary)) => {
                sub::did_not_open(&primary.channel, open);
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// A session that nobody knows, its rings, and the reader of one of them.
    fn new(
        claim: &Claim,
        channel: &Arc<Channel>,
        config: &ChannelConfig<'_>,
        context: CallbackContext,
    ) -> Result<(Arc<Self>, RingPages, Reader<RingMap>)> {
        let rings = claim.alloc_rings(config.send_bytes, config.recv_bytes)?;
        let (send, recv) = (rings.map_send()?, rings.map_recv()?);

        // The C core does the same when it opens the channel, before the host knows of it.
        init_control(&send);
        init_control(&recv);
        let writer = Writer::new(send).map_err(|_| EINVAL)?;
        let reader = Reader::new(recv).map_err(|_| EINVAL)?;
        // One sleeps, the other must not: not the same for lockdep.
        let event_class = match context {
            CallbackContext::Process => static_lock_class!(),
            CallbackContext::Interrupt => static_lock_class!(),
        };
        let session = Arc::pin_init(
            try_pin_init!(Self {
                channel: channel.clone(),
                context,
                life: StateCell::new(SessionLife::new()),
                doorbell_owed: Atomic::new(false),
                told: Atomic::new(false),
                writer <- new_spinlock_irq!(Some(writer)),
                opened <- new_mutex!(None),
                observer <- new_mutex!(None),
                attempted <- Completion::new(),
                silent <- Completion::new(),
                fate: Fate::new(channel)?,
                lingering <- new_spinlock!(None),
                over <- Completion::new(),
                event <- Work::new(c"vmbus_event", event_class),
                notice <- new_work!("vmbus_notice"),
            }? Error),
            GFP_KERNEL,
        )?;

        Ok((session, rings, reader))
    }

    /// Makes it the session of its channel. `ENODEV` when nobody would close it: for a primary
    /// channel without a driver, and for a sub-channel whose primary one is closed.
    fn enlist(self: &Arc<Self>, primary: Option<&Arc<Session>>) -> Result {
        let channel = &self.channel;
        let of_primary = primary.map(|primary| primary.channel.session.lock());
        let mut current = channel.session.lock();
        let allowed = match (&of_primary, primary) {
            // The very session that the token is of, and not one that was opened later.
            (Some(open), Some(primary)) => {
                open.as_ref().is_some_and(|open| Arc::ptr_eq(open, primary))
                    && !primary.is_closing()
            }
            _ => channel.bound.load(Relaxed),
        };

        if !allowed {
            return Err(ENODEV);
        }
        if let Some(primary) = primary {
            let mut subs = primary.channel.subs.lock();

            subs.push(self.clone(), GFP_KERNEL)?;
        }
        *current = Some(self.clone());
        Ok(())
    }

    /// Gets ready for events and opens the channel.
    fn connect(self: &Arc<Self>, claim: Claim, rings: RingPages, reception: Reception) -> Result {
        let channel = &self.channel;
        let Reception {
            drain,
            observer,
            view,
        } = reception;

        drop(view);
        *self.observer.lock() = Some(observer);
        *channel.rx.lock() = Some(RxSlot {
            session: self.clone(),
            drain: Some(drain),
            missed: false,
        });
        let connected = claim.connect(&rings);
        let (events, refused, result) = match connected {
            Ok(events) => (Some(events), None, Ok(())),
            Err(NotTaken { error, with_host }) => (None, Some(with_host), Err(error)),
        };

        *self.opened.lock() = Some(Opened {
            claim,
            rings,
            events,
            refused,
        });
        result
    }

    /// What the C core's errors mean. What it says of a refusal, it says under `lines`.
    fn refused(&self, error: Error, lines: &Lines) -> Error {
        // The host's refusals have numbers of their own there.
        if error != EDQUOT && error != EAGAIN {
            return error;
        }
        let instance = &self.channel.offer.instance;

        if lines.allow_about(instance) {
            pr_err!(
                "{}: the host refused to open the channel\n",
                Shown(instance)
            );
        }
        EIO
    }

    /// Whether packets can be sent.
    #[inline]
    pub(super) fn is_alive(&self) -> bool {
        self.life.peek().sends()
    }

    /// Whether it is being closed, or was.
    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        self.life.peek().is_closing()
    }

    /// A ring is broken: nothing is sent any more, and the receiving side stops by itself. Any
    /// context.
    pub(super) fn on_broken(&self) {
        let _ = self.life.happen(SessionEvent::Broken);
    }

    /// Queues the work that drains the incoming ring: on `queue`, where it may sleep. Any context
    /// but NMI; without effect once the session is closed.
    pub(super) fn schedule(self: &Arc<Self>, queue: &Workqueue) {
        let cpu = CpuId::current();

        // An item that is queued already will see this event too.
        if self.context == CallbackContext::Process {
            let _ = queue.enqueue_on::<_, EVENT>(cpu, self.clone());
        } else {
            let _ = workqueue::system_bh_enqueue_on::<_, EVENT>(cpu, self.clone());
        }
    }

    /// As [`Self::schedule`], for who does not have the queue at hand.
    #[cold]
    pub(super) fn schedule_again(self: &Arc<Self>) {
        self.schedule(&self.channel.queue);
    }

    /// Looks whether the channel is rescinded: returns true once, and the driver is told. Does not
    /// wait.
    pub(super) fn look(self: &Arc<Self>) -> bool {
        let new = self.channel.raw.is_rescinded()
            && !self.told.load(Relaxed)
            && !self.told.xchg(true, Full);

        if new {
            self.notify(SessionEvent::Rescinded);
        }
        new
    }

    /// The host interrupts another CPU. Does not wait.
    pub(super) fn on_moved(self: &Arc<Self>) {
        self.notify(SessionEvent::Moved);
    }

    /// Has the driver told, by a work item: the C core does not wait for a driver, and a close can
    /// wait for the driver to be done.
    fn notify(self: &Arc<Self>, event: SessionEvent) {
        if self.life.happen(event).is_some() {
            let _ = self.channel.queue.enqueue::<_, NOTICE>(self.clone());
        }
    }
}

impl WorkItem<EVENT> for Session {
    type Pointer = Arc<Session>;

    fn run(this: Arc<Session>) {
        drain::run(&this);
    }
}

impl WorkItem<NOTICE> for Session {
    type Pointer = Arc<Session>;

    fn run(this: Arc<Session>) {
        // A close waits for this, and it may be that of a disk.
        let _noio = NoIo::new();
        // Not called with the lock held. The end waits for this work, so the driver is still there.
        let Some(observer) = this.observer.lock().clone() else {
            return;
        };

        let Some(news) = this.life.happen(SessionEvent::Tell) else {
            return;
        };

        if news.tells_rescind() {
            observer.rescinded();
        }
        if news.tells_move() {
            observer.moved();
        }
    }
}
