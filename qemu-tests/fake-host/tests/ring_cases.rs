// SPDX-License-Identifier: GPL-2.0

//! One test for each known bug of the ring, with its right outcome.

use fake_host::{
    memory::{Access, SharedRing},
    ring::{Consumer, Producer},
};
use std::sync::{
    atomic::{AtomicBool, Ordering},
    Arc,
};
use vmbus_protocol::{
    packet::{PacketFlags, PacketType, TransferPages},
    requests::{BadId, RequestTable, Slot},
};
use vmbus_ring::{stats, Field, OutgoingPacket, ReadError, Reader, SendError, WaitState, Writer};

fn inband<'a>(id: u64, payload: &'a [&'a [u8]]) -> OutgoingPacket<'a> {
    OutgoingPacket::inband(PacketFlags::empty(), id, payload)
}

#[test]
fn padding_in_the_ring_is_zero() {
    let ring = SharedRing::new(256);
    let mut writer = Writer::new(&ring).unwrap();
    for len in 0..=16 {
        let body = vec![0xff; len];
        let _ = writer.send(&inband(1, &[&body])).unwrap();
        let mut bytes = vec![0; 24 + len.next_multiple_of(8)];
        let start = ring.get(Field::WriteIndex) + ring.len() - bytes.len() as u32;
        ring.peek(start % ring.len(), &mut bytes);
        assert!(bytes[16 + len..16 + len.next_multiple_of(8)]
            .iter()
            .all(|b| *b == 0));
        ring.set(Field::ReadIndex, ring.get(Field::WriteIndex));
    }
}

#[test]
fn statistics_of_a_ring_with_wild_indices() {
    let ring = SharedRing::new(256);
    ring.set(Field::WriteIndex, 64);
    assert_eq!(stats(&ring).bytes_to_read, Some(64));
    assert_eq!(stats(&ring).bytes_to_write, Some(192));
    ring.set(Field::WriteIndex, u32::MAX);
    assert_eq!(stats(&ring).bytes_to_read, None);
    assert_eq!(stats(&ring).bytes_to_write, None);
}

#[test]
fn packets_around_the_buffer_size() {
    for total in (4096usize..=4128).step_by(8) {
        let ring = SharedRing::new(16384);
        let mut host = Producer::new(&ring);
        let body: Vec<u8> = (0..total - 16).map(|i| i as u8).collect();
        host.packet(6, 0, 1, &[], &body);
        host.packet(6, 0, 2, &[], &[7; 8]);
        host.publish();
        let mut reader = Reader::new(&ring).unwrap();
        let mut buffer = vec![0; 4112];
        let first = reader.next(&mut buffer);
        if total <= 4112 {
            assert_eq!(first.unwrap().unwrap().payload(), body);
        } else {
            assert_eq!(
                first.unwrap_err(),
                ReadError::TooLarge {
                    len: total as u32,
                    limit: 4112,
                    packet_type: PacketType::DATA_INBAND,
                    transaction_id: 1,
                }
            );
        }
        let second = reader.next(&mut buffer).unwrap().unwrap();
        assert_eq!(second.transaction_id(), 2);
        assert_eq!(second.payload(), [7; 8]);
        assert!(matches!(reader.next(&mut buffer), Ok(None)));
        let _ = reader.finish();
        assert_eq!(ring.get(Field::ReadIndex), host.write);
    }
}

#[test]
fn transfer_pages_with_many_ranges() {
    const BUFFER: usize = 16 + 8 + 562 * 8 + 8;
    for count in [1u32, 375, 376, 562, 563] {
        let ring = SharedRing::new(16384);
        let mut host = Producer::new(&ring);
        let mut header = 0xcafeu32.to_le_bytes().to_vec();
        header.extend_from_slice(&count.to_le_bytes());
        for i in 0..count {
            header.extend_from_slice(&100u32.to_le_bytes());
            header.extend_from_slice(&(i * 100).to_le_bytes());
        }
        host.packet(7, 1, 1, &header, &[0; 8]);
        host.packet(6, 0, 2, &[], &[7; 8]);
        host.publish();
        let mut reader = Reader::new(&ring).unwrap();
        let mut buffer = vec![0; BUFFER];
        match reader.next(&mut buffer) {
            Ok(Some(packet)) => {
                assert!(count <= 562);
                let pages = TransferPages::parse(packet.header(), 562).unwrap();
                assert_eq!(pages.ranges.len() as u32, count);
                assert_eq!(pages.header.pageset_id.get(), 0xcafe);
                let last = pages.ranges.last().unwrap();
                assert_eq!(
                    last.within(count * 100),
                    Some(((count - 1) * 100, count * 100))
                );
                assert_eq!(last.within(count * 100 - 1), None);
            }
            Err(ReadError::TooLarge { .. }) => assert_eq!(count, 563),
            other => panic!("{count}: {other:?}"),
        }
        let next = reader.next(&mut buffer).unwrap().unwrap();
        assert_eq!(next.transaction_id(), 2);
    }
}

#[test]
fn range_count_that_the_header_does_not_cover() {
    let mut header = 0xcafeu32.to_le_bytes().to_vec();
    header.extend_from_slice(&2u32.to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    assert!(TransferPages::parse(&header, 562).is_err());
    header.extend_from_slice(&[0; 8]);
    assert!(TransferPages::parse(&header, 562).is_ok());
    assert!(TransferPages::parse(&header, 1).is_err());
    header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(TransferPages::parse(&header, u32::MAX).is_err());
    assert!(TransferPages::parse(&[0; 7], 1).is_err());
}

#[test]
fn lying_descriptors_break_the_channel() {
    // (offset8, len8) with 64 published bytes.
    for (offset8, len8) in [
        (2, 0),
        (2, 1),
        (2, 8),
        (2, 0xffff),
        (5, 4),
        (1, 4),
        (0, 4),
        (0xffff, 4),
    ] {
        let ring = SharedRing::new(256);
        let mut host = Producer::new(&ring);
        host.lie(offset8, len8, 48);
        host.publish();
        let mut reader = Reader::new(&ring).unwrap();
        let mut buffer = [0; 128];
        let error = reader.next(&mut buffer).unwrap_err();
        assert!(error.is_fatal());
        assert_eq!(
            error,
            ReadError::CorruptDescriptor {
                len8,
                offset8,
                available: 64,
                read_index: 0
            }
        );
        // No resynchronisation, even if the host repairs it, and no loop.
        ring.poke(0, &fake_host::ring::descriptor(6, 2, 7, 0, 1));
        assert_eq!(reader.next(&mut buffer).unwrap_err(), error);
        assert!(!reader.unmask_and_check());
        assert!(!reader.finish());
        assert_eq!(ring.get(Field::ReadIndex), 0);
    }
}

#[test]
fn descriptor_changed_between_reads() {
    let ring = SharedRing::new(256);
    let mut host = Producer::new(&ring);
    host.packet(6, 0, 1, &[], &[1; 32]);
    host.packet(6, 0, 2, &[], &[2; 8]);
    host.publish();
    // As soon as the descriptor was read, it claims something else.
    ring.set_hook(|ring, access| {
        if access == Access::CopyOut(0, 16) {
            ring.poke(0, &fake_host::ring::descriptor(9, 0xffff, 0xffff, 7, 99));
        }
    });
    let mut reader = Reader::new(&ring).unwrap();
    let mut buffer = [0; 128];
    let packet = reader.next(&mut buffer).unwrap().unwrap();
    assert_eq!(packet.packet_type(), PacketType::DATA_INBAND);
    assert_eq!(packet.transaction_id(), 1);
    assert_eq!(packet.payload(), [1; 32]);
    let packet = reader.next(&mut buffer).unwrap().unwrap();
    assert_eq!(packet.transaction_id(), 2);
}

#[test]
fn bogus_completions_change_nothing() {
    let slots: Vec<Slot<&str>> = (0..4).map(|_| Slot::new()).collect();
    let mut table = RequestTable::new(slots);
    let first = table.alloc("first").unwrap();
    let second = table.alloc("second").unwrap();
    assert!(first != 0 && second != 0 && first != second);
    assert_eq!(table.complete(0), Err(BadId::Zero));
    for reserved in 0..4 {
        assert_eq!(table.complete(u64::MAX - reserved), Err(BadId::Reserved));
    }
    assert_eq!(table.complete(5), Err(BadId::Unknown));
    assert_eq!(table.complete(4), Err(BadId::NotPending));
    assert_eq!(table.complete(1 << 40), Err(BadId::Unknown));
    assert_eq!(table.complete(first), Ok("first"));
    assert_eq!(table.complete(first), Err(BadId::NotPending));
    let third = table.alloc("third").unwrap();
    assert_eq!(table.complete(first), Err(BadId::Stale));
    assert_eq!(table.pending(), 2);
    assert_eq!(table.complete(third), Ok("third"));
    assert_eq!(table.complete(second), Ok("second"));
}

#[test]
fn space_freed_before_the_request_is_seen() {
    let ring = SharedRing::new(128);
    let mut writer = Writer::new(&ring).unwrap();
    let payload = [0; 40];
    let _ = writer.send(&inband(1, &[&payload])).unwrap();
    let Err(SendError::Full { needed, free }) = writer.send(&inband(2, &[&payload])) else {
        panic!("not full");
    };
    assert_eq!((needed, free), (64, 64));
    // The host reads everything right after the guest's request was stored and
    // before the guest looks again; it saw no request, so it does not signal.
    let seen = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&seen);
    ring.set_hook(move |ring, access| {
        if access == Access::Store(Field::PendingSendSize, 64) {
            ring.set(Field::ReadIndex, ring.get(Field::WriteIndex));
            mark.store(true, Ordering::SeqCst);
        }
    });
    assert_eq!(writer.wait_for(needed), Ok(WaitState::Ready));
    assert!(seen.load(Ordering::SeqCst));
    assert_eq!(ring.get(Field::PendingSendSize), 0);
    let _ = writer.send(&inband(2, &[&payload])).unwrap();
}

#[test]
fn request_stays_while_the_ring_is_full() {
    let ring = SharedRing::new(128);
    let mut writer = Writer::new(&ring).unwrap();
    let _ = writer.send(&inband(1, &[&[0; 40]])).unwrap();
    assert_eq!(writer.wait_for(64), Ok(WaitState::Waiting));
    assert_eq!(ring.get(Field::PendingSendSize), 64);
    writer.stop_waiting();
    assert_eq!(ring.get(Field::PendingSendSize), 0);
    assert_eq!(writer.wait_for(128), Err(SendError::TooLarge));
}

/// Two threads, a ring of four packets, signals as a flag: both would sleep
/// for ever if one were lost.
#[test]
fn stress_one_producer_one_consumer() {
    const PACKETS: u64 = 100_000;
    let ring = Arc::new(SharedRing::new(4 * 32));
    let to_consumer = Arc::new(Signal::default());
    let to_producer = Arc::new(Signal::default());
    let consumer = {
        let (ring, wake, signal) = (ring.clone(), to_consumer.clone(), to_producer.clone());
        std::thread::spawn(move || consume(&ring, &wake, &signal, PACKETS))
    };
    let mut writer = Writer::new(&*ring).unwrap();
    for id in 0..PACKETS {
        let payload = id.to_le_bytes();
        loop {
            match writer.send(&inband(id, &[&payload])) {
                Ok(sent) => {
                    if sent.signal {
                        to_consumer.raise();
                    }
                    break;
                }
                Err(SendError::Full { needed, .. }) => {
                    if writer.wait_for(needed).unwrap() == WaitState::Waiting {
                        to_producer.wait();
                        writer.stop_waiting();
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    consumer.join().unwrap();
}

#[derive(Default)]
struct Signal(std::sync::Mutex<bool>, std::sync::Condvar);

impl Signal {
    fn raise(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }
    fn wait(&self) {
        let limit = std::time::Duration::from_secs(60);
        let (mut flag, timeout) = self
            .1
            .wait_timeout_while(self.0.lock().unwrap(), limit, |flag| !*flag)
            .unwrap();
        assert!(!timeout.timed_out(), "a signal was lost");
        *flag = false;
    }
}

fn consume(ring: &SharedRing, wake: &Signal, signal: &Signal, packets: u64) {
    let mut reader = Reader::new(ring).unwrap();
    let mut buffer = [0; 64];
    let mut expected = 0;
    while expected < packets {
        reader.mask();
        while let Some(packet) = reader.next(&mut buffer).unwrap() {
            assert_eq!(packet.transaction_id(), expected);
            assert_eq!(packet.payload(), expected.to_le_bytes());
            expected += 1;
            if expected % 3 == 0 && reader.finish() {
                signal.raise();
            }
        }
        if reader.finish() {
            signal.raise();
        }
        if !reader.unmask_and_check() && expected < packets {
            wake.wait();
        }
    }
}

#[test]
fn write_index_out_of_range() {
    for bad in [256, 257, 264, u32::MAX, 4, 12, 8, 16] {
        let ring = SharedRing::new(256);
        ring.set(Field::WriteIndex, bad);
        let mut reader = Reader::new(&ring).unwrap();
        let mut buffer = [0; 64];
        let error = reader.next(&mut buffer).unwrap_err();
        assert_eq!(
            error,
            ReadError::CorruptIndex {
                write_index: bad,
                read_index: 0,
                data_len: 256
            }
        );
        // Once is enough: the channel stays broken.
        ring.set(Field::WriteIndex, 0);
        assert_eq!(reader.next(&mut buffer).unwrap_err(), error);
        assert!(reader.is_broken());
    }
}

#[test]
fn read_index_out_of_range() {
    for bad in [256, 260, u32::MAX, 4] {
        let ring = SharedRing::new(256);
        let mut writer = Writer::new(&ring).unwrap();
        ring.set(Field::ReadIndex, bad);
        let expected = SendError::Corrupt {
            read_index: bad,
            data_len: 256,
        };
        assert_eq!(writer.send(&inband(1, &[])).unwrap_err(), expected);
        assert_eq!(writer.bytes_free(), Err(expected));
        assert_eq!(writer.wait_for(64), Err(expected));
        assert_eq!(ring.get(Field::WriteIndex), 0);
        assert_eq!(ring.get(Field::PendingSendSize), 0);
    }
}

#[test]
fn host_moves_the_guests_own_index() {
    let ring = SharedRing::new(256);
    let mut writer = Writer::new(&ring).unwrap();
    let _ = writer.send(&inband(1, &[&[1; 8]])).unwrap();
    ring.set(Field::WriteIndex, 0xffff_fff8);
    let _ = writer.send(&inband(2, &[&[2; 8]])).unwrap();
    assert_eq!(ring.get(Field::WriteIndex), 64);
    let mut host = Consumer::new(&ring);
    assert_eq!(host.pop().unwrap().id, 1);
    assert_eq!(host.pop().unwrap().id, 2);
}

#[test]
fn read_index_inside_a_batch() {
    let ring = SharedRing::new(256);
    let mut writer = Writer::new(&ring).unwrap();
    let mut batch = writer.batch();
    batch.push(&inband(1, &[&[1; 40]])).unwrap();
    batch.push(&inband(2, &[&[1; 40]])).unwrap();
    // The host claims to have read what was never published.
    ring.set(Field::ReadIndex, 64);
    let last = batch.push(&inband(3, &[&[1; 120]]));
    assert!(matches!(last, Err(SendError::Corrupt { .. })), "{last:?}");
    // Not committed: nothing is published.
    assert_eq!(ring.get(Field::WriteIndex), 0);
}

#[test]
fn second_packet_without_an_interrupt() {
    let ring = SharedRing::new(256);
    let mut host = Producer::new(&ring);
    let mut reader = Reader::new(&ring).unwrap();
    let mut buffer = [0; 64];
    host.packet(6, 0, 1, &[], &[1; 8]);
    host.publish();

    reader.mask();
    assert_eq!(ring.get(Field::InterruptMask), 1);
    assert!(reader.next(&mut buffer).unwrap().is_some());
    assert!(reader.next(&mut buffer).unwrap().is_none());
    // Masked, so the host does not interrupt for this one.
    host.packet(6, 0, 2, &[], &[2; 8]);
    host.publish();
    assert!(reader.unmask_and_check(), "the second packet is lost");
    assert_eq!(ring.get(Field::InterruptMask), 0);
    reader.mask();
    let packet = reader.next(&mut buffer).unwrap().unwrap();
    assert_eq!(packet.transaction_id(), 2);
    assert!(reader.next(&mut buffer).unwrap().is_none());
    let _ = reader.finish();
    assert!(!reader.unmask_and_check());
}

#[test]
fn host_is_signalled_only_when_it_waits_for_space() {
    let ring = SharedRing::new(256);
    let mut host = Producer::new(&ring);
    let mut reader = Reader::new(&ring).unwrap();
    let mut buffer = [0; 64];
    for id in 0..7 {
        host.packet(6, 0, id, &[], &[0; 8]);
    }
    host.publish();
    // 32 bytes free; the host waits for 64.
    assert_eq!(host.free(), 32);
    ring.set(Field::PendingSendSize, 64);
    let mut signals = Vec::new();
    for _ in 0..7 {
        reader.next(&mut buffer).unwrap().unwrap();
        signals.push(reader.finish());
    }
    // 64 is not more than 64; 96 is; afterwards there is no transition.
    assert_eq!(signals, [false, true, false, false, false, false, false]);
    assert!(!reader.finish());

    // Without the feature bit there is never a signal.
    let ring = SharedRing::new(256);
    ring.set(Field::FeatureBits, 0);
    ring.set(Field::PendingSendSize, 1);
    let mut host = Producer::new(&ring);
    host.packet(6, 0, 1, &[], &[0; 200]);
    host.publish();
    let mut reader = Reader::new(&ring).unwrap();
    let mut buffer = [0; 256];
    reader.next(&mut buffer).unwrap().unwrap();
    assert!(!reader.finish());
}

#[test]
fn host_is_signalled_only_when_the_ring_was_empty_and_unmasked() {
    let ring = SharedRing::new(256);
    let mut writer = Writer::new(&ring).unwrap();
    let mut host = Consumer::new(&ring);
    assert!(writer.send(&inband(1, &[])).unwrap().signal);
    assert!(!writer.send(&inband(2, &[])).unwrap().signal);
    while host.pop().is_some() {}
    ring.set(Field::InterruptMask, 1);
    assert!(!writer.send(&inband(3, &[])).unwrap().signal);
    ring.set(Field::InterruptMask, 0);
    while host.pop().is_some() {}
    let mut batch = writer.batch();
    batch.push(&inband(4, &[])).unwrap();
    batch.push(&inband(5, &[])).unwrap();
    assert_eq!(host.pop(), None);
    assert!(batch.commit().signal);
    assert_eq!(host.pop().unwrap().id, 4);
    assert_eq!(host.pop().unwrap().id, 5);
    assert!(!writer.batch().commit().signal);
}
