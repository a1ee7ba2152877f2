// SPDX-License-Identifier: GPL-2.0

//! When to interrupt the other side.
//!
//! Hosts throttle guests that signal without need, and a missing signal hangs
//! the device, so both decisions are exact.

use crate::memory::{distance, index_ok, Field, RingMemory};

/// The producer's decision after it published packets from `old_write` on:
/// only when the ring was empty and the consumer wants interrupts
/// (`drivers/hv/ring_buffer.c:hv_signal_on_write`).
///
/// The write index must have been stored before.
#[inline]
pub fn wants_signal<M: RingMemory>(memory: &M, old_write: u32) -> bool {
    memory.full_barrier();
    // Acquire keeps the read index behind the mask.
    if memory.load_acquire(Field::InterruptMask) != 0 {
        return false;
    }
    memory.load(Field::ReadIndex) == old_write
}

/// The consumer's decision after it stored `read_index` and thereby freed
/// `bytes_read` bytes: only when the producer waits, did not have enough space
/// before, and has now (`drivers/hv/ring_buffer.c:hv_pkt_iter_close`).
#[inline]
pub fn frees_enough<M: RingMemory>(memory: &M, read_index: u32, bytes_read: u32) -> bool {
    if memory.load(Field::FeatureBits) & crate::FEATURE_PENDING_SEND_SIZE == 0 {
        return false;
    }
    memory.full_barrier();
    // Acquire keeps the write index behind the pending size.
    let pending = memory.load_acquire(Field::PendingSendSize);
    if pending == 0 {
        return false;
    }
    let len = memory.data_len();
    let write_index = memory.load(Field::WriteIndex);
    if !index_ok(write_index, len) {
        // The next read reports it.
        return false;
    }
    // A ring filled to the last byte would look empty: "enough" is more than
    // the pending size.
    let free = len.wrapping_sub(distance(read_index, write_index, len));
    let free_before = free.saturating_sub(bytes_read);
    free_before <= pending && free > pending
}
