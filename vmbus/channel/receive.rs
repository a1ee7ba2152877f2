// SPDX-License-Identifier: GPL-2.0

//! Receiving packets from the host, in two parts: what runs when the host signals, and who takes the
//! packets.
//!
//! A driver that polls ([`Signal`]) is told in the interrupt and takes packets with its [`Receiver`]
//! when and where it likes. A [`Handler`] is called by the core for each packet: an adapter, in which
//! the core owns the receiver.

use super::{
    session::{Reception, Session, Slot},
    Channel, ChannelConfig, Sender,
};
use crate::{abstractions::Shown, connection::Connection, memory::RingMap};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use vmbus_ring::{Packet, ReadError, Reader};

/// Packets that one run of the work takes before it lets others run.
const PACKETS_PER_RUN: usize = 256;
/// Packets that an interrupt takes; the work goes on from there.
const PACKETS_PER_INTERRUPT: usize = 64;

/// Where a channel's handler runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CallbackContext {
    /// On a work queue: the handler may sleep.
    Process,
    /// In softirq context: lower latency, must not sleep.
    Softirq,
    /// In the interrupt itself, and after many packets in softirq context: lowest latency, must be
    /// short. The handler must not sleep, and takes only locks that disable interrupts. With
    /// `CONFIG_PREEMPT_RT` such locks may not be taken in interrupts: then as `Softirq`.
    Interrupt,
}

impl CallbackContext {
    /// What the kernel allows of it.
    pub(super) const fn possible(self) -> Self {
        match self {
            Self::Interrupt if cfg!(CONFIG_PREEMPT_RT) => Self::Softirq,
            other => other,
        }
    }
}

/// Whether the host interrupts while packets are being handled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Interrupts are masked until the ring is empty: for channels with many packets.
    Batched,
    /// Interrupts stay on: for channels with one message at a time.
    Direct,
}

/// What a driver does with the packets of a channel.
///
/// [`Self::on_packet`], [`Self::on_idle`] and [`Self::on_broken`] never run at the same time for one
/// channel. None of the functions is called after the channel is closed.
pub trait Handler: Send + Sync + 'static {
    /// Where it runs.
    const CONTEXT: CallbackContext = CallbackContext::Process;

    /// Whether the host interrupts while it runs.
    const MODE: ReadMode = ReadMode::Batched;

    /// Takes one packet, a private copy that the host cannot change any more.
    fn on_packet(&self, sender: &Sender, packet: &Packet<'_>);

    /// Called after a run of packets, when the ring is empty for now.
    fn on_idle(&self, sender: &Sender) {
        let _ = sender;
    }

    /// The host corrupted the ring: nothing will be received or sent any more until the channel is
    /// closed and opened again.
    fn on_broken(&self) {}

    /// The host took the channel back: nothing can be sent any more, nobody waits for the host any
    /// longer, and the host has let go of all memory. The driver is unbound afterwards, which may
    /// have to wait for a `probe` that still runs.
    ///
    /// Process context. May run at the same time as the other functions; must return soon, and may
    /// not close the channel. Not called when the channel is closed before.
    fn on_rescind(&self) {}

    /// The host interrupts another CPU for the channel since a short while.
    ///
    /// As [`Self::on_rescind`].
    fn on_moved(&self) {}
}

/// What a driver that polls a channel does when the host signals.
///
/// None of the functions is called after the channel is closed.
pub trait Signal: Send + Sync + 'static {
    /// The host signalled: there are packets, or room in the outgoing ring.
    ///
    /// In the interrupt, or with `CONFIG_PREEMPT_RT` in a softirq: as for [`CallbackContext::Interrupt`].
    /// The usual thing is to [mask](Line::mask) and to schedule who polls.
    fn on_event(&self, line: &Line<'_>);

    /// [`Handler::on_rescind`].
    fn on_rescind(&self) {}

    /// [`Handler::on_moved`].
    fn on_moved(&self) {}
}

/// The host's way to interrupt for a channel.
pub struct Line<'a>(&'a RingMap);

impl Line<'_> {
    /// Asks the host not to signal until [`Receiver::unmask_and_check`].
    #[inline]
    pub fn mask(&self) {
        vmbus_ring::mask(self.0);
    }
}

/// The receiving side of a channel, for who takes the packets by itself.
///
/// It may outlive the channel: then there are no packets.
pub struct Receiver {
    reader: Reader<RingMap>,
    buffer: KVec<u8>,
    sender: Sender,
}

impl Receiver {
    fn new(reader: Reader<RingMap>, sender: Sender, config: &ChannelConfig<'_>) -> Result<Self> {
        Ok(Self {
            reader,
            buffer: KVec::from_elem(0, config.max_packet, GFP_KERNEL)?,
            sender,
        })
    }

    /// Takes the next packet, a private copy that the host cannot change any more; `None` when there
    /// is none.
    ///
    /// What is wrong with a packet is counted and reported here. After a
    /// [fatal](ReadError::is_fatal) error the ring is broken: nothing is received or sent any more.
    /// Any other skips the packet; it counts like one, or a host that sends nothing else keeps its
    /// guest busy for ever.
    // An iterator cannot lend what it yields.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, ReadError> {
        if self.sender.0.is_closing() {
            return Ok(None);
        }
        match self.reader.next(&mut self.buffer) {
            Err(error) => {
                report(&self.sender, &error);
                Err(error)
            }
            taken => taken,
        }
    }

    /// Gives the room of all packets taken so far back to the host, and signals a host that waits
    /// for it.
    #[inline]
    pub fn finish(&mut self) {
        if !self.sender.0.is_closing() {
            self.give_room();
        }
    }

    #[inline]
    fn give_room(&mut self) {
        if self.reader.finish() {
            self.sender.0.channel.signal_room();
        }
    }

    /// Asks the host not to signal until [`Self::unmask_and_check`].
    #[inline]
    pub fn mask(&self) {
        self.reader.mask();
    }

    /// Asks for signals again and looks whether something came in since: then no signal announces
    /// it, so mask and take packets.
    #[inline]
    #[must_use = "true means that no signal will announce what is there"]
    pub fn unmask_and_check(&self) -> bool {
        !self.sender.0.is_closing() && self.reader.unmask_and_check()
    }

    /// Whether there are packets, now.
    #[inline]
    pub fn has_data(&self) -> bool {
        !self.sender.0.is_closing() && self.reader.has_data()
    }

    /// Whether the host broke the ring.
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.reader.is_broken()
    }
}

#[cold]
fn report(sender: &Sender, error: &ReadError) {
    let channel = &sender.0.channel;

    channel.dropped.fetch_add(1u64, Relaxed);
    crate::ratelimited!(pr_err!(
        "{}: {}\n",
        Shown(&channel.offer.instance),
        Shown(error)
    ));
    if error.is_fatal() {
        sender.0.stop_sending();
    }
}

/// Who is told of a channel's fate.
pub(super) trait Observer: Send + Sync {
    /// [`Handler::on_rescind`].
    fn rescinded(&self);

    /// [`Handler::on_moved`].
    fn moved(&self);
}

/// What a run of the work left.
pub(super) enum Drained {
    /// Nothing; an interrupt announces the next packet.
    Empty,
    /// More packets, for another run.
    More,
}

/// What happens when the host signalled, whatever takes the packets.
///
/// One call through this table for each run of packets; inside of it the driver is known.
pub(super) trait Drain: Send {
    /// Takes packets until the ring is empty, or `budget` packets.
    fn drain(&mut self, budget: usize) -> Drained;
}

/// Calls a handler for each packet.
struct Calling<H: Handler> {
    receiver: Receiver,
    handler: Arc<H>,
}

/// Tells of the channel's fate.
struct HandlerFate<H: Handler>(Arc<H>);

impl<H: Handler> Observer for HandlerFate<H> {
    fn rescinded(&self) {
        self.0.on_rescind();
    }

    fn moved(&self) {
        self.0.on_moved();
    }
}

/// Reception by a handler.
pub(super) fn by_handler<H: Handler>(
    reader: Reader<RingMap>,
    sender: Sender,
    config: &ChannelConfig<'_>,
    handler: Arc<H>,
) -> Result<Reception> {
    let observer = Arc::new(HandlerFate(handler.clone()), GFP_KERNEL)?;
    let view = reader.memory().clone();
    let calling = Calling {
        receiver: Receiver::new(reader, sender, config)?,
        handler,
    };

    Ok(Reception {
        drain: KBox::new(calling, GFP_KERNEL)?,
        observer,
        view,
    })
}

impl<H: Handler> Calling<H> {
    /// Takes up to `budget` packets; what is left of the budget, or `None` when the ring is broken.
    fn take_packets(&mut self, mut budget: usize) -> Option<usize> {
        let Receiver {
            reader,
            buffer,
            sender,
        } = &mut self.receiver;

        while budget > 0 {
            match reader.next(buffer) {
                Ok(Some(packet)) => self.handler.on_packet(sender, &packet),
                Ok(None) => break,
                Err(error) => {
                    report(sender, &error);
                    if error.is_fatal() {
                        self.handler.on_broken();
                        return None;
                    }
                }
            }
            budget -= 1;
        }
        Some(budget)
    }
}

impl<H: Handler> Drain for Calling<H> {
    fn drain(&mut self, mut budget: usize) -> Drained {
        if self.receiver.is_broken() {
            return Drained::Empty;
        }

        loop {
            if H::MODE == ReadMode::Batched {
                self.receiver.mask();
            }
            match self.take_packets(budget) {
                Some(left) => budget = left,
                None => return Drained::Empty,
            }
            self.receiver.give_room();
            if budget == 0 {
                return Drained::More;
            }
            self.handler.on_idle(&self.receiver.sender);
            let more = match H::MODE {
                ReadMode::Batched => self.receiver.reader.unmask_and_check(),
                ReadMode::Direct => self.receiver.reader.has_data(),
            };

            if !more {
                return Drained::Empty;
            }
        }
    }
}

/// Tells a driver that polls.
struct Telling<S: Signal> {
    line: RingMap,
    signal: Arc<S>,
}

/// Tells of the channel's fate.
struct SignalFate<S: Signal>(Arc<S>);

impl<S: Signal> Observer for SignalFate<S> {
    fn rescinded(&self) {
        self.0.on_rescind();
    }

    fn moved(&self) {
        self.0.on_moved();
    }
}

impl<S: Signal> Drain for Telling<S> {
    fn drain(&mut self, _budget: usize) -> Drained {
        self.signal.on_event(&Line(&self.line));
        Drained::Empty
    }
}

/// Reception by polling.
pub(super) fn by_polling<S: Signal>(
    reader: Reader<RingMap>,
    sender: Sender,
    config: &ChannelConfig<'_>,
    signal: Arc<S>,
) -> Result<(Reception, Receiver)> {
    let observer = Arc::new(SignalFate(signal.clone()), GFP_KERNEL)?;
    let telling = Telling {
        line: reader.memory().clone(),
        signal,
    };
    let reception = Reception {
        drain: KBox::new(telling, GFP_KERNEL)?,
        observer,
        view: reader.memory().clone(),
    };

    Ok((reception, Receiver::new(reader, sender, config)?))
}

/// Handles an event of a channel, or has it handled. Runs in the interrupt of the CPU that the host
/// chose.
#[inline]
pub(super) fn on_event(channel: &Channel, connection: &Connection) {
    let mut rx = channel.rx.lock();
    // It is not there while the channel is closed.
    let Some(Slot {
        session,
        drain,
        missed,
    }) = &mut *rx
    else {
        return;
    };

    if session.context != CallbackContext::Interrupt {
        return session.schedule(connection);
    }
    match drain {
        Some(drain) => {
            if let Drained::More = drain.drain(PACKETS_PER_INTERRUPT) {
                session.schedule(connection);
            }
        }
        // The work is at it, and looks again before it rests.
        None => *missed = true,
    }
}

/// Handles the events of a session. Runs as its work item, so never twice at the same time.
pub(super) fn run(session: &Arc<Session>) {
    let rx = &session.channel.rx;
    // The drain is taken out, not borrowed: a handler may sleep, and the lock may not be held
    // meanwhile. The end of the session waits for this work before it looks for the drain, and no
    // other session has the slot before.
    let Some(mut drain) = (*rx.lock()).as_mut().and_then(|slot| slot.drain.take()) else {
        return;
    };
    let drained = drain.drain(PACKETS_PER_RUN);
    // An interrupt that came when the drain was not there has left its event to this work.
    let missed = {
        let mut rx = rx.lock();

        (*rx).as_mut().is_some_and(|slot| {
            slot.drain = Some(drain);
            core::mem::take(&mut slot.missed)
        })
    };

    if missed || matches!(drained, Drained::More) {
        session.schedule_again();
    }
}
