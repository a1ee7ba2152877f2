// SPDX-License-Identifier: GPL-2.0

//! Transfer-page packets: which parts of the receive buffer hold what the host
//! sends.

use crate::{
    buffers::Layout,
    inbound::MessageError,
    nvsp::{Kind, RECEIVE_BUFFER_ID},
    rx::Range,
};
use core::fmt;
use vmbus_protocol::packet::{HeaderError, TransferPages, TransferRange};

/// Most ranges of a packet. Limits the packets that a channel has to take.
pub const MAX_RANGES: u32 = 562;
/// Most bytes of a packet, with its descriptor: what the C driver takes.
pub const MAX_PACKET: usize = 4624;

/// Why a packet is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// Its NVSP message is not one that carries RNDIS.
    Message(MessageError),
    /// Its header is too short for what it claims.
    Header(HeaderError),
    /// It names memory that is not the receive buffer.
    Pageset(u16),
    /// It names nothing.
    Empty,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(error) => error.fmt(f),
            Self::Header(HeaderError::TooShort { got, want }) => {
                write!(f, "transfer header of {got} bytes, {want} expected")
            }
            Self::Header(HeaderError::TooManyRanges { count, limit }) => {
                write!(f, "{count} ranges, at most {limit} expected")
            }
            Self::Pageset(id) => write!(f, "page set {id:#x}"),
            Self::Empty => f.write_str("no ranges"),
        }
    }
}

/// A packet that names parts of the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Transfer<'a> {
    ranges: &'a [TransferRange],
    layout: Layout,
}

impl<'a> Transfer<'a> {
    /// Judges a packet by its header and payload, a private copy.
    ///
    /// # Errors
    ///
    /// See [`TransferError`]. The packet has to be completed all the same, or
    /// the host never uses its part of the buffer again.
    #[inline]
    pub fn parse(layout: Layout, header: &'a [u8], payload: &[u8]) -> Result<Self, TransferError> {
        let kind = crate::bytes::u32_at(payload, 0).unwrap_or(0);
        if Kind(kind) != Kind::RNDIS {
            return Err(TransferError::Message(MessageError::Unexpected(kind)));
        }
        let pages = TransferPages::parse(header, MAX_RANGES).map_err(TransferError::Header)?;
        let id = pages.header.pageset_id.get();
        if id != RECEIVE_BUFFER_ID {
            return Err(TransferError::Pageset(id));
        }
        if pages.ranges.is_empty() {
            return Err(TransferError::Empty);
        }
        Ok(Transfer {
            ranges: pages.ranges,
            layout,
        })
    }

    /// The ranges; `None` for one that is not inside of the buffer, or longer
    /// than a section.
    #[inline]
    pub fn ranges(&self) -> impl Iterator<Item = Option<Range>> + 'a {
        let Layout { section, count } = self.layout;
        let bytes = section.saturating_mul(count);
        self.ranges.iter().map(move |range| {
            let (start, end) = range.within(bytes)?;
            let len = end.checked_sub(start).filter(|len| *len <= section)?;
            Some(Range { start, len })
        })
    }

    /// How many ranges there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Never true.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}
