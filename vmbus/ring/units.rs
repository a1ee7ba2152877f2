// SPDX-License-Identifier: GPL-2.0

//! Packets of a size that is known when the driver is compiled: in-band ones, and completions.

use crate::{
    memory::{RingMemory, RingSpan as _},
    writer::{Batch, SendError},
    TRAILER,
};
use vmbus_protocol::packet::{PacketDescriptor, PacketFlags, PacketType};
use zerocopy::little_endian::{U16, U64};

/// Units of 8 bytes of a descriptor.
const HEAD_UNITS: u16 = 2;

impl<M: RingMemory> Batch<'_, M> {
    /// Adds an in-band packet behind the packets already in the batch, without
    /// a loop over parts as [`Batch::push`] has it. `transaction_id` is not 0
    /// when a completion is requested.
    ///
    /// # Errors
    ///
    /// See [`SendError`]. The batch is as before then and can be committed.
    // Always: a call would carry the payload through memory.
    #[inline(always)]
    pub fn push_units<const N: usize>(
        &mut self,
        flags: PacketFlags,
        transaction_id: u64,
        payload: &[U64; N],
    ) -> Result<(), SendError> {
        self.push_sized(PacketType::DATA_INBAND, flags, transaction_id, payload)
    }

    /// Adds the completion of the host's packet with that id behind the packets
    /// already in the batch, in the same way.
    ///
    /// # Errors
    ///
    /// See [`SendError`]. The batch is as before then and can be committed.
    #[inline(always)]
    pub fn push_completion<const N: usize>(
        &mut self,
        transaction_id: u64,
        payload: &[U64; N],
    ) -> Result<(), SendError> {
        let flags = PacketFlags::empty();
        self.push_sized(PacketType::COMPLETION, flags, transaction_id, payload)
    }

    #[inline(always)]
    fn push_sized<const N: usize>(
        &mut self,
        packet_type: PacketType,
        flags: PacketFlags,
        transaction_id: u64,
        payload: &[U64; N],
    ) -> Result<(), SendError> {
        let len8 = u16::try_from(N)
            .ok()
            .and_then(|units| units.checked_add(HEAD_UNITS))
            .ok_or(SendError::TooLarge)?;
        let descriptor = PacketDescriptor {
            packet_type: U16::new(packet_type.0),
            offset8: U16::new(HEAD_UNITS),
            len8: U16::new(len8),
            flags: U16::new(flags.bits()),
            transaction_id: U64::new(transaction_id),
        };
        let needed = descriptor.len_bytes().wrapping_add(TRAILER);
        self.reserve(needed)?;

        let [head, id] = descriptor.units();
        let mut span = self.span(needed);
        span.put(&[head, id]);
        span.put(payload);
        span.put(&[self.trailer()]);
        drop(span);
        self.end_packet(needed);
        Ok(())
    }
}
