// SPDX-License-Identifier: GPL-2.0

//! The producer's side of a ring.

mod batch;

pub use batch::Batch;

use crate::memory::{check_size, distance, index_ok, Field, RingMemory, SizeError};
use core::fmt;
use vmbus_protocol::packet::{PacketFlags, PacketType, DESCRIPTOR_LEN};

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
pub struct Published {
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
    pub fn send(&mut self, packet: &OutgoingPacket<'_>) -> Result<Published, SendError> {
        let mut batch = self.batch();
        batch.push(packet)?;
        Ok(batch.commit())
    }

    /// Starts a batch: several packets, published together with one signal.
    /// A batch that is dropped without [`Batch::commit`] leaves no trace.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, M> {
        Batch::new(self)
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

const _: () = assert!(DESCRIPTOR_LEN == 16);
