// SPDX-License-Identifier: GPL-2.0

//! The consumer's side of a ring.

use crate::{
    memory::{advance, check_size, distance, index_ok, Field, RingMemory, SizeError},
    signal::frees_enough,
    TRAILER,
};
use core::fmt;
use vmbus_protocol::packet::{
    PacketDescriptor, PacketFlags, PacketLayout, PacketType, DESCRIPTOR_LEN,
};
use zerocopy::transmute;

/// Fewest bytes a packet takes: descriptor and trailer.
const MIN_PACKET: u32 = 24;

/// A packet in private memory.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    descriptor: PacketDescriptor,
    header: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Its type.
    #[inline]
    #[must_use]
    pub fn packet_type(&self) -> PacketType {
        self.descriptor.kind()
    }

    /// Its flags.
    #[inline]
    #[must_use]
    pub fn flags(&self) -> PacketFlags {
        self.descriptor.packet_flags()
    }

    /// The sender wants a completion.
    #[inline]
    #[must_use]
    pub fn completion_requested(&self) -> bool {
        self.flags().contains(PacketFlags::COMPLETION_REQUESTED)
    }

    /// Its transaction id, unchecked.
    #[inline]
    #[must_use]
    pub fn transaction_id(&self) -> u64 {
        self.descriptor.transaction_id.get()
    }

    /// The descriptor, as it was checked.
    #[inline]
    #[must_use]
    pub fn descriptor(&self) -> &PacketDescriptor {
        &self.descriptor
    }

    /// The type-specific header behind the descriptor; its length is a
    /// multiple of 8.
    #[inline]
    #[must_use]
    pub fn header(&self) -> &'a [u8] {
        self.header
    }

    /// The payload, with up to 7 bytes of padding at its end.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Why no packet was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// A well-formed packet is longer than the buffer. It was skipped as a
    /// whole; the next read goes on behind it.
    TooLarge {
        /// Bytes of the packet.
        len: u32,
        /// Bytes of the buffer.
        limit: u32,
        /// Its type.
        packet_type: PacketType,
        /// Its transaction id.
        transaction_id: u64,
    },
    /// The host's write index is out of range, not a multiple of 8, or leaves
    /// less than a packet. Final: every later read fails alike.
    CorruptIndex {
        /// The write index.
        write_index: u32,
        /// The guest's position.
        read_index: u32,
        /// The data's length.
        data_len: u32,
    },
    /// A descriptor contradicts itself or what was written. Final: there is
    /// no way to tell where the next packet starts.
    CorruptDescriptor {
        /// Length in 8-byte units, as claimed.
        len8: u16,
        /// Payload offset in 8-byte units, as claimed.
        offset8: u16,
        /// Bytes there are, the trailer included.
        available: u32,
        /// Where the packet starts.
        read_index: u32,
    },
}

impl ReadError {
    /// The channel is broken for good and has to be closed.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        !matches!(self, ReadError::TooLarge { .. })
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::TooLarge {
                len,
                limit,
                packet_type,
                ..
            } => write!(
                f,
                "packet of type {} and {len} bytes skipped, at most {limit} expected",
                packet_type.0
            ),
            ReadError::CorruptIndex {
                write_index,
                read_index,
                data_len,
            } => write!(
                f,
                "inbound ring corrupt: write index {write_index}, read index {read_index}, size {data_len}"
            ),
            ReadError::CorruptDescriptor {
                len8,
                offset8,
                available,
                read_index,
            } => write!(
                f,
                "inbound packet corrupt at {read_index}: len8 {len8}, offset8 {offset8}, {available} bytes there"
            ),
        }
    }
}

/// The guest's end of the host-to-guest ring.
///
/// The read position is private, and so is the end of what the host has
/// published: the shared write index is loaded again only once everything up
/// to the last known one was read.
#[derive(Debug)]
pub struct Reader<M> {
    memory: M,
    data_len: u32,
    /// Next byte to read.
    read: u32,
    /// Last read index the host was told.
    published: u32,
    /// Last write index that was checked.
    write: u32,
    broken: Option<ReadError>,
}

impl<M: RingMemory> Reader<M> {
    /// Starts at the beginning of an empty ring.
    ///
    /// # Errors
    ///
    /// When the data's size is unusable.
    pub fn new(memory: M) -> Result<Self, SizeError> {
        let data_len = check_size(memory.data_len())?;
        Ok(Reader {
            memory,
            data_len,
            read: 0,
            published: 0,
            write: 0,
            broken: None,
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

    /// The channel is broken.
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    #[cold]
    fn fail(&mut self, error: ReadError) -> ReadError {
        self.broken = Some(error);
        error
    }

    /// Bytes that can be read, after a look at the host's index if needed.
    #[inline]
    fn available(&mut self) -> Result<u32, ReadError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if self.read == self.write {
            // Acquire: the packets are there when the index says so.
            let write_index = self.memory.load_acquire(Field::WriteIndex);
            let available = if index_ok(write_index, self.data_len) {
                distance(self.read, write_index, self.data_len)
            } else {
                1
            };
            if available != 0 && available < MIN_PACKET {
                return Err(self.fail(ReadError::CorruptIndex {
                    write_index,
                    read_index: self.read,
                    data_len: self.data_len,
                }));
            }
            self.write = write_index;
        }
        Ok(distance(self.read, self.write, self.data_len))
    }

    /// Takes the descriptor at the read position out, once, and checks it.
    #[inline]
    fn descriptor(
        &mut self,
        available: u32,
    ) -> Result<(PacketDescriptor, PacketLayout), ReadError> {
        let descriptor: PacketDescriptor = transmute!(self.memory.get_units::<2>(self.read));
        match descriptor.layout() {
            // At most 0xffff * 8 + 8: no overflow.
            Some(layout) if layout.len.wrapping_add(TRAILER) <= available => {
                Ok((descriptor, layout))
            }
            _ => Err(self.fail(ReadError::CorruptDescriptor {
                len8: descriptor.len8.get(),
                offset8: descriptor.offset8.get(),
                available,
                read_index: self.read,
            })),
        }
    }

    /// Copies the next packet into `buf` and moves on; `None` when there is
    /// none. `buf` has to hold descriptor, header and payload.
    ///
    /// The host learns about it at [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    #[inline]
    pub fn next<'b>(&mut self, buf: &'b mut [u8]) -> Result<Option<Packet<'b>>, ReadError> {
        self.next_if(buf, |_| true)
    }

    /// As [`next`](Self::next), if `wanted` says so of the packet's descriptor, which is the one
    /// that the packet has then; `None` also when it does not, and the packet stays where it is.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    #[inline]
    pub fn next_if<'b>(
        &mut self,
        buf: &'b mut [u8],
        wanted: impl FnOnce(&PacketDescriptor) -> bool,
    ) -> Result<Option<Packet<'b>>, ReadError> {
        let available = self.available()?;
        if available == 0 {
            return Ok(None);
        }
        let (descriptor, layout) = self.descriptor(available)?;
        if !wanted(&descriptor) {
            return Ok(None);
        }
        let start = self.read;
        self.read = advance(start, layout.len.wrapping_add(TRAILER), self.data_len);

        let limit = buf.len();
        let parts = usize::try_from(layout.len)
            .ok()
            .and_then(|len| buf.get_mut(..len))
            .and_then(|packet| packet.split_at_mut_checked(DESCRIPTOR_LEN));
        let Some((_, body)) = parts else {
            return Err(too_large(&descriptor, limit));
        };
        if !body.is_empty() {
            let body_start = advance(start, MIN_PACKET.wrapping_sub(TRAILER), self.data_len);
            self.memory.copy_out(body_start, body);
        }
        let header_len = layout.payload_offset.saturating_sub(16);
        let split = usize::try_from(header_len)
            .ok()
            .and_then(|len| body.split_at_checked(len));
        let Some((header, payload)) = split else {
            return Err(too_large(&descriptor, limit));
        };
        Ok(Some(Packet {
            descriptor,
            header,
            payload,
        }))
    }

    /// Gives the space of all packets read so far back to the host. True when
    /// the host waits for it and has to be signalled.
    #[inline]
    #[must_use = "a host that waits for space has to be signalled"]
    pub fn finish(&mut self) -> bool {
        if self.read == self.published {
            return false;
        }
        let bytes_read = distance(self.published, self.read, self.data_len);
        // Release: the copies are done before the host may overwrite.
        self.memory.store_release(Field::ReadIndex, self.read);
        self.published = self.read;
        frees_enough(&self.memory, self.read, bytes_read)
    }

    /// Asks the host not to interrupt while the ring is drained.
    #[inline]
    pub fn mask(&self) {
        mask(&self.memory);
    }

    /// Asks for interrupts again and looks whether something came in since:
    /// true means [`mask`](Self::mask) and read on, for no interrupt will
    /// come. A broken ring reads as empty.
    #[inline]
    #[must_use = "true means that no interrupt will announce what is there"]
    pub fn unmask_and_check(&self) -> bool {
        self.memory.store(Field::InterruptMask, 0);
        self.memory.full_barrier();
        self.broken.is_none() && self.memory.load(Field::WriteIndex) != self.read
    }
}

/// Asks the host not to interrupt for the ring, for who has not the reader at
/// hand. The reader asks for interrupts again.
#[inline]
pub fn mask<M: RingMemory>(memory: &M) {
    memory.store(Field::InterruptMask, 1);
    memory.full_barrier();
}

#[cold]
fn too_large(descriptor: &PacketDescriptor, limit: usize) -> ReadError {
    ReadError::TooLarge {
        len: descriptor.len_bytes(),
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        packet_type: descriptor.kind(),
        transaction_id: descriptor.transaction_id.get(),
    }
}
