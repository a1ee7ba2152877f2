// SPDX-License-Identifier: GPL-2.0

//! One packet through a ring and back out, beside two plain copies of the same
//! bytes, which is the least that any ring has to do.

#![allow(missing_docs)] // criterion's macros

use criterion::{criterion_group, criterion_main, BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use vmbus_bench::PlainRing;
use vmbus_protocol::packet::PacketFlags;
use vmbus_ring::{OutgoingPacket, Reader, Writer};

const RING: usize = 128 * 1024;
const SIZES: [usize; 3] = [64, 1500, 16384];
const BATCH: usize = 4;

fn memcpy(c: &mut Criterion) {
    let mut group = c.benchmark_group("memcpy twice");
    for size in SIZES {
        let source = vec![1u8; size];
        let mut middle = vec![0u8; size];
        let mut target = vec![0u8; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                middle.copy_from_slice(black_box(&source));
                target.copy_from_slice(black_box(&middle));
                black_box(&mut target);
            });
        });
    }
    group.finish();
}

fn packets(c: &mut Criterion, name: &str, batch_len: usize) {
    let mut group = c.benchmark_group(name);
    for size in SIZES {
        let memory = PlainRing::new(RING);
        let mut writer = Writer::new(&memory).unwrap();
        let mut reader = Reader::new(&memory).unwrap();
        let payload = vec![1u8; size];
        let parts: [&[u8]; 1] = [&payload];
        let packet = OutgoingPacket::inband(PacketFlags::empty(), 1, &parts);
        let mut buffer = vec![0u8; size + 64];
        group.throughput(Throughput::Bytes((size * batch_len) as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let mut batch = writer.batch();
                for _ in 0..batch_len {
                    batch.push(black_box(&packet)).unwrap();
                }
                let mut signals = u32::from(batch.commit().signal);
                for _ in 0..batch_len {
                    black_box(reader.next(&mut buffer).unwrap().unwrap().payload());
                }
                signals += u32::from(reader.finish());
                signals
            });
        });
    }
    group.finish();
}

fn single(c: &mut Criterion) {
    packets(c, "send and read", 1);
}

fn batched(c: &mut Criterion) {
    packets(c, "batch of 4", BATCH);
}

criterion_group!(benches, memcpy, single, batched);
criterion_main!(benches);
