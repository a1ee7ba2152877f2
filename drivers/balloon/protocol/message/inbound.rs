// SPDX-License-Identifier: GPL-2.0

//! Messages the host sends.

use super::{Header, MAX_RANGES};
use crate::range::{PageRange, RangeError, WireRange};
use core::{
    fmt,
    mem::{offset_of, size_of},
};
use static_assertions::const_assert_eq;
use zerocopy::{
    little_endian::{U32, U64},
    FromBytes as _, Immutable as ImmutableTrait, KnownLayout as KnownLayoutTrait,
    Unaligned as UnalignedTrait,
};
use zerocopy_derive::{FromBytes, Immutable, KnownLayout, Unaligned};

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireAccepted {
    header: Header,
    accepted: U64,
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireBalloon {
    header: Header,
    page_count: U32,
    reserved: U32,
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireUnballoon {
    header: Header,
    more: U32,
    range_count: U32,
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireHotAdd {
    header: Header,
    range: WireRange,
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireHotAddRegion {
    header: Header,
    range: WireRange,
    region: WireRange,
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WireInfo {
    header: Header,
    reserved: U32,
    info_size: U32,
    info_type: U32,
    data_size: U32,
}

const_assert_eq!(size_of::<WireAccepted>(), 16);
const_assert_eq!(size_of::<WireBalloon>(), 16);
const_assert_eq!(size_of::<WireUnballoon>(), 16);
const_assert_eq!(offset_of!(WireUnballoon, range_count), 12);
const_assert_eq!(size_of::<WireHotAdd>(), 16);
const_assert_eq!(size_of::<WireHotAddRegion>(), 24);
const_assert_eq!(size_of::<WireInfo>(), 24);
const_assert_eq!(offset_of!(WireInfo, info_type), 16);

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// There is not even a head.
    NoHeader {
        /// Bytes received.
        got: usize,
    },
    /// Not a number the host sends; messages of the guest echoed back too.
    Unexpected {
        /// The number in the message.
        kind: u16,
    },
    /// The received bytes or the size in the head do not cover the message.
    TooShort {
        /// The number.
        kind: u16,
        /// Bytes received.
        got: usize,
        /// Size in the head.
        size: u16,
        /// Bytes needed.
        want: usize,
    },
    /// More ranges than the received bytes and the size in the head cover.
    RangeCount {
        /// The claimed count.
        count: u32,
        /// The largest possible one.
        limit: u32,
        /// More messages of this request follow.
        more_pages: bool,
    },
    /// The range to hot-add, or its region, is nonsense.
    Range(RangeError),
}

impl From<RangeError> for MessageError {
    fn from(error: RangeError) -> Self {
        MessageError::Range(error)
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::NoHeader { got } => write!(f, "message of {got} bytes has no header"),
            MessageError::Unexpected { kind } => write!(f, "unexpected message of type {kind}"),
            MessageError::TooShort {
                kind,
                got,
                size,
                want,
            } => write!(
                f,
                "message of type {kind} too short: {got} bytes, size {size}, want {want}"
            ),
            MessageError::RangeCount { count, limit, .. } => {
                write!(f, "{count} ranges claimed, at most {limit} are there")
            }
            MessageError::Range(error) => fmt::Display::fmt(error, f),
        }
    }
}

/// UNBALLOON_REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unballoon<'a> {
    /// More messages of this request follow; answer only the last.
    pub more_pages: bool,
    /// Exactly the announced ranges. Check them with
    /// [`check_set`](crate::range::check_set) before acting on any.
    pub ranges: &'a [WireRange],
}

/// HOT_ADD_REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotAdd {
    /// Memory to bring in.
    pub range: PageRange,
    /// The region it belongs to, if the host names one. What of the range it does not hold is not
    /// added.
    pub region: Option<PageRange>,
    /// The host used the form with a region, even if it named none: the guest
    /// must not make a region up.
    pub host_regions: bool,
}

/// INFO_MESSAGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Info {
    /// Most pages the guest will ever have, in 4 KiB units.
    MaxPageCount(u64),
    /// Something else.
    Unknown {
        /// The type of information, as the host numbers it.
        info_type: u32,
    },
}

/// A parsed message from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound<'a> {
    /// Answer to a version proposal.
    VersionResponse {
        /// The version is accepted.
        accepted: bool,
    },
    /// Answer to the capabilities.
    CapabilitiesResponse {
        /// The capabilities are accepted.
        accepted: bool,
    },
    /// The host wants that many pages.
    BalloonRequest {
        /// Pages of 4 KiB.
        page_count: u32,
    },
    /// The host returns pages.
    UnballoonRequest(Unballoon<'a>),
    /// The host offers memory.
    HotAddRequest(HotAdd),
    /// The host tells a figure; no answer.
    Info(Info),
}

/// A message cut to what both the received length and the head cover.
struct Framed<'a> {
    bytes: &'a [u8],
    got: usize,
    kind: u16,
    size: u16,
}

impl<'a> Framed<'a> {
    fn new(received: &'a [u8]) -> Result<Self, MessageError> {
        let no_header = MessageError::NoHeader {
            got: received.len(),
        };
        let (header, _) = Header::ref_from_prefix(received).map_err(|_| no_header)?;
        let size = header.size.get();
        let covered = received.len().min(usize::from(size));
        Ok(Framed {
            bytes: received.get(..covered).unwrap_or_default(),
            got: received.len(),
            kind: header.kind.get(),
            size,
        })
    }

    fn fixed<T>(&self) -> Result<(&'a T, &'a [u8]), MessageError>
    where
        T: zerocopy::FromBytes + KnownLayoutTrait + ImmutableTrait + UnalignedTrait,
    {
        T::ref_from_prefix(self.bytes).map_err(|_| MessageError::TooShort {
            kind: self.kind,
            got: self.got,
            size: self.size,
            want: size_of::<T>(),
        })
    }
}

impl<'a> Inbound<'a> {
    /// Parses a received message. Only bytes that were received *and* that the
    /// head's size covers are looked at; bytes behind are ignored.
    ///
    /// # Errors
    ///
    /// See [`MessageError`]; the message has to be dropped.
    pub fn parse(received: &'a [u8]) -> Result<Self, MessageError> {
        let framed = Framed::new(received)?;
        match framed.kind {
            2 => Ok(Inbound::VersionResponse {
                accepted: accepted(&framed)?,
            }),
            4 => Ok(Inbound::CapabilitiesResponse {
                accepted: accepted(&framed)?,
            }),
            6 => {
                let (message, _) = framed.fixed::<WireBalloon>()?;
                Ok(Inbound::BalloonRequest {
                    page_count: message.page_count.get(),
                })
            }
            8 => parse_unballoon(&framed).map(Inbound::UnballoonRequest),
            10 => parse_hot_add(&framed).map(Inbound::HotAddRequest),
            12 => parse_info(&framed).map(Inbound::Info),
            kind => Err(MessageError::Unexpected { kind }),
        }
    }
}

fn accepted(framed: &Framed<'_>) -> Result<bool, MessageError> {
    let (message, _) = framed.fixed::<WireAccepted>()?;
    Ok(message.accepted.get() & 1 != 0)
}

fn parse_unballoon<'a>(framed: &Framed<'a>) -> Result<Unballoon<'a>, MessageError> {
    let (message, rest) = framed.fixed::<WireUnballoon>()?;
    let room = rest.len() / size_of::<WireRange>();
    let limit = room.min(MAX_RANGES);
    let count = message.range_count.get();
    let more_pages = message.more.get() & 1 != 0;
    let error = MessageError::RangeCount {
        count,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        more_pages,
    };
    let elements = usize::try_from(count)
        .ok()
        .filter(|count| *count <= limit)
        .ok_or(error)?;
    let (ranges, _) =
        <[WireRange]>::ref_from_prefix_with_elems(rest, elements).map_err(|_| error)?;
    Ok(Unballoon { more_pages, ranges })
}

/// The size in the head tells the two forms apart, as in
/// `drivers/hv/hv_balloon.c:balloon_onchannelcallback`.
fn parse_hot_add(framed: &Framed<'_>) -> Result<HotAdd, MessageError> {
    if usize::from(framed.size) == size_of::<WireHotAdd>() {
        let (message, _) = framed.fixed::<WireHotAdd>()?;
        return Ok(HotAdd {
            range: PageRange::try_from(message.range)?,
            region: None,
            host_regions: false,
        });
    }
    let (message, _) = framed.fixed::<WireHotAddRegion>()?;
    let range = PageRange::try_from(message.range)?;
    let region = match PageRange::try_from(message.region) {
        Ok(region) => Some(region),
        // A region without pages is how a host says that there is none.
        Err(RangeError::Empty { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(HotAdd {
        range,
        region,
        host_regions: true,
    })
}

fn parse_info(framed: &Framed<'_>) -> Result<Info, MessageError> {
    let (message, data) = framed.fixed::<WireInfo>()?;
    match (message.info_type.get(), message.data_size.get()) {
        (0, 8) => {
            let value = data.first_chunk::<8>().ok_or(MessageError::TooShort {
                kind: framed.kind,
                got: framed.got,
                size: framed.size,
                want: 32,
            })?;
            Ok(Info::MaxPageCount(u64::from_le_bytes(*value)))
        }
        (info_type, _) => Ok(Info::Unknown { info_type }),
    }
}
