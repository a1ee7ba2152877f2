// SPDX-License-Identifier: GPL-2.0

//! Who takes the packets of a channel, and when.

use crate::{
    connection::Connection,
    net::{Napi, Poll, PollContext, Polled},
    queue::Queue,
    rx::Receive,
};
use kernel::{prelude::*, sync::Arc};
use vmbus::{Line, Receiver, Sender, Signal};
use vmbus_protocol::packet::PacketType;

/// Packets of one poll for each frame of its budget: those that are no frames count too.
const PACKETS_PER_FRAME: u32 = 4;
/// Most packets that say that the host is done with frames, when nothing else is taken.
const MOST_RECLAIMED: u32 = 256;

/// What happens when the host signals.
pub(crate) struct Events {
    connection: Arc<Connection>,
    napi: Arc<Napi>,
    primary: bool,
}

impl Events {
    /// For a channel that is polled by `napi`.
    pub(crate) fn new(
        connection: Arc<Connection>,
        napi: Arc<Napi>,
        primary: bool,
    ) -> Result<Arc<Self>> {
        let events = Self {
            connection,
            napi,
            primary,
        };

        Ok(Arc::new(events, GFP_KERNEL)?)
    }
}

impl Signal for Events {
    #[inline]
    fn on_event(&self, line: &Line<'_>) {
        line.mask();
        self.napi.schedule();
    }

    fn on_rescind(&self) {
        // A sub-channel that goes alone is dealt with by who takes sub-channels.
        if self.primary {
            self.connection.give_up();
        }
    }
}

/// Takes the packets of a channel.
pub(crate) struct Poller {
    connection: Arc<Connection>,
    queue: Arc<Queue>,
    receive: Receive,
    /// The ring, while the channel is open.
    ring: Option<(Receiver, Sender)>,
}

impl Poller {
    /// Of a channel that is not open.
    pub(crate) fn new(connection: Arc<Connection>, queue: Arc<Queue>) -> Result<Self> {
        Ok(Self {
            connection,
            queue,
            receive: Receive::new()?,
            ring: None,
        })
    }

    /// The channel is open.
    pub(crate) fn start(&mut self, receiver: Receiver, sender: Sender) {
        self.ring = Some((receiver, sender));
    }

    /// The channel is about to be closed.
    pub(crate) fn stop(&mut self) {
        self.ring = None;
    }
}

impl Poll for Poller {
    /// Takes packets until there are none or the budget is used up.
    ///
    /// Signals are asked for before the poll says that it is done: a signal that comes in between
    /// schedules a poll that runs already, which makes it run again.
    fn poll(&mut self, mut context: PollContext<'_>) -> Polled {
        let Self {
            connection,
            queue,
            receive,
            ring,
        } = self;
        let Some((receiver, sender)) = ring else {
            return Polled::Idle(0);
        };
        let budget = context.budget();
        let mut packets = budget.saturating_mul(PACKETS_PER_FRAME);
        let mut frames = 0u32;
        let mut empty = false;

        receiver.mask();
        while frames < budget && packets != 0 && receive.owed.has_room() {
            match receiver.next() {
                Ok(Some(packet)) => {
                    let taken = receive.take(connection, queue, &mut context, &packet);

                    frames = frames.wrapping_add(taken);
                }
                Ok(None) => {
                    empty = true;
                    break;
                }
                Err(error) if error.is_fatal() => {
                    connection.give_up();
                    empty = true;
                    break;
                }
                Err(_) => {}
            }
            packets = packets.wrapping_sub(1);
        }
        receiver.finish();
        let settled = receive.owed.settle(connection, sender);

        receive.account(connection, queue, sender, &context);
        if receiver.is_broken() {
            return Polled::Idle(frames);
        }
        if !empty || !settled || receiver.unmask_and_check() {
            return Polled::More;
        }
        Polled::Idle(frames)
    }

    /// Stops at the first packet that is something else: all come through the same ring. Whether
    /// the host signals stays as it is: a packet that came before has scheduled a poll, one that
    /// comes later does.
    fn reclaim(&mut self, context: &PollContext<'_>) {
        let Self {
            connection,
            queue,
            receive,
            ring,
        } = self;
        let Some((receiver, sender)) = ring else {
            return;
        };

        for _ in 0..MOST_RECLAIMED {
            match receiver.next_if(|descriptor| descriptor.kind() == PacketType::COMPLETION) {
                Ok(Some(packet)) => receive.take_completion(connection, queue, context, &packet),
                Ok(None) => break,
                Err(error) if error.is_fatal() => {
                    connection.give_up();
                    break;
                }
                Err(_) => {}
            }
        }
        receiver.finish();
        receive.account(connection, queue, sender, context);
    }
}
