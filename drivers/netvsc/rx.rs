// SPDX-License-Identifier: GPL-2.0

//! What the packets of a channel mean.

use crate::{
    buffers::Io,
    completions::Completions,
    connection::Connection,
    net::{is_isolated, Delivered, PollContext},
    owed::Owed,
    queue::Queue,
};
use kernel::{prelude::*, sync::Arc};
use netvsc_protocol::{
    inbound::Notice,
    rx::{self, Assembler, Range, Received, RxError, Scratch, Whole, MAX_CONTROL},
    transfer::{Transfer, MAX_RANGES},
};
use vmbus::{abstractions::Shown, Packet, Sender};
use vmbus_protocol::{packet::PacketType, requests::RESERVED_IDS};

/// What the poll of a channel works with, besides the ring.
pub(crate) struct Receive {
    assembler: Assembler<KVec<Range>>,
    scratch: Scratch,
    control: KBox<[u8; MAX_CONTROL]>,
    pub(crate) owed: Owed,
    completions: Completions,
    /// Received frames and their bytes since the last account.
    received: u32,
    received_bytes: u64,
}

impl Receive {
    /// May sleep.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            assembler: Assembler::new(KVec::from_elem(
                Range::default(),
                MAX_RANGES as usize,
                GFP_KERNEL,
            )?),
            scratch: Scratch::default(),
            control: KBox::new([0; MAX_CONTROL], GFP_KERNEL)?,
            owed: Owed::new()?,
            completions: Completions::new()?,
            received: 0,
            received_bytes: 0,
        })
    }

    /// Takes a packet, and returns how many frames were in it.
    #[inline]
    pub(crate) fn take(
        &mut self,
        connection: &Arc<Connection>,
        queue: &Queue,
        context: &mut PollContext<'_>,
        packet: &Packet<'_>,
    ) -> u32 {
        match packet.packet_type() {
            PacketType::DATA_USING_TRANSFER_PAGES => {
                return self.take_transfer(connection, queue, context, packet);
            }
            PacketType::COMPLETION => self.take_completion(connection, queue, context, packet),
            PacketType::DATA_INBAND => take_notice(connection, packet),
            other => refuse(connection, &format_args!("packet of type {}", other.0)),
        }
        0
    }

    /// Takes a packet that says that the host is done with something of ours.
    #[inline]
    pub(crate) fn take_completion(
        &mut self,
        connection: &Connection,
        queue: &Queue,
        context: &PollContext<'_>,
        packet: &Packet<'_>,
    ) {
        let id = packet.transaction_id();

        if id >= RESERVED_IDS {
            return connection
                .control
                .on_completion(connection, id, packet.payload());
        }
        self.completions.take(connection, queue, context, packet);
    }

    #[inline]
    fn take_transfer(
        &mut self,
        connection: &Arc<Connection>,
        queue: &Queue,
        context: &mut PollContext<'_>,
        packet: &Packet<'_>,
    ) -> u32 {
        let mut frames = 0u32;
        let all = match connection.io.as_ref() {
            Some(io) => {
                match Transfer::parse(io.receive_layout, packet.header(), packet.payload()) {
                    Ok(transfer) => {
                        let mut all = true;

                        for range in transfer.ranges() {
                            frames = frames.wrapping_add(1);
                            all &= self.take_range(connection, queue, io, context, range);
                        }
                        if self.assembler.restart() {
                            all = false;
                            refuse_message(connection, &RxError::Fragments);
                        }
                        all
                    }
                    Err(error) => {
                        refuse_message(connection, &error);
                        false
                    }
                }
            }
            // Nothing is there that could be named.
            None => {
                refuse(connection, &"a transfer without a receive buffer");
                false
            }
        };

        // Owed whatever was in it, or the host never uses that part of the buffer again.
        self.owed.push(packet.transaction_id(), all);
        frames
    }

    /// Takes a message; false when it was not taken.
    #[inline]
    fn take_range(
        &mut self,
        connection: &Arc<Connection>,
        queue: &Queue,
        io: &Io,
        context: &mut PollContext<'_>,
        range: Option<Range>,
    ) -> bool {
        let received = range
            .ok_or(RxError::Range)
            .and_then(|range| Ok((range, rx::parse(&io.receive, range, &mut self.scratch)?)));
        let whole = match received {
            Ok((_, Received::Frame(frame))) => self.assembler.push(&frame),
            Ok((range, Received::Control)) => {
                if let Some(message) = rx::control(&io.receive, range, &mut self.control) {
                    connection.control.on_message(connection, message);
                }
                return true;
            }
            Err(error) => Err(error),
        };

        match whole {
            Ok(Some(whole)) => match deliver(connection, queue, io, context, &whole) {
                Kept::Counted => {
                    self.received = self.received.wrapping_add(1);
                    self.received_bytes = self.received_bytes.wrapping_add(whole.total.into());
                    true
                }
                Kept::Uncounted => true,
                Kept::Not => false,
            },
            Ok(None) => true,
            Err(error) => {
                self.assembler.lost();
                refuse_message(connection, &error);
                false
            }
        }
    }

    /// Accounts for what the host is done with, and lets a queue go on that waits for that.
    #[inline(always)]
    pub(crate) fn account(
        &mut self,
        connection: &Connection,
        queue: &Queue,
        sender: &Sender,
        context: &PollContext<'_>,
    ) {
        self.completions.account(connection, queue, sender, context);
        if self.received != 0 {
            queue.counters.rx_packets.add(self.received.into());
            queue.counters.rx_bytes.add(self.received_bytes);
            self.received = 0;
            self.received_bytes = 0;
        }
    }
}

/// What became of a frame.
enum Kept {
    /// It is one that was received.
    Counted,
    /// It is not, and the host did nothing wrong.
    Uncounted,
    /// There is no memory for it, or it is none.
    Not,
}

/// Gives a frame to the stack.
#[inline]
fn deliver(
    connection: &Connection,
    queue: &Queue,
    io: &Io,
    context: &mut PollContext<'_>,
    whole: &Whole<'_>,
) -> Kept {
    // Frames that were on their way when the interface was closed.
    if !connection.adapter.is_up() {
        return Kept::Uncounted;
    }
    let delivered = match context.begin(whole.total) {
        Some(mut frame) => {
            let filled = whole
                .parts
                .iter()
                .all(|part| frame.append(part.len, |at, to| io.receive.copy_frame(*part, at, to)));

            match filled {
                true => frame.deliver(&whole.infos),
                false => Delivered::NoMemory,
            }
        }
        None => Delivered::NoMemory,
    };

    match delivered {
        Delivered::Unicast => {}
        Delivered::Multicast => queue.counters.multicast.add(1),
        // A program is the first layer of the stack: what it dropped was received. The C driver
        // does not count it.
        Delivered::XdpDropped => queue.counters.xdp_drop.add(1),
        Delivered::XdpSent => queue.counters.xdp_tx.add(1),
        Delivered::XdpRedirected => queue.counters.xdp_redirect.add(1),
        Delivered::NoMemory => {
            connection.adapter.counters.rx_no_memory.count();
            return Kept::Not;
        }
        Delivered::Refused => {
            refuse_message(connection, &"a frame without its IP header");
            return Kept::Not;
        }
    }
    Kept::Counted
}

#[cold]
fn take_notice(connection: &Connection, packet: &Packet<'_>) {
    let version = connection.version();

    match Notice::parse(version, packet.payload()) {
        Ok(Notice::Table(table)) => connection.adapter.table.set(table),
        Ok(Notice::VirtualFunction { .. }) if is_isolated() || !version.has_functions() => {
            refuse(connection, &"a virtual function that was not asked for");
        }
        Ok(Notice::VirtualFunction { present, serial }) => {
            connection.adapter.on_association(present, serial);
        }
        Err(error) => refuse(connection, &error),
    }
}

#[cold]
pub(crate) fn refuse(connection: &Connection, why: &dyn core::fmt::Display) {
    let adapter = &connection.adapter;

    adapter.counters.refused.count();
    if adapter.packet_lines.allow(&adapter.dev) {
        dev_warn!(adapter.dev, "ignored: {}\n", Shown(why));
    }
}

#[cold]
fn refuse_message(connection: &Connection, why: &dyn core::fmt::Display) {
    let adapter = &connection.adapter;

    adapter.counters.rx_refused.count();
    if adapter.packet_lines.allow(&adapter.dev) {
        dev_warn!(adapter.dev, "dropped: {}\n", Shown(why));
    }
}
