// SPDX-License-Identifier: GPL-2.0

//! The producer's side of a ring.

use crate::{
    memory::{advance, check_size, distance, index_ok, Field, RingMemory, SizeError},
    signal::wants_signal,
    TRAILER,
};
use core::fmt;
use vmbus_protocol::packet::{PacketDescriptor, PacketFlags, PacketType, DESCRIPTOR_LEN};
use zerocopy::{little_endian::U64, IntoBytes};

/// A packet to send.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingPacket<'a> {
    /// Its type.
    pub packet_type: PacketType,
    /// Its flags.
    pub flags: PacketFlags,
    /// Transaction id; not 0 when a completion is requested.
    pub transaction_id: u64,
    /// Type-specific header, in parts; together a multiple of 8 bytes.
    pub header: &'a [&'a [u8]],
    /// Payload, in parts; padded with zeros to 8 bytes.
    pub payload: &'a [&'a [u8]],
}

impl<'a> OutgoingPacket<'a> {
    /// An in-band packet without a header.
    #[inline]
    #[must_use]
    pub fn inband(flags: PacketFlags, transaction_id: u64, payload: &'a [&'a [u8]]) -> Self {
        OutgoingPacket {
            packet_type: PacketType::DATA_INBAND,
            flags,
            transaction_id,
            header: &[],
            payload,
        }
    }

    /// A completion of the packet with this transaction id.
    #[inline]
    #[must_use]
    pub fn completion(transaction_id: u64, payload: &'a [&'a [u8]]) -> Self {
        OutgoingPacket {
            packet_type: PacketType::COMPLETION,
            flags: PacketFlags::empty(),
            transaction_id,
            header: &[],
            payload,
        }
    }
}

/// Why a packet was not sent; nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Not enough space now. `needed` is what to pass to
    /// [`Writer::wait_for`].
    Full {
        /// Bytes with the trailer.
        needed: u32,
        /// Bytes that are free.
        free: u32,
    },
    /// The host's read index is out of range: the channel is broken.
    Corrupt {
        /// The read index.
        read_index: u32,
        /// The data's length.
        data_len: u32,
    },
    /// The packet can never fit, or its header is not a multiple of 8 bytes.
    TooLarge,
    /// Not as many page numbers as the range touches.
    PageCount {
        /// Pages the range touches.
        expected: u32,
    },
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full { needed, free } => {
                write!(f, "ring full: {needed} bytes needed, {free} free")
            }
            SendError::Corrupt {
                read_index,
                data_len,
            } => write!(
                f,
                "outbound ring corrupt: read index {read_index}, size {data_len}"
            ),
            SendError::TooLarge => f.write_str("packet too large for the ring"),
            SendError::PageCount { expected } => {
                write!(f, "not the {expected} pages that the range touches")
            }
        }
    }
}

/// Packets were published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the host has to be signalled when `signal` is set"]
pub struct Sent {
    /// Signal the host.
    pub signal: bool,
    /// Bytes published, trailers included.
    pub bytes: u32,
}

/// Outcome of [`Writer::wait_for`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitState {
    /// There is enough space already; do not wait.
    Ready,
    /// The host will signal when there is.
    Waiting,
}

/// The guest's end of the guest-to-host ring.
///
/// The write position is private: whatever the host does to the shared index,
/// packets are laid out by this one.
#[derive(Debug)]
pub struct Writer<M> {
    memory: M,
    data_len: u32,
    write: u32,
}

impl<M: RingMemory> Writer<M> {
    /// Starts at the beginning of an empty ring.
    ///
    /// # Errors
    ///
    /// When the data's size is unusable.
    pub fn new(memory: M) -> Result<Self, SizeError> {
        let data_len = check_size(memory.data_len())?;
        Ok(Writer {
            memory,
            data_len,
            write: 0,
        })
    }

    /// The memory.
    #[inline]
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Bytes of the data area.
    #[inline]
    pub fn data_len(&self) -> u32 {
        self.data_len
    }

    /// Free bytes after `write`, by the host's read index of now.
    #[inline]
    fn free(&self, write: u32) -> Result<u32, SendError> {
        // Acquire: the host has finished reading what it gives back.
        let read_index = self.memory.load_acquire(Field::ReadIndex);
        if !index_ok(read_index, self.data_len) {
            return Err(SendError::Corrupt {
                read_index,
                data_len: self.data_len,
            });
        }
        Ok(self
            .data_len
            .wrapping_sub(distance(read_index, write, self.data_len)))
    }

    /// Free bytes of the ring; at most all but one of them can be used.
    ///
    /// # Errors
    ///
    /// [`SendError::Corrupt`].
    pub fn bytes_free(&self) -> Result<u32, SendError> {
        self.free(self.write)
    }

    /// Where the next packet is written, in bytes from the start of the data.
    #[inline]
    pub fn position(&self) -> u32 {
        self.write
    }

    /// Sends one packet.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    #[inline]
    pub fn send(&mut self, packet: &OutgoingPacket<'_>) -> Result<Sent, SendError> {
        let mut batch = self.batch();
        batch.push(packet)?;
        Ok(batch.commit())
    }

    /// Starts a batch: several packets, published together with one signal.
    /// A batch that is dropped without [`Batch::commit`] leaves no trace.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, M> {
        let write = self.write;
        Batch {
            writer: self,
            write,
            room: 0,
            keep: 0,
        }
    }

    /// Tells the host to signal once more than `bytes` bytes are free, and
    /// looks again: space that became free before the host could see the
    /// request causes no signal.
    ///
    /// # Errors
    ///
    /// [`SendError::Corrupt`], and [`SendError::TooLarge`] when that much can
    /// never be free.
    pub fn wait_for(&self, bytes: u32) -> Result<WaitState, SendError> {
        if bytes >= self.data_len {
            return Err(SendError::TooLarge);
        }
        self.memory.store(Field::PendingSendSize, bytes);
        self.memory.full_barrier();
        let enough = self.bytes_free().map(|free| free > bytes);
        match enough {
            Ok(false) => Ok(WaitState::Waiting),
            Ok(true) => {
                self.stop_waiting();
                Ok(WaitState::Ready)
            }
            Err(error) => {
                self.stop_waiting();
                Err(error)
            }
        }
    }

    /// Takes a request of [`wait_for`](Self::wait_for) back.
    #[inline]
    pub fn stop_waiting(&self) {
        self.memory.store(Field::PendingSendSize, 0);
    }
}

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

impl<M: RingMemory> Batch<'_, M> {
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
    #[inline]
    pub fn commit(self) -> Sent {
        let bytes = self.bytes();
        if bytes == 0 {
            return Sent {
                signal: false,
                bytes: 0,
            };
        }
        let old_write = self.writer.write;
        self.writer.write = self.write;
        let memory = &self.writer.memory;
        memory.store_release(Field::WriteIndex, self.write);
        Sent {
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

const _: () = assert!(DESCRIPTOR_LEN == 16);
