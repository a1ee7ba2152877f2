// SPDX-License-Identifier: GPL-2.0

//! Frames that the host is done with, taken back several at a time.

use crate::{
    connection::Connection,
    net::{PollContext, SkBuff},
    queue::Queue,
    rx::refuse,
    tx,
};
use kernel::{prelude::*, sync::atomic::Relaxed};
use netvsc_protocol::{inbound::sent_status, nvsp::STATUS_SUCCESS};
use vmbus::{Packet, Sender};

/// Most frames that are taken back at a time.
const BATCH: usize = 16;

/// Those of one queue; for its poll.
pub(crate) struct Completions {
    /// Transaction ids that the host has completed, and whether it has sent the frames.
    ids: KVec<(u64, bool)>,
    /// The frames, until the lock is free.
    frames: KVec<SkBuff>,
    /// Frames of this poll.
    done: Sum,
    /// Those of them that the host has sent.
    sent: Sum,
}

/// So many frames, and their bytes.
#[derive(Clone, Copy, Default)]
struct Sum {
    frames: u32,
    bytes: u32,
}

impl Sum {
    #[inline]
    fn add(&mut self, bytes: u32) {
        self.frames = self.frames.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes);
    }
}

impl Completions {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            ids: KVec::with_capacity(BATCH, GFP_KERNEL)?,
            frames: KVec::with_capacity(BATCH, GFP_KERNEL)?,
            done: Sum::default(),
            sent: Sum::default(),
        })
    }

    /// Takes what the host says of a frame.
    #[inline]
    pub(crate) fn take(
        &mut self,
        connection: &Connection,
        queue: &Queue,
        context: &PollContext<'_>,
        packet: &Packet<'_>,
    ) {
        // Done with, whatever else it says.
        let sent = matches!(sent_status(packet.payload()), Ok(STATUS_SUCCESS));

        if !sent {
            not_sent(connection, packet);
        }
        // There is room: it is emptied when it is full.
        let _ = self
            .ids
            .push_within_capacity((packet.transaction_id(), sent));
        if self.ids.len() >= BATCH {
            self.free(connection, queue, context);
        }
    }

    /// Frees the frames that the host has completed so far.
    fn free(&mut self, connection: &Connection, queue: &Queue, context: &PollContext<'_>) {
        let Self {
            ids,
            frames,
            done,
            sent: all_sent,
        } = self;
        let mut bad = None;

        queue.take_all(ids, |id, was_sent, sent| match sent {
            Ok(sent) => {
                done.add(sent.len);
                if was_sent {
                    all_sent.add(sent.len);
                }
                // As many as there are ids.
                let _ = frames.push_within_capacity(sent.skb);
            }
            Err(error) => bad = Some((id, error)),
        });
        ids.clear();
        while let Some(skb) = frames.pop() {
            context.consume(skb);
        }
        if let Some((id, error)) = bad {
            refuse(connection, &format_args!("completion {id:#x}: {error}"));
        }
    }

    /// Ends a poll: frees what is left, counts, and lets the queue go on.
    #[inline(always)]
    pub(crate) fn account(
        &mut self,
        connection: &Connection,
        queue: &Queue,
        sender: &Sender,
        context: &PollContext<'_>,
    ) {
        if !self.ids.is_empty() {
            self.free(connection, queue, context);
        }
        let Sum { frames, bytes } = self.done;

        if frames != 0 {
            let netdev = &connection.adapter.netdev;

            if context.completed(netdev, queue.index, frames, bytes) {
                let sent = core::mem::take(&mut self.sent);

                self.done = Sum::default();
                queue.counters.tx_packets.add(sent.frames.into());
                queue.counters.tx_bytes.add(sent.bytes.into());
            } else {
                // It is counted by the poll after the frame was.
                refuse(connection, &"a completion of a frame before it was sent");
            }
        }
        // The lock of `queue.take_all` orders this behind the frames that were taken.
        if queue.stopped.load(Relaxed) {
            tx::wake(connection, queue, sender);
        }
    }
}

#[cold]
fn not_sent(connection: &Connection, packet: &Packet<'_>) {
    let adapter = &connection.adapter;

    adapter.counters.tx_failed.count();
    match sent_status(packet.payload()) {
        Ok(status) => {
            if adapter.packet_lines.allow(&adapter.dev) {
                dev_warn!(
                    adapter.dev,
                    "the host did not send a frame: status {}\n",
                    status
                );
            }
        }
        Err(error) => refuse(connection, &error),
    }
}
