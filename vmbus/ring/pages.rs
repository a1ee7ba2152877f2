// SPDX-License-Identifier: GPL-2.0

//! Packets that name guest memory, written without a list of its pages.

use crate::{
    memory::RingMemory,
    writer::{Batch, SendError},
    TRAILER,
};
use vmbus_protocol::packet::{
    GpaDirectHeader, GpaRange, PacketDescriptor, PacketFlags, PacketType,
};
use zerocopy::IntoBytes;

/// Bytes of the GPA-direct head and of the range's head.
const HEADS: usize = 16;

/// A GPA-direct packet with one range of guest-physical memory.
///
/// The range may start and end anywhere in a page; every page between is
/// touched as a whole, so the page numbers describe it completely.
#[derive(Clone, Copy, Debug)]
pub struct PagePacket<'a> {
    /// Its flags.
    pub flags: PacketFlags,
    /// Transaction id; not 0 when a completion is requested.
    pub transaction_id: u64,
    /// The range.
    pub range: GpaRange,
    /// Payload; padded with zeros to 8 bytes.
    pub payload: &'a [u8],
}

impl<M: RingMemory> Batch<'_, M> {
    /// Adds a GPA-direct packet behind the packets already in the batch. The
    /// 4 KiB page numbers go from `pages` right into the ring.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; [`SendError::PageCount`] unless `pages` has exactly
    /// as many numbers as the range touches pages. The batch is as before then
    /// and can be committed.
    #[inline]
    pub fn push_pages(
        &mut self,
        packet: &PagePacket<'_>,
        pages: impl Iterator<Item = u64>,
    ) -> Result<(), SendError> {
        let count = packet.range.page_count();
        let header_len = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(8))
            .and_then(|bytes| bytes.checked_add(HEADS))
            .ok_or(SendError::TooLarge)?;
        let descriptor = PacketDescriptor::new(
            PacketType::DATA_USING_GPA_DIRECT,
            packet.flags,
            packet.transaction_id,
            header_len,
            packet.payload.len(),
        )
        .ok_or(SendError::TooLarge)?;
        // At most 0xffff * 8 + 8.
        let needed = descriptor.len_bytes().wrapping_add(TRAILER);
        self.reserve(needed)?;

        let start = self.position();
        let mut at = self.put(start, descriptor.as_bytes());
        at = self.put(at, GpaDirectHeader::new(1).as_bytes());
        at = self.put(at, packet.range.as_bytes());
        let mut left = count;
        for page in pages {
            let Some(rest) = left.checked_sub(1) else {
                return Err(SendError::PageCount { expected: count });
            };
            left = rest;
            at = self.put_u64(at, page);
        }
        if left != 0 {
            return Err(SendError::PageCount { expected: count });
        }
        at = self.put(at, packet.payload);
        let padding = packet.payload.len().wrapping_neg() & 7;
        at = self.put(at, [0u8; 8].get(..padding).unwrap_or_default());
        at = self.put_u64(at, u64::from(start) << 32);
        self.advance_to(at, needed);
        Ok(())
    }
}
