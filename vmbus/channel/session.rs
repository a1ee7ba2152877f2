// SPDX-License-Identifier: GPL-2.0

//! A session: one open of a channel, from OPENCHANNEL until its end.
//!
//! It owns the rings and their GPADL, the writer and who is told about the channel's fate. Senders
//! and receivers are handles of a session: after its end they find nothing to write to, also when
//! the channel was opened again. The channel keeps the session of now, so that the core can end it
//! whatever became of the driver's handle.

use super::{
    affinity,
    drain::{self, Drain, Observer},
    gpadl::{Gpadl, Lingering, Teardown},
    offer,
    receive::CallbackContext,
    Channel, ChannelConfig, OpenChannel, Sender,
};
use crate::{
    abstractions::{workqueue, Completion, NoIo, Shown, Workqueue},
    connection::{Connection, CONNECTION},
    hv,
    memory::{RingMap, RingPages},
    state::StateCell,
    Lines,
};
use kernel::{
    cpu::CpuId,
    impl_has_work, new_mutex, new_spinlock, new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        static_lock_class, Arc, Mutex, SpinLock, SpinLockIrq,
    },
    workqueue::{Work, WorkItem},
};
use vmbus_protocol::{
    channel::{LifeError, OpenOutcome},
    message::{OpenChannel as OpenMessage, OpenParams},
    session::{SessionEvent, SessionLife},
    VpIndex,
};
use vmbus_ring::{init_control, Reader, RingStats, Writer};
use zerocopy::IntoBytes;

/// Work items of a session: packets to receive, and the channel's fate to tell of.
pub(super) const EVENT: u64 = 0;
pub(super) const NOTICE: u64 = 1;

/// The memory of a session.
pub(super) struct Rings {
    pub(super) gpadl: Gpadl,
    pages: RingPages,
    /// Another handle of the incoming ring's mapping, for statistics.
    recv: RingMap,
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
    /// The outgoing ring, until the end.
    #[pin]
    pub(super) writer: SpinLockIrq<Option<Writer<RingMap>>>,
    #[pin]
    pub(super) rings: Mutex<Option<Rings>>,
    /// Who wants to know what becomes of the channel, until the end.
    #[pin]
    pub(super) observer: Mutex<Option<Arc<dyn Observer>>>,
    /// The attempt to open it is over, well or not.
    #[pin]
    pub(super) opened: Completion,
    /// What is left to the host, when the end is over.
    #[pin]
    pub(super) lingering: SpinLock<Option<Lingering>>,
    /// Between the beginning of the end and its end.
    #[pin]
    pub(super) teardown: Mutex<Option<Teardown>>,
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
    /// Another handle of the incoming ring's mapping, for statistics.
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
        self.0.opened.complete_all();
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
    pub(super) fn open<R>(
        channel: &Arc<Channel>,
        primary: Option<&Arc<Session>>,
        config: &ChannelConfig<'_>,
        context: CallbackContext,
        receive: impl FnOnce(Reader<RingMap>, Sender) -> Result<(Reception, R)>,
    ) -> Result<(OpenChannel, R)> {
        let connection = CONNECTION.get().ok_or(ENODEV)?;

        // From here on the CPU of the channel stays, see `affinity::evacuate`.
        let begun = channel.life.lock().open_begin();
        begun.map_err(life_error)?;
        affinity::settle(&connection, channel);
        let made = Self::new(channel, config, context).and_then(|(session, pages, reader)| {
            let (reception, received) = receive(reader, Sender(session.clone()))?;

            session.enlist(primary)?;
            Ok((session, pages, reception, received))
        });
        let (session, pages, reception, received) = match made {
            Ok(made) => made,
            Err(error) => {
                let _ = channel.life.lock().open_abort();
                offer::release(&connection, channel);
                return Err(error);
            }
        };
        // From here on dropping it undoes whatever was done; after `opening` is dropped, for which
        // a close waits.
        let open = OpenChannel::of(session);
        let opening = Opening(open.session());

        opening.0.begin_open(&connection, pages, reception)?;
        opening
            .0
            .ask_host(&connection, config, lines(channel, primary))?;
        drop(opening);
        Ok((open, received))
    }

    /// A session that nobody knows, its rings, and the reader of one of them.
    fn new(
        channel: &Arc<Channel>,
        config: &ChannelConfig<'_>,
        context: CallbackContext,
    ) -> Result<(Arc<Self>, RingPages, Reader<RingMap>)> {
        let node = channel.numa_node();
        let pages = RingPages::new(config.send_bytes, config.recv_bytes, node)?;
        let (send, recv) = (pages.map_send()?, pages.map_recv()?);

        init_control(&send);
        init_control(&recv);
        let writer = Writer::new(send).map_err(|_| EINVAL)?;
        let reader = Reader::new(recv).map_err(|_| EINVAL)?;
        // Who is called may do different things: not the same for lockdep.
        let event_class = match context {
            CallbackContext::Process => static_lock_class!(),
            CallbackContext::Interrupt => static_lock_class!(),
        };
        let notice_class = if channel.is_of_disks() {
            static_lock_class!()
        } else {
            static_lock_class!()
        };
        let session = Arc::pin_init(
            pin_init!(Self {
                channel: channel.clone(),
                context,
                life: StateCell::new(SessionLife::new()),
                doorbell_owed: Atomic::new(false),
                writer <- new_spinlock_irq!(Some(writer)),
                rings <- new_mutex!(None),
                observer <- new_mutex!(None),
                opened <- Completion::new(),
                lingering <- new_spinlock!(None),
                teardown <- new_mutex!(None),
                over <- Completion::new(),
                event <- Work::new(c"vmbus_event", event_class),
                notice <- Work::new(c"vmbus_notice", notice_class),
            }),
            GFP_KERNEL,
        )?;

        Ok((session, pages, reader))
    }

    /// Tells the host about the rings and gets ready for its events.
    fn begin_open(
        self: &Arc<Self>,
        connection: &Connection,
        pages: RingPages,
        reception: Reception,
    ) -> Result {
        let channel = &self.channel;
        let recv = reception.view;

        *self.observer.lock() = Some(reception.observer);
        // A rescind that came before has told nobody, and is seen here.
        let gpadl = Gpadl::create(connection, channel, pages.pages())?;

        *self.rings.lock() = Some(Rings { gpadl, pages, recv });
        *channel.rx.lock() = Some(RxSlot {
            session: self.clone(),
            drain: Some(reception.drain),
            missed: false,
        });
        Ok(())
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
        *current = Some(self.clone());
        Ok(())
    }

    /// What it says of a refusal, it says under `lines`.
    fn ask_host(
        &self,
        connection: &Connection,
        config: &ChannelConfig<'_>,
        lines: &Lines,
    ) -> Result {
        let channel = &self.channel;
        let open_id = connection.next_handle();
        let (message, ring) = {
            let rings = self.rings.lock();
            let rings = rings.as_ref().ok_or(ENODEV)?;
            let ring = rings.gpadl.handle();
            let message = OpenMessage::new(&OpenParams {
                relid: channel.relid(),
                open_id,
                ring_gpadl: ring,
                target_vp: CpuId::from_u32(channel.target_cpu()).map_or(VpIndex(0), hv::vp_index),
                downstream_page_offset: u32::try_from(rings.pages.recv_offset())?,
                user_data: config.user_data,
            })
            .ok_or(EINVAL)?;

            (message, ring)
        };
        let alive = || !channel.is_rescinded();
        let status = connection.request(message, &alive, |message| {
            let posting = channel.life.lock().open_posting(ring, open_id);

            posting.map_err(life_error)?;
            connection
                .post(message.as_bytes(), &alive)
                .inspect_err(|_| {
                    channel.life.lock().open_not_posted();
                })
        })?;

        match channel.life.lock().open_end(status).map_err(life_error)? {
            OpenOutcome::Opened => Ok(()),
            OpenOutcome::Failed { status } => {
                let instance = &channel.offer.instance;

                if lines.allow_about(instance) {
                    pr_err!(
                        "{}: the host refused to open the channel: status {:#x}\n",
                        Shown(instance),
                        status
                    );
                }
                Err(EIO)
            }
        }
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

    /// Statistics of both rings, outgoing and incoming; `EINVAL` once it is closed.
    pub(super) fn ring_stats(&self) -> Result<(RingStats, RingStats)> {
        let rings = self.rings.lock();
        let incoming = vmbus_ring::stats(&rings.as_ref().ok_or(EINVAL)?.recv);
        let writer = self.writer.lock();
        let outgoing = vmbus_ring::stats(writer.as_ref().ok_or(EINVAL)?.memory());

        Ok((outgoing, incoming))
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

    /// As [`Self::schedule`], for who does not have the connection at hand.
    #[cold]
    pub(super) fn schedule_again(self: &Arc<Self>) {
        CONNECTION.with(|connection| self.schedule(&connection.queues.channels));
    }

    /// The channel is rescinded. Does not wait.
    pub(super) fn on_rescind(self: &Arc<Self>, connection: &Connection) {
        self.notify(connection, SessionEvent::Rescinded);
    }

    /// The host interrupts another CPU. Does not wait.
    pub(super) fn on_moved(self: &Arc<Self>, connection: &Connection) {
        self.notify(connection, SessionEvent::Moved);
    }

    /// Has the driver told, by a work item: neither the reading of the host's messages nor CPU
    /// hotplug waits for a driver, and a close can wait for the driver to be done.
    fn notify(self: &Arc<Self>, connection: &Connection, event: SessionEvent) {
        if self.life.happen(event).is_none() {
            return;
        }
        let _ = connection
            .queues
            .channels
            .enqueue::<_, NOTICE>(self.clone());
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

/// A driver is about to be bound to the device of this channel: from here on it may be opened.
pub(crate) fn allow_open(primary: &Channel) {
    let _current = primary.session.lock();

    primary.bound.store(true, Relaxed);
}

fn life_error(error: LifeError) -> Error {
    match error {
        LifeError::Rescinded | LifeError::Removed => ENODEV,
        LifeError::BadState { .. } | LifeError::Unanswered => EBUSY,
    }
}
