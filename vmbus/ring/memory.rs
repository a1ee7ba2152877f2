// SPDX-License-Identifier: GPL-2.0

//! The memory behind a ring, as this crate sees it.

use zerocopy::{little_endian::U64, IntoBytes as _};

/// A 32-bit field of the control page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Where the producer writes next: byte offset into the data.
    WriteIndex,
    /// Where the consumer reads next: byte offset into the data.
    ReadIndex,
    /// Nonzero: the consumer does not want to be interrupted.
    InterruptMask,
    /// Bytes the producer waits for; 0 when it does not wait.
    PendingSendSize,
    /// Bit 0: the owner of the ring's producer side implements
    /// `PendingSendSize`.
    FeatureBits,
}

impl Field {
    /// Byte offset in the control page.
    #[inline]
    #[must_use]
    pub const fn offset(self) -> u32 {
        match self {
            Field::WriteIndex => 0,
            Field::ReadIndex => 4,
            Field::InterruptMask => 8,
            Field::PendingSendSize => 12,
            Field::FeatureBits => 64,
        }
    }
}

/// One ring's shared memory.
///
/// The other side is another machine: barriers must be real ones even on a
/// kernel without SMP, and every load or store is exactly one access of the
/// given width. For the copies, callers guarantee `offset < data_len()` and
/// `len <= data_len()`; a copy that passes the end of the data goes on at its
/// start.
pub trait RingMemory {
    /// See [`Self::span`].
    type RingSpan<'a>: RingSpan
    where
        Self: 'a;

    /// Bytes of the data area; constant, a multiple of 8.
    fn data_len(&self) -> u32;
    /// Loads a field, without ordering.
    fn load(&self, field: Field) -> u32;
    /// Loads a field with acquire ordering.
    fn load_acquire(&self, field: Field) -> u32;
    /// Stores a field, without ordering.
    fn store(&self, field: Field, value: u32);
    /// Stores a field with release ordering.
    fn store_release(&self, field: Field, value: u32);
    /// Full barrier, stores before it against loads after it included.
    fn full_barrier(&self);
    /// Copies from the data area.
    fn copy_out(&self, offset: u32, dst: &mut [u8]);
    /// Copies into the data area.
    fn copy_in(&self, offset: u32, src: &[u8]);
    /// Copies units of 8 bytes from the data area; `offset` is a multiple of 8.
    #[inline]
    fn get_units<const N: usize>(&self, offset: u32) -> [U64; N] {
        let mut units = [U64::ZERO; N];
        self.copy_out(offset, units.as_mut_bytes());
        units
    }
    /// The way to write the `len` bytes from `offset` on, both multiples of 8.
    fn span(&self, offset: u32, len: u32) -> Self::RingSpan<'_>;
}

/// A span of a data area that is written from its start to its end, in units
/// of 8 bytes. What goes beyond the end is not written.
pub trait RingSpan {
    /// Writes the next units.
    fn put<const N: usize>(&mut self, units: &[U64; N]);
}

/// A span of memory that has nothing better than [`RingMemory::copy_in`].
#[derive(Debug)]
pub struct Copies<'a, M> {
    memory: &'a M,
    at: u32,
    left: u32,
}

impl<'a, M: RingMemory> Copies<'a, M> {
    /// See [`RingMemory::span`].
    pub fn new(memory: &'a M, offset: u32, len: u32) -> Self {
        Copies {
            memory,
            at: offset,
            left: len,
        }
    }
}

impl<M: RingMemory> RingSpan for Copies<'_, M> {
    #[inline]
    fn put<const N: usize>(&mut self, units: &[U64; N]) {
        let bytes = units.as_bytes();
        let rest = u32::try_from(bytes.len())
            .ok()
            .and_then(|len| Some((len, self.left.checked_sub(len)?)));
        if let Some((len, left)) = rest {
            self.memory.copy_in(self.at, bytes);
            self.at = advance(self.at, len, self.memory.data_len());
            self.left = left;
        }
    }
}

impl<M: RingMemory> RingMemory for &M {
    type RingSpan<'a>
        = M::RingSpan<'a>
    where
        Self: 'a;

    #[inline]
    fn data_len(&self) -> u32 {
        (**self).data_len()
    }
    #[inline]
    fn load(&self, field: Field) -> u32 {
        (**self).load(field)
    }
    #[inline]
    fn load_acquire(&self, field: Field) -> u32 {
        (**self).load_acquire(field)
    }
    #[inline]
    fn store(&self, field: Field, value: u32) {
        (**self).store(field, value);
    }
    #[inline]
    fn store_release(&self, field: Field, value: u32) {
        (**self).store_release(field, value);
    }
    #[inline]
    fn full_barrier(&self) {
        (**self).full_barrier();
    }
    #[inline]
    fn copy_out(&self, offset: u32, dst: &mut [u8]) {
        (**self).copy_out(offset, dst);
    }
    #[inline]
    fn copy_in(&self, offset: u32, src: &[u8]) {
        (**self).copy_in(offset, src);
    }
    #[inline]
    fn get_units<const N: usize>(&self, offset: u32) -> [U64; N] {
        (**self).get_units(offset)
    }
    #[inline]
    fn span(&self, offset: u32, len: u32) -> Self::RingSpan<'_> {
        (**self).span(offset, len)
    }
}

/// The data area's size is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeError {
    /// The size in bytes.
    pub data_len: u32,
}

/// Checks a data area's size: a multiple of 8, room for a packet, and small
/// enough that the sum of two offsets does not overflow.
pub(crate) const fn check_size(data_len: u32) -> Result<u32, SizeError> {
    if data_len % 8 != 0 || data_len < 64 || data_len > 1 << 30 {
        Err(SizeError { data_len })
    } else {
        Ok(data_len)
    }
}

/// Prepares the control page of a ring that nobody uses yet: empty, unmasked,
/// flow control announced (`drivers/hv/ring_buffer.c:hv_ringbuffer_init`).
pub fn init_control<M: RingMemory>(memory: &M) {
    memory.store(Field::WriteIndex, 0);
    memory.store(Field::ReadIndex, 0);
    memory.store(Field::InterruptMask, 0);
    memory.store(Field::PendingSendSize, 0);
    memory.store(Field::FeatureBits, crate::FEATURE_PENDING_SEND_SIZE);
}

/// Bytes from `from` forward to `to`; both must be below `len`.
#[inline]
pub(crate) const fn distance(from: u32, to: u32, len: u32) -> u32 {
    if to >= from {
        to.wrapping_sub(from)
    } else {
        len.wrapping_sub(from).wrapping_add(to)
    }
}

/// `position + bytes` in a ring of `len`; needs `position < len` and
/// `bytes <= len`.
#[inline]
pub(crate) const fn advance(position: u32, bytes: u32, len: u32) -> u32 {
    let sum = position.wrapping_add(bytes);
    if sum >= len {
        sum.wrapping_sub(len)
    } else {
        sum
    }
}

/// An index the host published: within the data and a multiple of 8.
#[inline]
pub(crate) const fn index_ok(index: u32, len: u32) -> bool {
    index < len && index % 8 == 0
}

/// A snapshot of a ring for statistics files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingStats {
    /// The interrupt mask.
    pub interrupt_mask: u32,
    /// The read index.
    pub read_index: u32,
    /// The write index.
    pub write_index: u32,
    /// Bytes that wait to be read; `None` when an index is out of range.
    pub bytes_to_read: Option<u32>,
    /// Bytes that are free; `None` when an index is out of range.
    pub bytes_to_write: Option<u32>,
}

/// Reads the statistics of a ring
/// (`drivers/hv/ring_buffer.c:hv_ringbuffer_get_debuginfo`).
pub fn stats<M: RingMemory>(memory: &M) -> RingStats {
    let len = memory.data_len();
    let read_index = memory.load(Field::ReadIndex);
    let write_index = memory.load(Field::WriteIndex);
    let in_range = read_index < len && write_index < len;
    let bytes_to_read = in_range.then(|| distance(read_index, write_index, len));
    RingStats {
        interrupt_mask: memory.load(Field::InterruptMask),
        read_index,
        write_index,
        bytes_to_read,
        bytes_to_write: bytes_to_read.map(|bytes| len.wrapping_sub(bytes)),
    }
}
