// SPDX-License-Identifier: GPL-2.0

//! Packets through the ring, against a host that knows only the format.
#![allow(clippy::cast_possible_truncation)] // Small constants.
#![cfg(not(loom))]

use fake_host::{
    memory::SharedRing,
    ring::{Consumer, Producer},
};
use proptest::prelude::*;
use std::{collections::VecDeque, iter};
use vmbus_protocol::packet::{GpaDirectHeader, GpaRange, PacketFlags, PacketType, PageBuffer};
use vmbus_ring::{Field, GpaDirectPacket, OutgoingPacket, Reader, SendError, Writer};
use zerocopy::little_endian::U64;
use zerocopy::IntoBytes;

fn inband<'a>(id: u64, payload: &'a [&'a [u8]]) -> OutgoingPacket<'a> {
    OutgoingPacket::inband(PacketFlags::empty(), id, payload)
}

#[test]
fn field_offsets() {
    let fields = [
        (Field::WriteIndex, 0),
        (Field::ReadIndex, 4),
        (Field::InterruptMask, 8),
        (Field::PendingSendSize, 12),
        (Field::FeatureBits, 64),
    ];
    for (field, offset) in fields {
        assert_eq!(field.offset(), offset);
    }
}

#[test]
fn sizes_that_are_refused() {
    for len in [0, 8, 56, 65, 100] {
        let ring = SharedRing::new(len);
        assert!(Writer::new(&ring).is_err());
        assert!(Reader::new(&ring).is_err());
    }
    assert!(Writer::new(SharedRing::new(64)).is_ok());
}

#[test]
fn one_byte_always_stays_free() {
    let ring = SharedRing::new(128);
    let mut writer = Writer::new(&ring).unwrap();
    // 16 + 88 + 8 = 112 bytes leave 16, which nothing fits into.
    let _ = writer.send(&inband(1, &[&[0; 88]])).unwrap();
    assert_eq!(
        writer.send(&inband(2, &[])),
        Err(SendError::Full {
            needed: 24,
            free: 16
        })
    );
    // A packet that would fill the ring can never be sent.
    assert_eq!(
        writer.send(&inband(2, &[&[0; 104]])),
        Err(SendError::TooLarge)
    );
    let mut host = Consumer::new(&ring);
    host.pop().unwrap();
    assert_eq!(writer.bytes_free(), Ok(128));
    let _ = writer.send(&inband(2, &[&[0; 96]])).unwrap();
    assert_eq!(host.pop().unwrap().id, 2);
    assert_eq!(
        writer.send(&inband(2, &[&[0; 600_000]])),
        Err(SendError::TooLarge)
    );
}

#[test]
fn header_and_payload_are_told_apart() {
    let ring = SharedRing::new(256);
    let mut writer = Writer::new(&ring).unwrap();
    let head = GpaDirectHeader::new(1);
    let page = PageBuffer::new(512, 8, 0x1234);
    let packet = OutgoingPacket {
        packet_type: PacketType::DATA_USING_GPA_DIRECT,
        flags: PacketFlags::COMPLETION_REQUESTED,
        transaction_id: 42,
        header: &[head.as_bytes(), page.as_bytes()],
        payload: &[&[1, 2], &[], &[3]],
    };
    let _ = writer.send(&packet).unwrap();
    let got = Consumer::new(&ring).pop().unwrap();
    assert_eq!((got.kind, got.flags, got.id), (9, 1, 42));
    assert_eq!(got.header[4..8], [1, 0, 0, 0]);
    assert_eq!(got.header[8..], *page.as_bytes());
    assert_eq!(got.payload, [1, 2, 3, 0, 0, 0, 0, 0]);
    let odd = OutgoingPacket {
        header: &[&[0; 4]],
        ..packet
    };
    assert_eq!(writer.send(&odd), Err(SendError::TooLarge));
}

#[test]
fn failed_or_dropped_batches_leave_no_trace() {
    let ring = SharedRing::new(128);
    let mut writer = Writer::new(&ring).unwrap();
    {
        let mut batch = writer.batch();
        batch.push(&inband(1, &[&[0; 40]])).unwrap();
        assert!(matches!(
            batch.push(&inband(2, &[&[0; 40]])),
            Err(SendError::Full { .. })
        ));
    }
    assert_eq!(ring.get(Field::WriteIndex), 0);
    let mut batch = writer.batch();
    batch.push(&inband(3, &[&[0; 40]])).unwrap();
    assert!(batch.push(&inband(4, &[&[0; 40]])).is_err());
    assert_eq!(batch.commit().bytes, 64);
    let mut host = Consumer::new(&ring);
    assert_eq!(host.pop().unwrap().id, 3);
    assert!(host.pop().is_none());
}

const PAYLOAD: [U64; 8] = [U64::from_bytes([0xab; 8]); 8];

fn page_packet(len: u32, offset: u32) -> GpaDirectPacket<'static, 8> {
    GpaDirectPacket {
        flags: PacketFlags::COMPLETION_REQUESTED,
        transaction_id: 5,
        range: GpaRange::new(len, offset),
        payload: &PAYLOAD,
    }
}

/// No more page numbers than the data touches, and no fewer.
#[test]
fn page_numbers_go_straight_into_the_ring() {
    let ring = SharedRing::new(1024);
    let mut writer = Writer::new(&ring).unwrap();
    let mut host = Consumer::new(&ring);
    for (len, offset, pages) in [
        (4096, 0, 1),
        (4096, 512, 2),
        (512, 3584, 1),
        (131_072, 0, 32),
        (131_072, 4095, 33),
    ] {
        let mut batch = writer.batch();
        let first = 0x1234_5678_0000;
        let numbers = first..first + pages;
        let runs = [
            first..first + 1,
            first + 1..first + 1,
            first + 1..first + pages,
        ];
        batch
            .push_pages(&page_packet(len, offset), runs.into_iter())
            .unwrap();
        let sent = batch.commit();
        assert_eq!(u64::from(sent.bytes), 16 + 8 + 8 + 8 * pages + 64 + 8);
        let got = host.pop().unwrap();
        assert_eq!((got.kind, got.flags, got.id), (9, 1, 5));
        assert_eq!(got.header[..8], [0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(got.header[8..12], len.to_le_bytes());
        assert_eq!(got.header[12..16], offset.to_le_bytes());
        let want: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
        assert_eq!(got.header[16..], want);
        assert_eq!(got.payload, [0xab; 64]);
    }
}

/// What is known when the driver is compiled goes the same way as parts do.
#[test]
fn units_are_as_good_as_parts() {
    let ring = SharedRing::new(128);
    let mut writer = Writer::new(&ring).unwrap();
    let mut host = Consumer::new(&ring);
    // goes round the end of the data several times
    for id in 1..20 {
        let mut batch = writer.batch();
        batch
            .push_units(PacketFlags::COMPLETION_REQUESTED, id, &PAYLOAD)
            .unwrap();
        let more = batch.push_units(PacketFlags::empty(), id, &PAYLOAD);
        assert!(matches!(more, Err(SendError::Full { .. })));
        assert_eq!(batch.commit().bytes, 16 + 64 + 8);
        let got = host.pop().unwrap();
        assert_eq!((got.kind, got.flags, got.id), (6, 1, id));
        assert_eq!(
            (&got.header[..], &got.payload[..]),
            (&[][..], &[0xab; 64][..])
        );
        assert!(host.pop().is_none());

        let mut batch = writer.batch();
        batch.push_completion(id, &PAYLOAD).unwrap();
        assert_eq!(batch.commit().bytes, 16 + 64 + 8);
        let got = host.pop().unwrap();
        assert_eq!((got.kind, got.flags, got.id), (11, 0, id));
        assert_eq!(got.payload, [0xab; 64]);
    }
    let huge = [U64::ZERO; 16];
    let refused = writer.batch().push_units(PacketFlags::empty(), 1, &huge);
    assert_eq!(refused, Err(SendError::TooLarge));
}

/// A scatter list that does not describe the range is not sent.
#[test]
fn wrong_numbers_of_pages_leave_no_trace() {
    let ring = SharedRing::new(256);
    let mut writer = Writer::new(&ring).unwrap();
    let mut batch = writer.batch();
    batch.push(&inband(1, &[])).unwrap();
    for pages in [0, 1, 3, 1000, u64::MAX] {
        assert_eq!(
            batch.push_pages(&page_packet(8192, 0), iter::once(0..pages)),
            Err(SendError::PageCount { expected: 2 })
        );
    }
    // The largest range that can be expressed is far too large for a packet.
    assert_eq!(
        batch.push_pages(&page_packet(u32::MAX, u32::MAX), iter::repeat(0..9)),
        Err(SendError::TooLarge)
    );
    assert_eq!(batch.commit().bytes, 24);
    let mut host = Consumer::new(&ring);
    assert_eq!(host.pop().unwrap().id, 1);
    assert!(host.pop().is_none());
}

#[test]
fn space_that_is_kept_free() {
    let ring = SharedRing::new(256);
    let mut writer = Writer::new(&ring).unwrap();
    let mut batch = writer.batch();
    batch.keep_free(128);
    // 24 bytes each; more than 24 + 128 bytes have to be free before.
    for id in 0..5 {
        batch.push(&inband(id, &[])).unwrap();
    }
    assert_eq!(
        batch.push(&inband(9, &[])),
        Err(SendError::Full {
            needed: 24,
            free: 136
        })
    );
    batch.keep_free(0);
    batch.push(&inband(9, &[])).unwrap();
    assert_eq!(batch.commit().bytes, 144);
}

/// What is not wanted stays, and what is behind it too.
#[test]
fn packets_that_are_left() {
    let ring = SharedRing::new(256);
    let mut host = Producer::new(&ring);
    let mut reader = Reader::new(&ring).unwrap();
    let mut buffer = [0; 64];
    for (id, kind) in [(1, 11), (2, 11), (3, 6), (4, 11)] {
        host.packet(kind, 0, id, &[], &[0; 8]);
    }
    host.publish();
    for id in [1, 2] {
        let taken = reader.next_if(&mut buffer, |d| d.kind() == PacketType::COMPLETION);
        assert_eq!(taken.unwrap().map(|p| p.transaction_id()), Some(id));
    }
    for _ in 0..2 {
        let left = reader.next_if(&mut buffer, |d| d.kind() == PacketType::COMPLETION);
        assert!(left.unwrap().is_none());
    }
    let _ = reader.finish();
    assert_eq!(ring.get(Field::ReadIndex), 2 * 32);
    for id in [3, 4] {
        let taken = reader.next(&mut buffer);
        assert_eq!(taken.unwrap().map(|p| p.transaction_id()), Some(id));
    }
    assert!(reader.next_if(&mut buffer, |_| true).unwrap().is_none());
}

/// A packet's header and payload, in units of 8 bytes.
fn shapes() -> impl Strategy<Value = Vec<(usize, usize)>> {
    proptest::collection::vec((0usize..4, 0usize..20), 1..60)
}

proptest! {
    #[test]
    fn guest_to_host(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 1..60),
        batch_len in 1usize..5,
        split in 0usize..90,
    ) {
        let ring = SharedRing::new(256);
        let mut writer = Writer::new(&ring).unwrap();
        let mut host = Consumer::new(&ring);
        let mut sent: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
        let mut todo: VecDeque<Vec<u8>> = payloads.into();
        let mut id = 0;
        while !todo.is_empty() || !sent.is_empty() {
            let was_empty = sent.is_empty();
            let mut batch = writer.batch();
            let mut full = false;
            for _ in 0..batch_len {
                let Some(payload) = todo.front() else { break };
                let (a, b) = payload.split_at(split.min(payload.len()));
                match batch.push(&inband(id, &[a, b])) {
                    Ok(()) => sent.push_back((id, todo.pop_front().unwrap())),
                    Err(SendError::Full { needed, free }) => {
                        prop_assert!(free <= needed);
                        full = true;
                        break;
                    }
                    Err(error) => prop_assert!(false, "{}", error),
                }
                id += 1;
            }
            let outcome = batch.commit();
            prop_assert_eq!(outcome.signal, was_empty && outcome.bytes > 0);
            prop_assert!(!full || !sent.is_empty());
            for _ in 0..batch_len {
                let Some((id, payload)) = sent.pop_front() else { break };
                let got = host.pop().unwrap();
                prop_assert_eq!(got.id, id);
                prop_assert_eq!(&got.payload[..payload.len()], &payload[..]);
                prop_assert!(got.payload[payload.len()..].iter().all(|b| *b == 0));
                prop_assert!(got.payload.len() - payload.len() < 8);
            }
        }
    }

    #[test]
    fn host_to_guest(shapes in shapes(), burst in 1usize..8, buffer_len in 64usize..256) {
        let ring = SharedRing::new(512);
        let mut host = Producer::new(&ring);
        let mut reader = Reader::new(&ring).unwrap();
        let mut buffer = vec![0; buffer_len];
        let mut expected = VecDeque::new();
        for (id, (header, payload)) in (0u8..).zip(shapes) {
            let (header, payload) = (vec![id; header * 8], vec![!id; payload * 8]);
            host.packet(6, u16::from(id) & 1, u64::from(id), &header, &payload);
            expected.push_back((id, header, payload));
            host.publish();
            if expected.len() < burst && host.free() > 256 {
                continue;
            }
            while let Some((id, header, payload)) = expected.pop_front() {
                let len = 16 + header.len() + payload.len();
                match reader.next(&mut buffer) {
                    Ok(packet) => {
                        let packet = packet.unwrap();
                        prop_assert!(len <= buffer_len);
                        prop_assert_eq!(packet.transaction_id(), u64::from(id));
                        prop_assert_eq!(packet.completion_requested(), id & 1 == 1);
                        prop_assert_eq!(packet.header(), header);
                        prop_assert_eq!(packet.payload(), payload);
                    }
                    Err(error) => {
                        prop_assert!(!error.is_fatal() && len > buffer_len);
                    }
                }
            }
            prop_assert!(reader.next(&mut buffer).unwrap().is_none());
            let _ = reader.finish();
            prop_assert_eq!(ring.get(Field::ReadIndex), host.write);
        }
    }

    /// Whatever the host writes, reads end, stay in bounds and never panic.
    #[test]
    fn reader_takes_anything(
        data in proptest::collection::vec(any::<u8>(), 128),
        indices in proptest::collection::vec(any::<u32>(), 1..8),
    ) {
        let ring = SharedRing::new(128);
        ring.poke(0, &data);
        let mut reader = Reader::new(&ring).unwrap();
        let mut buffer = [0; 64];
        for index in indices {
            // Mostly plausible values.
            let index = if index & 7 == 0 { index } else { index % 16 * 8 };
            ring.set(Field::WriteIndex, index);
            for _ in 0..8 {
                match reader.next(&mut buffer) {
                    Ok(None) => break,
                    Ok(Some(packet)) => prop_assert!(packet.payload().len() <= 48),
                    Err(error) if error.is_fatal() => {
                        prop_assert!(reader.is_broken());
                        break;
                    }
                    Err(_) => {}
                }
            }
            let _ = reader.finish();
            prop_assert!(ring.get(Field::ReadIndex) < 128);
        }
    }

    /// Signals for space come exactly at the transition.
    #[test]
    fn space_signal_is_the_transition(reads in proptest::collection::vec(1usize..4, 1..7), pending in 0u32..256) {
        let ring = SharedRing::new(256);
        let mut host = Producer::new(&ring);
        for id in 0..7 {
            host.packet(6, 0, id, &[], &[0; 8]);
        }
        host.publish();
        ring.set(Field::PendingSendSize, pending);
        let mut reader = Reader::new(&ring).unwrap();
        let mut buffer = [0; 64];
        for count in reads {
            let before = host.free();
            for _ in 0..count {
                let _ = reader.next(&mut buffer).unwrap();
            }
            let signal = reader.finish();
            let after = host.free();
            let crossed = pending != 0 && before <= pending && after > pending;
            prop_assert_eq!(signal, crossed, "{} -> {}, {}", before, after, pending);
        }
    }
}
