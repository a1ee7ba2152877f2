// SPDX-License-Identifier: GPL-2.0

//! Frames on their way out. Nothing here allocates, and nothing waits.

use crate::{
    buffers::Io,
    connection::Connection,
    net::{Account, NetDevice, SkBuff, Transmit, TxFrame},
    queue::{NotKept, Queue, Sent},
};
use kernel::{prelude::*, sync::atomic::Relaxed};
use netvsc_protocol::{
    frame,
    gpa::Pieces,
    nvsp::{Channel, Message},
    ppi,
    sections::Section,
};
use vmbus::{Batch, Doorbell, OutgoingPacket, SendError, Sender};
use vmbus_protocol::packet::{PacketFlags, PacketType};

/// Percent of the ring below which the queue is stopped, and above which it goes on.
const LOW_PERCENT: u32 = 10;
const HIGH_PERCENT: u32 = 20;

/// Takes a frame of the stack.
#[inline]
pub(crate) fn transmit(connection: &Connection, mut frame: TxFrame<'_>) -> Transmit {
    let counters = &connection.adapter.counters;
    let queue = connection.queues.get(frame.queue() as usize);
    let Some((queue, sender, io)) = queue.and_then(|queue| {
        let io = connection.io.as_ref()?;

        Some((queue, queue.sender.as_ref()?, io))
    }) else {
        counters.tx_no_space.count();
        return Transmit::Taken;
    };

    if frame.was_scattered() {
        counters.tx_scattered.count();
    }
    let infos = frame.infos();

    match in_section(connection, queue, io, &mut frame, &infos) {
        Some((section, bytes)) => {
            let message = Message::rndis(Channel::Data, Some((section.number(), bytes)));

            send(
                connection,
                queue,
                sender,
                frame,
                Some(section),
                |batch, id| {
                    batch.push_units(PacketFlags::COMPLETION_REQUESTED, id, &message.units())
                },
            )
        }
        None => transmit_pages(connection, queue, sender, frame, &infos),
    }
}

/// Sends a frame from where it is in memory.
// Never: the list of its pages is large, and short frames go without.
#[inline(never)]
fn transmit_pages(
    connection: &Connection,
    queue: &Queue,
    sender: &Sender,
    mut frame: TxFrame<'_>,
    infos: &ppi::Outgoing,
) -> Transmit {
    let mut pieces = Pieces::new();

    if frame.pages(infos, &mut pieces).is_err() {
        connection.adapter.counters.tx_too_big.count();
        sender.ring_doorbell();
        return Transmit::Taken;
    }
    let message = Message::rndis(Channel::Data, None);
    let pieces = &mut pieces;

    send(connection, queue, sender, frame, None, |batch, id| {
        batch.push(&OutgoingPacket {
            packet_type: PacketType::DATA_USING_GPA_DIRECT,
            flags: PacketFlags::COMPLETION_REQUESTED,
            transaction_id: id,
            header: &[pieces.header()],
            payload: &[message.bytes()],
        })
    })
}

/// Copies a short frame, behind its header, to a section of the send buffer. Returns that, and how
/// many bytes are in it.
#[inline]
fn in_section(
    connection: &Connection,
    queue: &Queue,
    io: &Io,
    frame: &mut TxFrame<'_>,
    infos: &ppi::Outgoing,
) -> Option<(Section, u32)> {
    let total = frame::len_of(infos).checked_add(frame.len())?;

    if total > io.send_layout.section {
        return None;
    }
    let Some(section) = queue.take_section() else {
        connection.adapter.counters.tx_send_full.count();
        return None;
    };

    if frame
        .copy_to(infos, &io.send, io.section(section.number()))
        .is_ok()
    {
        Some((section, total))
    } else {
        queue.give_section(section);
        None
    }
}

/// Sends a frame by the packet that `push` makes for its transaction id.
#[inline(always)]
fn send(
    connection: &Connection,
    queue: &Queue,
    sender: &Sender,
    frame: TxFrame<'_>,
    section: Option<Section>,
    push: impl FnOnce(&mut Batch<'_>, u64) -> Result<(), SendError>,
) -> Transmit {
    let len = frame.len();
    let (skb, account) = frame.into_parts();
    let id = match queue.keep(Sent { skb, section, len }) {
        Ok(id) => id,
        Err(NotKept::Full(sent)) => {
            if let Some(section) = sent.section {
                queue.give_section(section);
            }
            return busy(connection, queue, sender, sent.skb);
        }
        // Its section has ended with the queue.
        Err(NotKept::Ended(sent)) => {
            drop(sent.skb);
            connection.adapter.counters.tx_no_space.count();
            return Transmit::Taken;
        }
    };

    match publish(&connection.adapter.netdev, sender, id, account, push) {
        Ok(true) => {}
        Ok(false) => stop(connection, queue, sender),
        Err(error) => return not_sent(connection, queue, sender, id, error),
    }
    Transmit::Taken
}

/// Puts a packet into the ring. False when the ring is nearly full afterwards.
#[inline(always)]
fn publish(
    netdev: &NetDevice,
    sender: &Sender,
    id: u64,
    account: Account<'_>,
    push: impl FnOnce(&mut Batch<'_>, u64) -> Result<(), SendError>,
) -> Result<bool> {
    let mut outbox = sender.lock()?;
    let mut batch = outbox.batch()?;

    if let Err(error) = push(&mut batch, id) {
        return Err(match error {
            SendError::Full { .. } => EAGAIN,
            other => outbox.refuse(other),
        });
    }
    // Before the host can complete it.
    let now = account.count(netdev);

    batch.commit();
    let free = outbox.bytes_free();
    let low = percent(outbox.capacity(), LOW_PERCENT);

    outbox.release(if now { Doorbell::Ring } else { Doorbell::Defer });
    // What is broken is found out by the next one.
    Ok(free.is_ok_and(|free| free > low))
}

fn percent(of: u32, percent: u32) -> u32 {
    (of / 100).saturating_mul(percent)
}

/// Stops a queue whose ring is nearly full or that has too many frames with the host; unless that
/// is over already.
///
/// Who ends it looks at `stopped` behind a barrier, and this looks once more behind one:
/// one of the two sees the other. A host that makes room signals, also when all that it takes is
/// what it is owed for received frames.
#[cold]
fn stop(connection: &Connection, queue: &Queue, sender: &Sender) {
    queue.stopped.store(true, Relaxed);
    connection.adapter.netdev.stop_queue(queue.index);
    connection.adapter.counters.stop_queue.count();
    wake(connection, queue, sender);
}

/// Lets a queue go on that was stopped, if there is room again. Any context but NMI.
#[cold]
pub(crate) fn wake(connection: &Connection, queue: &Queue, sender: &Sender) {
    let room = sender.lock().and_then(|outbox| {
        let high = percent(outbox.capacity(), HIGH_PERCENT);
        let room = outbox.wait_for(high);

        outbox.release(Doorbell::Ring);
        room
    });

    match room {
        Ok(true) if queue.has_room() => {
            queue.stopped.store(false, Relaxed);
            if connection.adapter.netdev.wake_queue(queue.index) {
                connection.adapter.counters.wake_queue.count();
            }
        }
        // An event comes when there is room, or a frame is done.
        Ok(_) => {}
        // Nothing is sent any more; frames are dropped, and nobody waits.
        Err(_) => {
            queue.stopped.store(false, Relaxed);
            connection.adapter.netdev.wake_queue(queue.index);
        }
    }
}

/// Gives a frame back to the stack, until there is room. Drops it when there will be none: the
/// stack would try again at once, until the channel is closed.
#[cold]
fn busy(connection: &Connection, queue: &Queue, sender: &Sender, skb: SkBuff) -> Transmit {
    if !sender.is_alive() {
        connection.adapter.counters.tx_no_space.count();
        return Transmit::Taken;
    }
    sender.ring_doorbell();
    connection.adapter.counters.tx_busy.count();
    stop(connection, queue, sender);
    Transmit::Busy(skb)
}

/// What becomes of a frame that the ring did not take.
#[cold]
fn not_sent(
    connection: &Connection,
    queue: &Queue,
    sender: &Sender,
    id: u64,
    error: Error,
) -> Transmit {
    // The host broke the ring.
    if error == EIO {
        connection.give_up();
    }
    // The host was not told of the id; if it made it up, the frame is gone.
    let Ok(sent) = queue.take(id) else {
        return Transmit::Taken;
    };

    if error == EAGAIN {
        return busy(connection, queue, sender, sent.skb);
    }
    sender.ring_doorbell();
    let adapter = &connection.adapter;

    adapter.counters.tx_no_space.count();
    if error != ENODEV && adapter.packet_lines.allow(&adapter.dev) {
        dev_err!(
            adapter.dev,
            "a frame of {} bytes cannot be sent: {:?}\n",
            sent.len,
            error
        );
    }
    Transmit::Taken
}
