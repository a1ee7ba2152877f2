// SPDX-License-Identifier: GPL-2.0

//! Packets of the ring buffers (`include/linux/hyperv.h`,
//! `struct vmpacket_descriptor` and friends).
//!
//! A packet is a 16-byte descriptor, a header that depends on the type, the
//! payload, padding to 8 bytes, and an 8-byte trailer that is not part of the
//! lengths.

use bitflags::bitflags;
use core::mem::{offset_of, size_of};
use static_assertions::const_assert_eq;
use zerocopy::{
    little_endian::{U16, U32, U64},
    FromBytes as _,
};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a packet descriptor.
pub const DESCRIPTOR_LEN: usize = 16;

/// Packet types (`enum vmbus_packet_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketType(pub u16);

impl PacketType {
    /// Payload in the ring.
    pub const DATA_INBAND: PacketType = PacketType(6);
    /// Payload in transfer pages.
    pub const DATA_USING_TRANSFER_PAGES: PacketType = PacketType(7);
    /// Payload in a GPADL.
    pub const DATA_USING_GPADL: PacketType = PacketType(8);
    /// Payload and pages named by guest-physical address.
    pub const DATA_USING_GPA_DIRECT: PacketType = PacketType(9);
    /// A request is cancelled.
    pub const CANCEL_REQUEST: PacketType = PacketType(10);
    /// Completion of a request.
    pub const COMPLETION: PacketType = PacketType(11);
}

bitflags! {
    /// Packet flags. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PacketFlags: u16 {
        /// The sender wants a completion packet.
        const COMPLETION_REQUESTED = 1;
        const _ = !0;
    }
}

/// The descriptor at the start of each packet.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct PacketDescriptor {
    /// A [`PacketType`].
    pub packet_type: U16,
    /// Offset of the payload from the descriptor, in 8-byte units.
    pub offset8: U16,
    /// Length with the descriptor, without the trailer, in 8-byte units.
    pub len8: U16,
    /// [`PacketFlags`].
    pub flags: U16,
    /// Chosen by the sender of a request, repeated in its completion.
    pub transaction_id: U64,
}

const_assert_eq!(size_of::<PacketDescriptor>(), DESCRIPTOR_LEN);
const_assert_eq!(offset_of!(PacketDescriptor, offset8), 2);
const_assert_eq!(offset_of!(PacketDescriptor, len8), 4);
const_assert_eq!(offset_of!(PacketDescriptor, flags), 6);
const_assert_eq!(offset_of!(PacketDescriptor, transaction_id), 8);

/// Where the parts of a packet lie, in bytes from its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketLayout {
    /// Start of the payload.
    pub payload_offset: u32,
    /// End of the payload and of the packet, without the trailer.
    pub len: u32,
}

impl PacketDescriptor {
    /// Makes a descriptor for `header_len` bytes of type-specific header (a
    /// multiple of 8) and `payload_len` bytes of payload, which is padded to
    /// 8 bytes. `None` when the lengths cannot be expressed.
    #[inline]
    #[must_use]
    pub fn new(
        packet_type: PacketType,
        flags: PacketFlags,
        transaction_id: u64,
        header_len: usize,
        payload_len: usize,
    ) -> Option<Self> {
        if header_len % 8 != 0 {
            return None;
        }
        let offset = header_len.checked_add(DESCRIPTOR_LEN)?;
        let len = offset
            .checked_add(payload_len)?
            .checked_next_multiple_of(8)?;
        Some(PacketDescriptor {
            packet_type: U16::new(packet_type.0),
            offset8: U16::new(u16::try_from(offset / 8).ok()?),
            len8: U16::new(u16::try_from(len / 8).ok()?),
            flags: U16::new(flags.bits()),
            transaction_id: U64::new(transaction_id),
        })
    }

    /// The descriptor in units of 8 bytes, as it stands in a ring.
    #[inline]
    #[must_use]
    pub fn units(&self) -> [U64; 2] {
        let head = u64::from(self.packet_type.get())
            | (u64::from(self.offset8.get()) << 16)
            | (u64::from(self.len8.get()) << 32)
            | (u64::from(self.flags.get()) << 48);
        [U64::new(head), self.transaction_id]
    }

    /// The type.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> PacketType {
        PacketType(self.packet_type.get())
    }

    /// The flags.
    #[inline]
    #[must_use]
    pub fn packet_flags(&self) -> PacketFlags {
        PacketFlags::from_bits_retain(self.flags.get())
    }

    /// Bytes of the packet without its trailer, as claimed.
    #[inline]
    #[must_use]
    pub fn len_bytes(&self) -> u32 {
        u32::from(self.len8.get()).wrapping_mul(8)
    }

    /// The checked layout. `None` for a descriptor that contradicts itself:
    /// shorter than itself, or a payload outside of the packet.
    #[inline]
    #[must_use]
    pub fn layout(&self) -> Option<PacketLayout> {
        let len = self.len_bytes();
        let payload_offset = u32::from(self.offset8.get()).wrapping_mul(8);
        let minimum = 16;
        (payload_offset >= minimum && payload_offset <= len).then_some(PacketLayout {
            payload_offset,
            len,
        })
    }
}

/// Head of a GPA-direct packet's header, right after the descriptor.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct GpaDirectHeader {
    /// Zero.
    pub reserved: U32,
    /// Number of ranges that follow.
    pub range_count: U32,
}

impl GpaDirectHeader {
    /// A head for `range_count` ranges.
    #[inline]
    #[must_use]
    pub fn new(range_count: u32) -> Self {
        GpaDirectHeader {
            reserved: U32::new(0),
            range_count: U32::new(range_count),
        }
    }
}

/// Head of one range of guest-physical memory; the page numbers (u64, little
/// endian) follow, as many as the range touches.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct GpaRange {
    /// Bytes in the range.
    pub byte_count: U32,
    /// Where the range starts in its first 4 KiB page.
    pub byte_offset: U32,
}

impl GpaRange {
    /// Makes a head.
    #[inline]
    #[must_use]
    pub fn new(byte_count: u32, byte_offset: u32) -> Self {
        GpaRange {
            byte_count: U32::new(byte_count),
            byte_offset: U32::new(byte_offset),
        }
    }

    /// Number of 4 KiB pages the range touches.
    #[inline]
    #[must_use]
    pub fn page_count(&self) -> u32 {
        let end = u64::from(self.byte_count.get())
            .wrapping_add(u64::from(self.byte_offset.get()))
            .wrapping_add(4095);
        // At most 2^33 / 4096 pages.
        u32::try_from(end / 4096).unwrap_or(u32::MAX)
    }
}

/// A range of at most one page: head and page number in one
/// (`struct hv_page_buffer`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct PageBuffer {
    /// The head.
    pub range: GpaRange,
    /// 4 KiB page number.
    pub pfn: U64,
}

impl PageBuffer {
    /// Makes a range of `len` bytes from `offset` in page `pfn`.
    #[inline]
    #[must_use]
    pub fn new(len: u32, offset: u32, pfn: u64) -> Self {
        PageBuffer {
            range: GpaRange::new(len, offset),
            pfn: U64::new(pfn),
        }
    }
}

/// Head of a transfer-pages packet's header, right after the descriptor.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TransferPagesHeader {
    /// Names the shared memory, by agreement of the endpoints.
    pub pageset_id: U16,
    /// Whether the sender owns the set.
    pub sender_owns_set: u8,
    /// Zero.
    pub reserved: u8,
    /// Number of ranges that follow.
    pub range_count: U32,
}

/// One range of a transfer-pages packet.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TransferRange {
    /// Bytes of the range.
    pub byte_count: U32,
    /// Offset in the shared memory.
    pub byte_offset: U32,
}

const_assert_eq!(size_of::<GpaDirectHeader>(), 8);
const_assert_eq!(size_of::<GpaRange>(), 8);
const_assert_eq!(size_of::<PageBuffer>(), 16);
const_assert_eq!(size_of::<TransferPagesHeader>(), 8);
const_assert_eq!(offset_of!(TransferPagesHeader, range_count), 4);
const_assert_eq!(size_of::<TransferRange>(), 8);

/// Why a type-specific packet header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The header ends before its fixed part.
    TooShort {
        /// Bytes there are.
        got: usize,
        /// Bytes needed.
        want: usize,
    },
    /// More ranges than fit into the header or than the caller allows.
    TooManyRanges {
        /// The claimed count.
        count: u32,
        /// The largest possible one.
        limit: u32,
    },
}

/// A checked transfer-pages header.
#[derive(Clone, Copy, Debug)]
pub struct TransferPages<'a> {
    /// The fixed part.
    pub header: &'a TransferPagesHeader,
    /// Exactly the announced ranges. They are not checked against the shared
    /// memory's size; use [`TransferRange::within`].
    pub ranges: &'a [TransferRange],
}

impl<'a> TransferPages<'a> {
    /// Parses the bytes between descriptor and payload of a private copy of
    /// the packet. The count must be covered by those bytes and be at most
    /// `max_ranges`.
    ///
    /// # Errors
    ///
    /// See [`HeaderError`].
    pub fn parse(bytes: &'a [u8], max_ranges: u32) -> Result<Self, HeaderError> {
        let want = size_of::<TransferPagesHeader>();
        let (header, rest) =
            TransferPagesHeader::ref_from_prefix(bytes).map_err(|_| HeaderError::TooShort {
                got: bytes.len(),
                want,
            })?;
        let count = header.range_count.get();
        let room = u32::try_from(rest.len() / size_of::<TransferRange>()).unwrap_or(u32::MAX);
        let limit = room.min(max_ranges);
        let too_many = HeaderError::TooManyRanges { count, limit };
        if count > limit {
            return Err(too_many);
        }
        let elements = usize::try_from(count).map_err(|_| too_many)?;
        let (ranges, _) =
            <[TransferRange]>::ref_from_prefix_with_elems(rest, elements).map_err(|_| too_many)?;
        Ok(TransferPages { header, ranges })
    }
}

impl TransferRange {
    /// The range as start and end if it lies within `size` bytes.
    #[inline]
    #[must_use]
    pub fn within(&self, size: u32) -> Option<(u32, u32)> {
        let start = self.byte_offset.get();
        let end = start.checked_add(self.byte_count.get())?;
        (end <= size).then_some((start, end))
    }
}
