// SPDX-License-Identifier: GPL-2.0

//! Packets that name guest memory, written without a list of its pages.

use crate::{
    memory::{RingMemory, RingSpan as _},
    writer::{Batch, SendError},
    TRAILER,
};
use core::ops::Range;
use vmbus_protocol::packet::{
    GpaDirectHeader, GpaRange, PacketDescriptor, PacketFlags, PacketType,
};
use zerocopy::{
    little_endian::{U16, U64},
    transmute,
};

/// Units of 8 bytes before the page numbers: descriptor, GPA-direct head, head
/// of the range.
const HEAD_UNITS: u32 = 4;

/// A GPA-direct packet with one range of guest-physical memory.
///
/// The range may start and end anywhere in a page; every page between is
/// touched as a whole, so the page numbers describe it completely.
#[derive(Clone, Copy, Debug)]
pub struct GpaDirectPacket<'a, const N: usize> {
    /// Its flags.
    pub flags: PacketFlags,
    /// Transaction id; not 0 when a completion is requested.
    pub transaction_id: u64,
    /// The range.
    pub range: GpaRange,
    /// Payload, in units of 8 bytes.
    pub payload: &'a [U64; N],
}

impl<M: RingMemory> Batch<'_, M> {
    /// Adds a GPA-direct packet behind the packets already in the batch. The
    /// 4 KiB page numbers go from `runs` right into the ring.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; [`SendError::PageCount`] unless `runs` have exactly
    /// as many numbers as the range touches pages. The batch is as before then
    /// and can be committed.
    // Always: a call would carry the packet and its pages through memory.
    #[inline(always)]
    pub fn push_pages<const N: usize>(
        &mut self,
        packet: &GpaDirectPacket<'_, N>,
        runs: impl Iterator<Item = Range<u64>>,
    ) -> Result<(), SendError> {
        // Each page number is a unit.
        let count = packet.range.page_count();
        let offset8 = u16::try_from(count.saturating_add(HEAD_UNITS));
        let payload8 = u16::try_from(N);
        let (Ok(offset8), Ok(payload8)) = (offset8, payload8) else {
            return Err(SendError::TooLarge);
        };
        let len8 = offset8.checked_add(payload8).ok_or(SendError::TooLarge)?;
        let descriptor = PacketDescriptor {
            packet_type: U16::new(PacketType::DATA_USING_GPA_DIRECT.0),
            offset8: U16::new(offset8),
            len8: U16::new(len8),
            flags: U16::new(packet.flags.bits()),
            transaction_id: U64::new(packet.transaction_id),
        };
        let needed = descriptor.len_bytes().wrapping_add(TRAILER);
        self.reserve(needed)?;

        let [head, id] = descriptor.units();
        let ranges = transmute!(GpaDirectHeader::new(1));
        let range = transmute!(packet.range);
        let mut span = self.span(needed);
        span.put(&[head, id, ranges, range]);
        let wrong = SendError::PageCount { expected: count };
        let mut left = u64::from(count);
        for run in runs {
            let pages = run.end.saturating_sub(run.start);
            left = left.checked_sub(pages).ok_or(wrong)?;
            for page in run {
                span.put(&[U64::new(page)]);
            }
        }
        if left != 0 {
            return Err(wrong);
        }
        span.put(packet.payload);
        span.put(&[self.trailer()]);
        drop(span);
        self.end_packet(needed);
        Ok(())
    }
}
