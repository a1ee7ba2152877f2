// SPDX-License-Identifier: GPL-2.0

//! Dynamic Memory messages (`drivers/hv/hv_balloon.c`, `struct dm_*`).

mod inbound;

pub use inbound::{HotAdd, Inbound, Info, MessageError, Unballoon};

use crate::{range::WireRange, MAX_MESSAGE};
use core::mem::{offset_of, size_of};
use static_assertions::const_assert_eq;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Protocol version 2.0, the only one spoken.
pub const VERSION_2_0: u32 = 2 << 16;
/// Protocol version 1.0; historical.
pub const VERSION_1_0: u32 = 1 << 16;
/// Protocol version 0.3; historical.
pub const VERSION_0_3: u32 = 3;

/// Message numbers (`enum dm_message_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum MessageType {
    /// Guest proposes a version.
    VersionRequest = 1,
    /// Host answers.
    VersionResponse = 2,
    /// Guest states its capabilities.
    Capabilities = 3,
    /// Host answers.
    CapabilitiesResponse = 4,
    /// Guest reports memory pressure; no answer.
    Status = 5,
    /// Host wants pages.
    BalloonRequest = 6,
    /// Guest gives pages; perhaps in several messages.
    BalloonResponse = 7,
    /// Host returns pages; perhaps in several messages.
    UnballoonRequest = 8,
    /// Guest has taken them.
    UnballoonResponse = 9,
    /// Host offers new memory.
    HotAddRequest = 10,
    /// Guest tells how much of it is in use.
    HotAddResponse = 11,
    /// Host informs.
    Info = 12,
}

/// Head of every message.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// A [`MessageType`] number.
    pub kind: U16,
    /// Bytes of the message with this head.
    pub size: U16,
    /// Counted up by the sender.
    pub transaction_id: U32,
}

impl Header {
    /// Makes a head for a message of `size` bytes.
    #[must_use]
    pub const fn new(kind: MessageType, size: u16, transaction_id: u32) -> Self {
        Header {
            kind: U16::new(kind as u16),
            size: U16::new(size),
            transaction_id: U32::new(transaction_id),
        }
    }
}

/// VERSION_REQUEST.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct VersionRequest {
    /// Type 1.
    pub header: Header,
    /// Minor version in the lower, major in the upper 16 bits.
    pub version: U32,
    /// Bit 0: no other version will be proposed.
    pub is_last_attempt: U32,
}

impl VersionRequest {
    /// Builds the message.
    #[must_use]
    pub fn new(transaction_id: u32, version: u32, is_last_attempt: bool) -> Self {
        VersionRequest {
            header: Header::new(MessageType::VersionRequest, 16, transaction_id),
            version: U32::new(version),
            is_last_attempt: U32::new(u32::from(is_last_attempt)),
        }
    }
}

/// What the guest can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilityBits {
    /// It gives memory to the host and takes it back.
    pub balloon: bool,
    /// It takes memory that the host adds.
    pub hot_add: bool,
    /// log2 of the hot-add alignment in MiB, 0 to 15.
    pub hot_add_alignment: u8,
}

/// CAPABILITIES_REPORT.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Capabilities {
    /// Type 3.
    pub header: Header,
    /// Bit 0 balloon, bit 1 hot add, bits 2 to 5 alignment.
    pub bits: U64,
    /// Hosts do not use it; 0.
    pub min_page_count: U64,
    /// Hosts do not use it; all ones.
    pub max_page_number: U64,
}

impl Capabilities {
    /// Builds the message. An alignment above 15 is sent as 15 (32 GiB), the
    /// largest the field holds.
    #[must_use]
    pub fn new(transaction_id: u32, bits: CapabilityBits) -> Self {
        let alignment = u64::from(bits.hot_add_alignment.min(15));
        let value = u64::from(bits.balloon) | (u64::from(bits.hot_add) << 1) | (alignment << 2);
        Capabilities {
            header: Header::new(MessageType::Capabilities, 32, transaction_id),
            bits: U64::new(value),
            min_page_count: U64::new(0),
            max_page_number: U64::new(u64::MAX),
        }
    }
}

/// Values of a pressure report, in 4 KiB units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory that is available.
    pub available: u64,
    /// Memory that is in use or promised.
    pub committed: u64,
}

/// STATUS_REPORT.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Status {
    /// Type 5.
    pub header: Header,
    /// See [`Pressure::available`].
    pub available: U64,
    /// See [`Pressure::committed`].
    pub committed: U64,
    /// Zero; Windows only.
    pub page_file_size: U64,
    /// Zero; Windows only.
    pub zero_free: U64,
    /// Zero; Windows only.
    pub page_file_writes: U32,
    /// Zero; Windows only.
    pub io_diff: U32,
}

impl Status {
    /// Builds the message.
    #[must_use]
    pub fn new(transaction_id: u32, pressure: Pressure) -> Self {
        Status {
            header: Header::new(MessageType::Status, 48, transaction_id),
            available: U64::new(pressure.available),
            committed: U64::new(pressure.committed),
            page_file_size: U64::new(0),
            zero_free: U64::new(0),
            page_file_writes: U32::new(0),
            io_diff: U32::new(0),
        }
    }
}

/// Head of BALLOON_RESPONSE; ranges follow. See
/// [`ResponseBuilder`](crate::response::ResponseBuilder).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct BalloonResponse {
    /// Type 7.
    pub header: Header,
    /// Zero.
    pub reserved: U32,
    /// Bit 0: more messages follow; bits 1 to 31: number of ranges.
    pub more_and_count: U32,
}

impl BalloonResponse {
    /// Builds the head; `None` for more ranges than a message holds.
    #[must_use]
    pub fn new(transaction_id: u32, range_count: usize, more_pages: bool) -> Option<Self> {
        let size = range_count
            .checked_mul(size_of::<WireRange>())?
            .checked_add(size_of::<BalloonResponse>())?;
        if size > MAX_MESSAGE {
            return None;
        }
        let count = u32::try_from(range_count).ok()?;
        Some(BalloonResponse {
            header: Header::new(
                MessageType::BalloonResponse,
                u16::try_from(size).ok()?,
                transaction_id,
            ),
            reserved: U32::new(0),
            more_and_count: U32::new((count << 1) | u32::from(more_pages)),
        })
    }
}

/// Most ranges in one BALLOON_RESPONSE or UNBALLOON_REQUEST.
pub const MAX_RANGES: usize = (MAX_MESSAGE - 16) / 8;

/// UNBALLOON_RESPONSE.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct UnballoonResponse {
    /// Type 9.
    pub header: Header,
}

impl UnballoonResponse {
    /// Builds the message.
    #[must_use]
    pub fn new(transaction_id: u32) -> Self {
        UnballoonResponse {
            header: Header::new(MessageType::UnballoonResponse, 8, transaction_id),
        }
    }
}

/// HOT_ADD_RESPONSE.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct HotAddResponse {
    /// Type 11.
    pub header: Header,
    /// Pages that were added.
    pub page_count: U32,
    /// 1 success (or permanent failure, with no pages), 0 try again.
    pub result: U32,
}

impl HotAddResponse {
    /// Builds the message.
    #[must_use]
    pub fn new(transaction_id: u32, page_count: u32, result: u32) -> Self {
        HotAddResponse {
            header: Header::new(MessageType::HotAddResponse, 16, transaction_id),
            page_count: U32::new(page_count),
            result: U32::new(result),
        }
    }
}

const_assert_eq!(size_of::<Header>(), 8);
const_assert_eq!(offset_of!(Header, size), 2);
const_assert_eq!(offset_of!(Header, transaction_id), 4);
const_assert_eq!(size_of::<VersionRequest>(), 16);
const_assert_eq!(offset_of!(VersionRequest, version), 8);
const_assert_eq!(offset_of!(VersionRequest, is_last_attempt), 12);
const_assert_eq!(size_of::<Capabilities>(), 32);
const_assert_eq!(offset_of!(Capabilities, bits), 8);
const_assert_eq!(offset_of!(Capabilities, min_page_count), 16);
const_assert_eq!(offset_of!(Capabilities, max_page_number), 24);
const_assert_eq!(size_of::<Status>(), 48);
const_assert_eq!(offset_of!(Status, available), 8);
const_assert_eq!(offset_of!(Status, committed), 16);
const_assert_eq!(offset_of!(Status, page_file_writes), 40);
const_assert_eq!(size_of::<BalloonResponse>(), 16);
const_assert_eq!(offset_of!(BalloonResponse, more_and_count), 12);
const_assert_eq!(size_of::<UnballoonResponse>(), 8);
const_assert_eq!(size_of::<HotAddResponse>(), 16);
const_assert_eq!(offset_of!(HotAddResponse, page_count), 8);
const_assert_eq!(offset_of!(HotAddResponse, result), 12);
const_assert_eq!(MAX_RANGES, 510);
