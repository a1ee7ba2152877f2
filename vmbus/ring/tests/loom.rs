// SPDX-License-Identifier: GPL-2.0

//! Model checking of the two-sided protocol: `RUSTFLAGS="--cfg loom" cargo
//! test -p vmbus_ring --test loom --release`.
//!
//! Both ends are the crate's own, since the rules are the same for the host. A
//! lost signal shows as a deadlock, a wrong ordering as a data race on one of
//! the 8-byte cells of the data.
#![allow(clippy::cast_possible_truncation)] // Small constants.
#![cfg(loom)]

use loom::{
    cell::UnsafeCell,
    sync::{
        atomic::{fence, AtomicU32, Ordering},
        Notify,
    },
    thread,
};
use std::sync::Arc;
use vmbus_protocol::packet::PacketFlags;
use vmbus_ring::{Copies, Field, OutgoingPacket, Reader, RingMemory, SendError, WaitState, Writer};

const LEN: usize = 64;

struct Memory {
    fields: [AtomicU32; 5],
    cells: Vec<UnsafeCell<[u8; 8]>>,
}

// SAFETY: the cells are only accessed through loom, which reports races.
unsafe impl Sync for Memory {}
// SAFETY: as above.
unsafe impl Send for Memory {}

impl Memory {
    fn new(features: u32) -> Self {
        let zero = || AtomicU32::new(0);
        Memory {
            fields: [zero(), zero(), zero(), zero(), AtomicU32::new(features)],
            cells: (0..LEN / 8).map(|_| UnsafeCell::new([0; 8])).collect(),
        }
    }

    fn field(&self, field: Field) -> &AtomicU32 {
        &self.fields[match field {
            Field::WriteIndex => 0,
            Field::ReadIndex => 1,
            Field::InterruptMask => 2,
            Field::PendingSendSize => 3,
            Field::FeatureBits => 4,
        }]
    }

    fn cell(&self, offset: u32, index: usize) -> &UnsafeCell<[u8; 8]> {
        &self.cells[(offset as usize / 8 + index) % self.cells.len()]
    }
}

impl RingMemory for Memory {
    type RingSpan<'a> = Copies<'a, Memory>;

    fn data_len(&self) -> u32 {
        LEN as u32
    }
    fn load(&self, field: Field) -> u32 {
        self.field(field).load(Ordering::Relaxed)
    }
    fn load_acquire(&self, field: Field) -> u32 {
        self.field(field).load(Ordering::Acquire)
    }
    fn store(&self, field: Field, value: u32) {
        self.field(field).store(value, Ordering::Relaxed);
    }
    fn store_release(&self, field: Field, value: u32) {
        self.field(field).store(value, Ordering::Release);
    }
    fn full_barrier(&self) {
        fence(Ordering::SeqCst);
    }
    fn copy_out(&self, offset: u32, dst: &mut [u8]) {
        for (index, chunk) in dst.chunks_exact_mut(8).enumerate() {
            // SAFETY: loom checks that nobody writes meanwhile.
            self.cell(offset, index)
                .with(|cell| chunk.copy_from_slice(unsafe { &*cell }));
        }
    }
    fn copy_in(&self, offset: u32, src: &[u8]) {
        for (index, chunk) in src.chunks_exact(8).enumerate() {
            // SAFETY: loom checks that nobody reads meanwhile.
            self.cell(offset, index)
                .with_mut(|cell| unsafe { (*cell).copy_from_slice(chunk) });
        }
    }
    fn span(&self, offset: u32, len: u32) -> Self::RingSpan<'_> {
        Copies::new(self, offset, len)
    }
}

struct Shared {
    memory: Memory,
    to_consumer: Notify,
    to_producer: Notify,
}

fn run(features: u32, producer: fn(&Shared), consumer: fn(&Shared)) {
    loom::model(move || {
        let shared = Arc::new(Shared {
            memory: Memory::new(features),
            to_consumer: Notify::new(),
            to_producer: Notify::new(),
        });
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || producer(&other));
        consumer(&shared);
        thread.join().unwrap();
    });
}

fn send(shared: &Shared, writer: &mut Writer<&Memory>, id: u64) {
    let payload = id.to_le_bytes();
    let parts: [&[u8]; 1] = [&payload];
    let packet = OutgoingPacket::inband(PacketFlags::empty(), id, &parts);
    loop {
        match writer.send(&packet) {
            Ok(sent) => {
                if sent.signal {
                    shared.to_consumer.notify();
                }
                return;
            }
            Err(SendError::Full { needed, .. }) => {
                if writer.wait_for(needed).unwrap() == WaitState::Waiting {
                    shared.to_producer.wait();
                    writer.stop_waiting();
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn produce(shared: &Shared, packets: u64) {
    let mut writer = Writer::new(&shared.memory).unwrap();
    for id in 0..packets {
        send(shared, &mut writer, id);
    }
}

/// Reads with the interrupt masked, re-checks, sleeps.
fn consume(shared: &Shared, packets: u64) {
    let mut reader = Reader::new(&shared.memory).unwrap();
    let mut buffer = [0; 32];
    let mut expected = 0;
    loop {
        reader.mask();
        while let Some(packet) = reader.next(&mut buffer).unwrap() {
            assert_eq!(packet.transaction_id(), expected);
            assert_eq!(packet.payload(), expected.to_le_bytes());
            expected += 1;
        }
        if reader.finish() {
            shared.to_producer.notify();
        }
        if reader.unmask_and_check() {
            continue;
        }
        if expected == packets {
            return;
        }
        shared.to_consumer.wait();
    }
}

/// The second packet comes at any time around mask, drain and unmask.
#[test]
fn no_packet_is_left_behind_the_mask() {
    run(1, |s| produce(s, 1), |s| consume(s, 1));
}

/// Producer and consumer both sleep whenever the rules allow. The ring
/// of 64 bytes takes one packet of 32 at a time, so the second one waits.
#[test]
fn neither_side_sleeps_for_ever() {
    run(1, |s| produce(s, 2), |s| consume(s, 2));
}

/// A batch of two is announced by its single signal.
#[test]
fn one_signal_is_enough_for_a_batch() {
    run(
        1,
        |shared| {
            let mut writer = Writer::new(&shared.memory).unwrap();
            let empty = |id| OutgoingPacket::inband(PacketFlags::empty(), id, &[]);
            let mut batch = writer.batch();
            batch.push(&empty(0)).unwrap();
            batch.push(&empty(1)).unwrap();
            if batch.commit().signal {
                shared.to_consumer.notify();
            }
        },
        |shared| {
            let mut reader = Reader::new(&shared.memory).unwrap();
            let mut buffer = [0; 16];
            let mut seen = 0;
            while seen < 2 {
                reader.mask();
                while reader.next(&mut buffer).unwrap().is_some() {
                    seen += 1;
                }
                let _ = reader.finish();
                if !reader.unmask_and_check() && seen < 2 {
                    shared.to_consumer.wait();
                }
            }
        },
    );
}

/// Without the feature bit `finish` has no barrier: the one of the unmask has
/// to be enough.
#[test]
fn unmask_alone_orders_the_read_index() {
    run(
        0,
        |shared| {
            let mut writer = Writer::new(&shared.memory).unwrap();
            let empty = |id| OutgoingPacket::inband(PacketFlags::empty(), id, &[]);
            for id in 0..2 {
                if writer.send(&empty(id)).unwrap().signal {
                    shared.to_consumer.notify();
                }
            }
        },
        |shared| {
            let mut reader = Reader::new(&shared.memory).unwrap();
            let mut buffer = [0; 16];
            let mut seen = 0;
            loop {
                reader.mask();
                while reader.next(&mut buffer).unwrap().is_some() {
                    seen += 1;
                }
                let _ = reader.finish();
                if reader.unmask_and_check() {
                    continue;
                }
                if seen == 2 {
                    return;
                }
                shared.to_consumer.wait();
            }
        },
    );
}

/// Without any barrier of the consumer's, the read index alone has to keep the
/// producer from overwriting what is still being copied. Two packets of 24
/// bytes fit; the third goes over the first one, right after the index moved.
#[test]
fn space_is_reused_only_after_it_was_read() {
    run(
        0,
        |shared| {
            let mut writer = Writer::new(&shared.memory).unwrap();
            for id in 0..3 {
                let packet = OutgoingPacket::inband(PacketFlags::empty(), id, &[]);
                while writer.send(&packet).is_err() {
                    thread::yield_now();
                }
            }
        },
        |shared| {
            let mut reader = Reader::new(&shared.memory).unwrap();
            let mut buffer = [0; 16];
            for id in 0..2 {
                loop {
                    if let Some(packet) = reader.next(&mut buffer).unwrap() {
                        assert_eq!(packet.transaction_id(), id);
                        break;
                    }
                    thread::yield_now();
                }
            }
            let _ = reader.finish();
        },
    );
}
