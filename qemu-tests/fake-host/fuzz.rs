// SPDX-License-Identifier: GPL-2.0

//! Fuzz targets as plain functions: cargo-fuzz calls them with its inputs, and
//! a test replays the seeds and a bounded number of random inputs on stable.
//!
//! Each panics when an invariant is broken; any input is legal.

mod hot_add;
mod storvsc;

pub use storvsc::storvsc;

use crate::{balloon as wire, memory::SharedRing, netvsc::Shared, slot::FakeSlot};
use balloon_protocol::{
    hot_add::Ledger,
    message::MAX_RANGES,
    range::{check_set, with_pages, RangeLimits},
    response::ResponseBuilder,
    session::{Action, Features, Session},
    Inbound as BalloonInbound, PageRange,
};
use hot_add::Blocks;
use netvsc_protocol::{
    buffers::Layout,
    exchange::Exchange,
    inbound::{Answer, Notice, TABLE_LEN},
    link::Event,
    nvsp::Version,
    rss,
    rx::{self, Assembler, Range, Received, MAX_COALESCED, MAX_CONTROL},
    setup::{Action as Step, Config, Setup},
    transfer,
};
use vmbus_protocol::{
    message::{Inbound, MessageType},
    offers::{admit, Limits},
    packet::TransferPages,
    synic::{read_slot, release_slot, SlotContent},
};
use vmbus_ring::{Field, OutgoingPacket, Reader, SendError, Writer};

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
        let packet =
            OutgoingPacket::inband(vmbus_protocol::packet::PacketFlags::empty(), 1, &payload);
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
    let mut ledger = hot_add::ledger();
    let mut rest = data;
    while let Some((len, tail)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(tail.len());
        let (message, tail) = tail.split_at(len);
        rest = tail;
        balloon_message(&mut session, &mut ledger, message);
    }
    // Whatever came, a handshake's messages still parse.
    assert!(BalloonInbound::parse(&wire::accepted(2, true)).is_ok());
}

fn balloon_message(session: &mut Session<'_>, ledger: &mut Ledger<Blocks>, message: &[u8]) {
    let inbound = match BalloonInbound::parse(message) {
        Ok(inbound) => inbound,
        Err(error) => {
            let _ = error.to_string();
            let _ = session.on_bad_message(&error);
            return;
        }
    };
    match session.on_message(&inbound) {
        Action::Unballoon(request) => {
            assert!(request.ranges.len() <= MAX_RANGES);
            assert!(16 + request.ranges.len() * 8 <= message.len());
            if let Ok(total) = check_set(request.ranges, &RangeLimits::default()) {
                echo(request.ranges, total);
            }
        }
        Action::HotAdd(request) => {
            hot_add::serve(ledger, &request);
            let _ = session.hot_add_done();
        }
        _ => {}
    }
}

/// Packs checked ranges into responses and expects the same number of pages.
fn echo(ranges: &[balloon_protocol::range::WireRange], total: u64) {
    let mut buffer = [0; balloon_protocol::MAX_MESSAGE];
    let mut builder = ResponseBuilder::new(&mut buffer);
    for (_, wire) in with_pages(ranges) {
        let range = PageRange::try_from(*wire).unwrap();
        builder.push(range).unwrap();
    }
    assert_eq!(builder.pages(), total);
    let sum: u64 = builder.ranges().iter().map(|r| u64::from(r.count())).sum();
    assert_eq!(sum, total);
    assert!(builder.finish(1, false).len() <= balloon_protocol::MAX_MESSAGE);
}

/// A transfer-page packet, its header preceded by a 16-bit length, and then the
/// receive buffer that it names.
pub fn netvsc_receive(data: &[u8]) {
    let Some((len, rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
    let (header, buffer) = rest.split_at(len);
    let layout = Layout {
        section: 512,
        count: (buffer.len() / 512 + 1) as u32,
    };
    let memory = Shared::new(buffer);
    let mut parts = [Range::default(); transfer::MAX_RANGES as usize];
    let mut assembler = Assembler::new(&mut parts[..]);
    let mut scratch = rx::Scratch::default();
    let Ok(found) = transfer::Transfer::parse(layout, header, &[107, 0, 0, 0]) else {
        return;
    };
    for range in found.ranges().flatten() {
        let end = range.start + range.len;
        assert!(range.len <= layout.section && end <= layout.section * layout.count);
        match rx::parse(&memory, range, &mut scratch) {
            Ok(Received::Frame(frame)) => {
                assert!(frame.data.start >= range.start);
                assert!(frame.data.start + frame.data.len <= end);
                if let Ok(Some(whole)) = assembler.push(&frame) {
                    let sum: u32 = whole.parts.iter().map(|part| part.len).sum();
                    assert_eq!(whole.total, sum);
                    assert!((14..=MAX_COALESCED).contains(&sum));
                }
            }
            Ok(Received::Control) => {
                let mut copy = [0; MAX_CONTROL];
                if let Some(message) = rx::control(&memory, range, &mut copy) {
                    let _ = Event::parse(message);
                }
            }
            Err(error) => {
                let _ = error.to_string();
            }
        }
    }
    let _ = assembler.restart();
}

/// The answers of a host to an initialisation, each with a 16-bit length before
/// it. Requests' ids are put in where they belong, or nothing would match.
pub fn netvsc_control(data: &[u8]) {
    let mut setup = Setup::new(Config {
        mtu: 9000,
        receive_bytes: 1 << 20,
        send_bytes: 1 << 20,
        coalesce: true,
        functions: true,
    });
    let mut exchange = Exchange::new();
    let mut rest = data;
    // Each step but those without an answer takes a message.
    for _ in 0..64 {
        match setup.action() {
            Step::Tell(_) => setup.sent(),
            Step::Announce(..) => setup.announced(1),
            Step::Done | Step::Stop(_) => break,
            step => {
                let Some((len, tail)) = rest.split_first_chunk::<2>() else {
                    setup.on_timeout();
                    continue;
                };
                let len = usize::from(u16::from_le_bytes(*len)).min(tail.len());
                let (message, tail) = tail.split_at(len);
                rest = tail;
                netvsc_answer(&mut setup, &mut exchange, step, message);
            }
        }
    }
    let agreed = setup.agreed();
    assert!(matches!(setup.action(), Step::Done | Step::Stop(_)));
    if setup.action() == Step::Done {
        assert!(agreed.receive.section >= 68 && agreed.send.section >= 68);
        assert!(agreed.receive.section * agreed.receive.count <= 1 << 20);
        assert!(agreed.send.section * agreed.send.count <= 1 << 20);
        assert!((68..=9000).contains(&agreed.mtu));
    }
}

fn netvsc_answer(setup: &mut Setup, exchange: &mut Exchange, step: Step, message: &[u8]) {
    for version in Version::PROPOSED {
        if let Ok(Notice::Table(table)) = Notice::parse(version, message) {
            for hash in 0..TABLE_LEN as u32 {
                assert!(rss::channel(table[rss::slot(hash)], 3) < 3);
            }
        }
    }
    let Step::Request(request) = step else {
        return setup.on_answer(Answer::parse(message).ok());
    };
    let mut buffer = [0; 1280];
    let id = exchange.begin(request.kind());
    let len = request.build(&mut buffer, id, setup.agreed().version);
    assert!(len.is_some_and(|len| len <= buffer.len()));
    let mut message = message.to_vec();
    if let Some(place) = message.get_mut(8..12) {
        place.copy_from_slice(&id.to_le_bytes());
    }
    let _ = exchange.on_message(&message);
    match exchange.answer() {
        Some(answer) => setup.on_response(answer),
        None => setup.on_timeout(),
    }
    exchange.end();
}
