// SPDX-License-Identifier: GPL-2.0

//! Frames on their way out. Nothing here allocates, and nothing waits.

use crate::{
    buffers::Io,
    connection::Connection,
    net::{Account, NetDevice, SkBuff, Transmit, TxFrame},
    queue::{Queue, Sent},
};
use kernel::{prelude::*, sync::atomic::Relaxed};
use netvsc_protocol::{
    frame::Header,
    gpa::Pieces,
    nvsp::{Channel, Message},
    ppi,
    sections::Section,
};
use vmbus::{ratelimited, Doorbell, OutgoingPacket, SendError, Sender};
use vmbus_protocol::packet::{PacketFlags, PacketType};

/// Percent of the ring below which the queue is stopped, and above which it goes on.
const LOW_PERCENT: u32 = 10;
const HIGH_PERCENT: u32 = 20;

/// Where a message is.
// One of them at a time, on the stack.
#[allow(clippy::large_enum_variant)]
enum Place {
    /// In a section, so many bytes.
    Section(Section, u32),
    /// In these pages.
    Pages(Pieces),
}

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
    let place = match in_section(connection, queue, io, &frame, &infos) {
        Some(place) => place,
        None => match frame.pages(&infos) {
            Ok(pieces) => Place::Pages(pieces),
            Err(_) => {
                counters.tx_too_big.count();
                sender.ring_doorbell();
                return Transmit::Taken;
            }
        },
    };
    let more = frame.more();
    let len = frame.len();
    let (skb, account) = frame.into_parts();
    let (section, place) = match place {
        Place::Section(section, bytes) => {
            let message = Message::rndis(Channel::Data, Some((section.number(), bytes)));

            (Some(section), (message, None))
        }
        Place::Pages(pieces) => (None, (Message::rndis(Channel::Data, None), Some(pieces))),
    };
    let sent = Sent { skb, section, len };
    let kept = queue.keep(sent).map_err(|sent| {
        if let Some(section) = sent.section {
            queue.give_section(section);
        }
        sent.skb
    });
    let id = match kept {
        Ok(id) => id,
        Err(skb) => return busy(connection, queue, sender, skb),
    };
    let (message, pieces) = place;

    match send(
        &connection.adapter.netdev,
        sender,
        id,
        &message,
        pieces,
        account,
        more,
    ) {
        Ok(true) => {}
        Ok(false) => stop(connection, queue, sender),
        Err(error) => return not_sent(connection, queue, sender, id, error),
    }
    Transmit::Taken
}

/// Copies a short frame, behind its header, to a section of the send buffer.
#[inline]
fn in_section(
    connection: &Connection,
    queue: &Queue,
    io: &Io,
    frame: &TxFrame<'_>,
    infos: &ppi::Outgoing,
) -> Option<Place> {
    let total = Header::len_of(infos).checked_add(frame.len())?;

    if total > io.send_layout.section {
        return None;
    }
    let Some(section) = queue.take_section() else {
        connection.adapter.counters.tx_send_full.count();
        return None;
    };
    let at = io.section(section.number());
    let copied = Header::new(infos, frame.len(), 0).is_some_and(|header| {
        let behind = at.saturating_add(header.bytes().len());

        io.send.copy_in(at, header.bytes()).is_ok() && frame.copy_to(&io.send, behind).is_ok()
    });

    if copied {
        Some(Place::Section(section, total))
    } else {
        queue.give_section(section);
        None
    }
}

/// Puts a message into the ring. False when the ring is nearly full afterwards.
#[inline]
fn send(
    netdev: &NetDevice,
    sender: &Sender,
    id: u64,
    message: &Message,
    pieces: Option<Pieces>,
    account: Account<'_>,
    more: bool,
) -> Result<bool> {
    let mut pieces = pieces;
    let mut outbox = sender.lock()?;
    let header: &[&[u8]] = &[pieces.as_mut().map_or(&[][..], |pieces| pieces.header())];
    let packet = OutgoingPacket {
        packet_type: match header {
            [[]] => PacketType::DATA_INBAND,
            _ => PacketType::DATA_USING_GPA_DIRECT,
        },
        flags: PacketFlags::COMPLETION_REQUESTED,
        transaction_id: id,
        header,
        payload: &[message.bytes()],
    };
    let mut batch = outbox.batch()?;

    if let Err(error) = batch.push(&packet) {
        return Err(match error {
            SendError::Full { .. } => EAGAIN,
            other => outbox.refuse(other),
        });
    }
    // Before the host can complete it.
    let now = account.count(netdev) || !more;

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

/// Stops a queue whose ring is nearly full or that has too many frames with the host; unless that is
/// over already.
///
/// Who ends it looks at `stopped` behind a barrier, and this looks once more behind one (case N11):
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

/// Gives a frame back to the stack, until there is room.
#[cold]
fn busy(connection: &Connection, queue: &Queue, sender: &Sender, skb: SkBuff) -> Transmit {
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
    // The host was not told of the id; if it made it up, the frame is gone.
    let Ok(sent) = queue.take(id) else {
        return Transmit::Taken;
    };

    if error == EAGAIN {
        return busy(connection, queue, sender, sent.skb);
    }
    sender.ring_doorbell();
    connection.adapter.counters.tx_no_space.count();
    if error != ENODEV {
        ratelimited!(dev_err!(
            connection.adapter.dev,
            "a frame of {} bytes cannot be sent: {:?}\n",
            sent.len,
            error
        ));
    }
    Transmit::Taken
}
