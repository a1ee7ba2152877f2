// SPDX-License-Identifier: GPL-2.0

//! What happens when the host signals a channel: in the interrupt, or in the session's work.

use super::{
    receive::{report, CallbackContext, Handler, Line, Receiver, Signal},
    session::{Reception, RxSlot, Session},
    Channel, ChannelConfig, Sender,
};
use crate::{abstractions::Workqueue, memory::RingMap};
use kernel::{prelude::*, sync::Arc};
use vmbus_ring::Reader;

/// Packets that one run of the work takes before it lets others run.
const PACKETS_PER_RUN: usize = 256;
/// Packets that an interrupt takes; the work goes on from there.
const PACKETS_PER_INTERRUPT: usize = 64;

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
            self.receiver.mask();
            match self.take_packets(budget) {
                Some(left) => budget = left,
                None => return Drained::Empty,
            }
            self.receiver.give_room();
            if budget == 0 {
                return Drained::More;
            }
            if !self.receiver.reader.unmask_and_check() {
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

/// Handles an event of a channel, or has it handled on `queue`, where that may sleep. Runs in the
/// interrupt of the CPU that the host chose.
#[inline]
pub(super) fn on_event(channel: &Channel, queue: &Workqueue) {
    let mut rx = channel.rx.lock();
    // It is not there while the channel is closed.
    let Some(RxSlot {
        session,
        drain,
        missed,
    }) = &mut *rx
    else {
        return;
    };

    if session.context != CallbackContext::Interrupt {
        return session.schedule(queue);
    }
    match drain {
        Some(drain) => {
            if let Drained::More = drain.drain(PACKETS_PER_INTERRUPT) {
                session.schedule(queue);
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
