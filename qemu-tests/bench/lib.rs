// SPDX-License-Identifier: GPL-2.0

//! Ring memory like the kernel's, for benchmarks: plain memory, atomic fields,
//! copies by `memcpy`.

use std::{
    cell::UnsafeCell,
    sync::atomic::{fence, AtomicU32, Ordering},
};
use vmbus_ring::{init_control, Copies, Field, RingMemory};

/// A ring in ordinary memory, for one thread.
pub struct PlainRing {
    fields: [AtomicU32; 5],
    data: UnsafeCell<Box<[u8]>>,
    len: usize,
}

impl PlainRing {
    /// An empty ring of `len` bytes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let ring = PlainRing {
            fields: Default::default(),
            data: UnsafeCell::new(vec![0; len].into_boxed_slice()),
            len,
        };
        init_control(&ring);
        ring
    }

    #[inline]
    fn field(&self, field: Field) -> &AtomicU32 {
        let [write, read, mask, pending, features] = &self.fields;
        match field {
            Field::WriteIndex => write,
            Field::ReadIndex => read,
            Field::InterruptMask => mask,
            Field::PendingSendSize => pending,
            Field::FeatureBits => features,
        }
    }
}

impl RingMemory for PlainRing {
    type RingSpan<'a> = Copies<'a, PlainRing>;

    #[inline]
    fn data_len(&self) -> u32 {
        u32::try_from(self.len).unwrap_or(0)
    }
    #[inline]
    fn load(&self, field: Field) -> u32 {
        self.field(field).load(Ordering::Relaxed)
    }
    #[inline]
    fn load_acquire(&self, field: Field) -> u32 {
        self.field(field).load(Ordering::Acquire)
    }
    #[inline]
    fn store(&self, field: Field, value: u32) {
        self.field(field).store(value, Ordering::Relaxed);
    }
    #[inline]
    fn store_release(&self, field: Field, value: u32) {
        self.field(field).store(value, Ordering::Release);
    }
    #[inline]
    fn full_barrier(&self) {
        fence(Ordering::SeqCst);
    }
    #[inline]
    fn copy_out(&self, offset: u32, dst: &mut [u8]) {
        // SAFETY: the type is not `Sync`, and no reference outlives this call.
        let data = unsafe { &*self.data.get() };
        let tail = &data[offset as usize..];
        let first = tail.len().min(dst.len());
        let (a, b) = dst.split_at_mut(first);
        a.copy_from_slice(&tail[..first]);
        if !b.is_empty() {
            b.copy_from_slice(&data[..b.len()]);
        }
    }
    #[inline]
    fn copy_in(&self, offset: u32, src: &[u8]) {
        // SAFETY: the type is not `Sync`, and no reference outlives this call.
        let data = unsafe { &mut *self.data.get() };
        let first = (self.len - offset as usize).min(src.len());
        let (a, b) = src.split_at(first);
        data[offset as usize..][..first].copy_from_slice(a);
        if !b.is_empty() {
            data[..b.len()].copy_from_slice(b);
        }
    }
    fn span(&self, offset: u32, len: u32) -> Self::RingSpan<'_> {
        Copies::new(self, offset, len)
    }
}
