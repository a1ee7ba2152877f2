// SPDX-License-Identifier: GPL-2.0

//! Fuzz targets as plain functions: cargo-fuzz calls them with its inputs, and
//! a test replays the seeds and a bounded number of random inputs on stable.
//!
//! Each panics when an invariant is broken; any input is legal.

use crate::{balloon as wire, memory::SharedRing, slot::FakeSlot};
use balloon_protocol::{
    message::MAX_RANGES,
    range::{check_set, RangeLimits},
    response::ResponseBuilder,
    session::{Action, Features, Session},
    Inbound as BalloonInbound, PageRange,
};
use vmbus_protocol::{
    message::{Inbound, MessageType},
    offers::{admit, Limits},
    packet::TransferPages,
    synic::{read_slot, release_slot, SlotContent},
};
use vmbus_ring::{Field, Outgoing, Reader, SendError, Writer};

/// A channel message as the payload of a SynIC message.
pub fn message(data: &[u8]) {
    let slot = FakeSlot::new();
    slot.deliver(data);
    let SlotContent::Message(copy) = read_slot(&slot) else {
        return;
    };
    assert!(copy.payload().len() <= 240);
    let _ = release_slot(&slot, copy.message_type());
    let parsed = Inbound::parse(copy.payload());
    if let Err(error) = &parsed {
        let _ = error.to_string();
    }
    if let Ok(inbound) = &parsed {
        let kind = u32::from_le_bytes(copy.payload()[..4].try_into().unwrap());
        let min = MessageType::from_raw(kind).and_then(MessageType::min_len);
        assert!(min.is_some_and(|min| min <= copy.payload().len()));
        if let Inbound::Offer(offer) = inbound {
            let _ = offer.pipe_mode();
            let _ = admit(offer, [], &Limits::default());
        }
    }
}

/// Control word, then data, of a host-to-guest ring; and of the other one.
pub fn ring(data: &[u8]) {
    const LEN: u32 = 512;
    let Some((control, rest)) = data.split_first_chunk::<12>() else {
        return;
    };
    let word = |at: usize| u32::from_le_bytes(control[at..at + 4].try_into().unwrap());
    let memory = SharedRing::new(LEN);
    memory.poke(0, rest.get(..LEN as usize).unwrap_or(rest));
    memory.set(Field::WriteIndex, word(0));
    memory.set(Field::PendingSendSize, word(4));
    read_ring(&memory);

    memory.set(Field::ReadIndex, word(8));
    let mut writer = Writer::new(&memory).unwrap();
    for chunk in rest.chunks(64).take(16) {
        let payload = [chunk];
        let packet = Outgoing::inband(vmbus_protocol::packet::PacketFlags::empty(), 1, &payload);
        match writer.send(&packet) {
            Ok(sent) => assert!(sent.bytes <= LEN),
            Err(SendError::Full { needed, free }) => {
                assert!(free <= needed);
                let _ = writer.wait_for(needed);
            }
            Err(SendError::Corrupt { .. } | SendError::TooLarge | SendError::PageCount { .. }) => {}
        }
    }
}

fn read_ring(memory: &SharedRing) {
    let mut reader = Reader::new(memory).unwrap();
    let mut buffer = [0; 128];
    // Each packet takes at least 24 of 512 bytes: the loop must end by itself.
    for _ in 0..22 {
        match reader.next(&mut buffer) {
            Ok(None) => break,
            Ok(Some(packet)) => {
                assert!(packet.header().len() + packet.payload().len() + 16 <= 128);
                let _ = TransferPages::parse(packet.header(), 562);
            }
            Err(error) => {
                let _ = error.to_string();
                if error.is_fatal() {
                    assert_eq!(reader.next(&mut buffer).unwrap_err(), error);
                    assert!(!reader.unmask_and_check());
                    break;
                }
            }
        }
    }
    let _ = reader.finish();
    assert!(memory.get(Field::ReadIndex) < memory.len());
    if !reader.is_broken() {
        assert!(matches!(reader.next(&mut buffer), Ok(None)));
    }
}

/// A sequence of balloon messages, each with a 16-bit length before it.
pub fn balloon(data: &[u8]) {
    let features = Features {
        hibernation: data.first().is_some_and(|b| b & 1 != 0),
        balloon: true,
        hot_add: true,
    };
    let mut session = Session::new(features);
    let _ = session.start();
    let mut rest = data;
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(tail.len());
        let (message, tail) = tail.split_at(len);
        rest = tail;
        balloon_message(&mut session, message);
    }
    // Whatever came, a handshake's messages still parse.
    assert!(BalloonInbound::parse(&wire::accepted(2, true)).is_ok());
}

fn balloon_message(session: &mut Session<'_>, message: &[u8]) {
    let inbound = match BalloonInbound::parse(message) {
        Ok(inbound) => inbound,
        Err(error) => {
            let _ = error.to_string();
            session.on_bad_message();
            return;
        }
    };
    if let Action::Unballoon(request) = session.on_message(&inbound) {
        assert!(request.ranges.len() <= MAX_RANGES);
        assert!(16 + request.ranges.len() * 8 <= message.len());
        if let Ok(total) = check_set(request.ranges, &RangeLimits::default()) {
            echo(request.ranges, total);
        }
    }
}

/// Packs checked ranges into responses and expects the same number of pages.
fn echo(ranges: &[balloon_protocol::range::WireRange], total: u64) {
    let mut buffer = [0; balloon_protocol::MAX_MESSAGE];
    let mut builder = ResponseBuilder::new(&mut buffer);
    for wire in ranges {
        let range = PageRange::try_from(*wire).unwrap();
        builder.push(range).unwrap();
    }
    assert_eq!(builder.pages(), total);
    let sum: u64 = builder.ranges().iter().map(|r| u64::from(r.count())).sum();
    assert_eq!(sum, total);
    assert!(builder.finish(1, false).len() <= balloon_protocol::MAX_MESSAGE);
}
