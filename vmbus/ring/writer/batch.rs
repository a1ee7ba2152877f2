// SPDX-License-Identifier: GPL-2.0

//! Several packets, published together.

use super::{OutgoingPacket, Published, SendError, Writer};
use crate::{
    memory::{advance, distance, Field, RingMemory},
    signal::wants_signal,
    TRAILER,
};
use vmbus_protocol::packet::PacketDescriptor;
use zerocopy::{little_endian::U64, IntoBytes};

/// Packets that are written but not yet published.
#[derive(Debug)]
pub struct Batch<'a, M> {
    writer: &'a mut Writer<M>,
    write: u32,
    /// Bytes after `write` that may be used, as far as is known.
    room: u32,
    /// Bytes that stay free behind each packet.
    keep: u32,
}

impl<'a, M: RingMemory> Batch<'a, M> {
    #[inline]
    pub(super) fn new(writer: &'a mut Writer<M>) -> Self {
        let write = writer.write;
        Batch {
            writer,
            write,
            room: 0,
            keep: 0,
        }
    }

    /// Leaves `bytes` bytes free from now on: a packet that would take some of
    /// them is refused as if the ring were full.
    #[inline]
    pub fn keep_free(&mut self, bytes: u32) {
        self.keep = bytes;
        self.room = 0;
    }

    /// Adds a packet behind those already in the batch.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; the batch is as before then and can be committed.
    #[inline]
    pub fn push(&mut self, packet: &OutgoingPacket<'_>) -> Result<(), SendError> {
        let header_len = total(packet.header).ok_or(SendError::TooLarge)?;
        let payload_len = total(packet.payload).ok_or(SendError::TooLarge)?;
        let descriptor = PacketDescriptor::new(
            packet.packet_type,
            packet.flags,
            packet.transaction_id,
            header_len,
            payload_len,
        )
        .ok_or(SendError::TooLarge)?;
        // At most 0xffff * 8 + 8.
        let needed = descriptor.len_bytes().wrapping_add(TRAILER);
        self.reserve(needed)?;

        let mut at = self.put(self.write, descriptor.as_bytes());
        for part in packet.header.iter().chain(packet.payload) {
            at = self.put(at, part);
        }
        let padding = payload_len.wrapping_neg() & 7;
        at = self.put(at, [0u8; 8].get(..padding).unwrap_or_default());
        self.put(at, self.trailer().as_bytes());
        self.end_packet(needed);
        Ok(())
    }

    /// The trailer of the next packet.
    #[inline]
    pub(crate) fn trailer(&self) -> U64 {
        U64::new(u64::from(self.write) << 32)
    }

    /// Ends a packet of `needed` bytes, trailer included.
    #[inline]
    pub(crate) fn end_packet(&mut self, needed: u32) {
        self.write = advance(self.write, needed, self.writer.data_len);
        self.room = self.room.saturating_sub(needed);
    }

    /// The way to write the next packet, of `needed` bytes.
    #[inline]
    pub(crate) fn span(&self, needed: u32) -> M::RingSpan<'_> {
        self.writer.memory.span(self.write, needed)
    }

    /// Makes sure of more than `needed` free bytes and those to be kept: one
    /// byte always stays free, or a full ring would look empty.
    // Always: every packet comes by here, by one of two ways.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, needed: u32) -> Result<(), SendError> {
        if needed >= self.writer.data_len {
            return Err(SendError::TooLarge);
        }
        if needed < self.room {
            return Ok(());
        }
        let data_len = self.writer.data_len;
        let free = self.writer.free(self.write)?;
        // Never more than is left beside this batch's own bytes: a read index
        // inside or beyond the unpublished part is a lie.
        if free > data_len.saturating_sub(self.bytes()) {
            return Err(SendError::Corrupt {
                read_index: advance(self.write, free, data_len),
                data_len,
            });
        }
        self.room = free.saturating_sub(self.keep);
        if needed >= self.room {
            return Err(SendError::Full { needed, free });
        }
        Ok(())
    }

    /// Bytes in the batch.
    #[inline]
    fn bytes(&self) -> u32 {
        distance(self.writer.write, self.write, self.writer.data_len)
    }

    /// Copies into the ring at `at` and returns the position behind.
    #[inline]
    pub(crate) fn put(&self, at: u32, bytes: &[u8]) -> u32 {
        if bytes.is_empty() {
            return at;
        }
        self.writer.memory.copy_in(at, bytes);
        // Checked before: the whole packet is shorter than the ring.
        let len = u32::try_from(bytes.len()).unwrap_or(0);
        advance(at, len, self.writer.data_len)
    }

    /// Publishes the batch with one store of the write index.
    #[inline(always)]
    pub fn commit(self) -> Published {
        let bytes = self.bytes();
        if bytes == 0 {
            return Published {
                signal: false,
                bytes: 0,
            };
        }
        let old_write = self.writer.write;
        self.writer.write = self.write;
        let memory = &self.writer.memory;
        memory.store_release(Field::WriteIndex, self.write);
        Published {
            signal: wants_signal(memory, old_write),
            bytes,
        }
    }
}

/// Sum of the lengths of parts.
#[inline]
fn total(parts: &[&[u8]]) -> Option<usize> {
    parts
        .iter()
        .try_fold(0usize, |sum, part| sum.checked_add(part.len()))
}
