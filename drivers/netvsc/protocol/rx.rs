// SPDX-License-Identifier: GPL-2.0

//! RNDIS messages in the receive buffer.
//!
//! The host can change the buffer at any time. What a decision depends on is
//! copied out ([`Memory`]) and looked at in one copy only; the frame
//! itself is copied where it is going.

use crate::{
    bytes::u32_at,
    frame::{BODY, FIXED_LEN, PACKET},
    ppi::{Incoming, RecordError},
};
use core::{fmt, ops::DerefMut};

/// Bytes of an Ethernet header: no frame is shorter.
pub const ETHERNET_LEN: u32 = 14;
/// Most bytes of records beside one frame.
pub const MAX_INFO: u32 = 256;
/// Most bytes of a coalesced packet: the largest IP packet, and its header.
pub const MAX_COALESCED: u32 = 65_535 + 18;
/// Most bytes of a control message that are looked at.
pub const MAX_CONTROL: usize = 1024;

/// Memory that the host can change. Reading copies.
pub trait Memory {
    /// Copies bytes out, starting at `at`. False when not all of them are
    /// there.
    fn read(&self, at: u32, into: &mut [u8]) -> bool;
}

/// A part of the receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Range {
    /// First byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Range {
    /// `len` bytes at `offset` of this range; `None` when they are not inside.
    #[inline]
    #[must_use]
    pub fn part(self, offset: u32, len: u32) -> Option<Range> {
        let end = offset.checked_add(len)?;
        (end <= self.len).then_some(Range {
            start: self.start.checked_add(offset)?,
            len,
        })
    }
}

/// A frame, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where its bytes are.
    pub data: Range,
    /// What came beside it.
    pub infos: Incoming,
}

/// An RNDIS message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame.
    Frame(Frame),
    /// Anything else; see [`control`].
    Control,
}

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxError {
    /// The range is not inside of the buffer, or longer than a section.
    Range,
    /// The range is too short for a message.
    TooShort(u32),
    /// The message claims to be longer than its range, or too short to be one.
    Length {
        /// Bytes that the message claims.
        message: u32,
        /// Bytes of the range.
        range: u32,
    },
    /// The frame is not inside of the message, or shorter than its header.
    Data {
        /// Its start, as claimed.
        offset: u32,
        /// Its length, as claimed.
        len: u32,
    },
    /// The records are not inside of the message, or too many.
    Infos {
        /// Their start, as claimed.
        offset: u32,
        /// Their length, as claimed.
        len: u32,
    },
    /// A record is not one.
    Record(RecordError),
    /// Parts of coalesced packets that do not go together.
    Fragments,
}

impl fmt::Display for RxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range => f.write_str("a range outside of the receive buffer"),
            Self::TooShort(len) => write!(f, "a range of {len} bytes"),
            Self::Length { message, range } => {
                write!(f, "a message of {message} bytes in a range of {range}")
            }
            Self::Data { offset, len } => write!(f, "a frame of {len} bytes at {offset}"),
            Self::Infos { offset, len } => {
                write!(f, "packet information of {len} bytes at {offset}")
            }
            Self::Record(RecordError { at, size, offset }) => write!(
                f,
                "packet information at {at} with size {size} and offset {offset}"
            ),
            Self::Fragments => f.write_str("parts of packets that do not go together"),
        }
    }
}

/// Bytes of a message that are copied out at once: the header of a frame, and the records of most.
const HEAD: u32 = 128;

/// What is looked at of a message. One for each queue: nothing of one message is used for another.
#[derive(Debug)]
pub struct Scratch([u8; HEAD as usize]);

impl Default for Scratch {
    fn default() -> Self {
        Scratch([0; HEAD as usize])
    }
}

/// Looks at the message in `range`.
///
/// # Errors
///
/// See [`RxError`].
#[inline]
pub fn parse(
    memory: &impl Memory,
    range: Range,
    scratch: &mut Scratch,
) -> Result<Received, RxError> {
    if range.len < FIXED_LEN {
        return short(memory, range);
    }
    let copied = range.len.min(HEAD);
    let copy = scratch.0.get_mut(..copied as usize);
    let copy = copy.ok_or(RxError::Range)?;
    if !memory.read(range.start, copy) {
        return Err(RxError::Range);
    }
    let copy = &*copy;
    let head = copy.first_chunk::<{ FIXED_LEN as usize }>();
    let head = head.ok_or(RxError::Range)?;
    let word = |at| u32_at(head, at).unwrap_or(0);
    if word(0) != PACKET {
        return Ok(Received::Control);
    }
    let len = word(4);
    if len < FIXED_LEN || len > range.len {
        return Err(RxError::Length {
            message: len,
            range: range.len,
        });
    }
    let body = range.part(BODY, len.wrapping_sub(BODY));
    let body = body.ok_or(RxError::Range)?;
    let infos = infos(memory, body, copy, word(28), word(32))?;
    let (offset, len) = (word(8), word(12));
    let bad = RxError::Data { offset, len };
    let data = body.part(offset, len).ok_or(bad)?;
    // Parts of a packet count together; see `Assembler`.
    let least = match infos.fragment {
        Some(fragment) if !fragment.first => 1,
        _ => ETHERNET_LEN,
    };
    if offset < FIXED_LEN - BODY || len < least {
        return Err(bad);
    }
    Ok(Received::Frame(Frame { data, infos }))
}

/// A range that is too short for a frame.
#[cold]
fn short(memory: &impl Memory, range: Range) -> Result<Received, RxError> {
    let mut head = [0; BODY as usize];
    if range.len < BODY {
        return Err(RxError::TooShort(range.len));
    }
    if !memory.read(range.start, &mut head) {
        return Err(RxError::Range);
    }
    match u32_at(&head, 0) {
        Some(PACKET) => Err(RxError::TooShort(range.len)),
        _ => Ok(Received::Control),
    }
}

/// The records of a frame: all of them are looked at in one copy, the one of the message's
/// beginning or another one.
#[inline]
fn infos(
    memory: &impl Memory,
    body: Range,
    copy: &[u8],
    offset: u32,
    len: u32,
) -> Result<Incoming, RxError> {
    if len == 0 {
        return Ok(Incoming::default());
    }
    let bad = RxError::Infos { offset, len };
    let area = body.part(offset, len).ok_or(bad)?;
    if len > MAX_INFO || offset < FIXED_LEN - BODY {
        return Err(bad);
    }
    // Inside of the message, so no overflow.
    let start = offset.wrapping_add(BODY) as usize;
    let end = start.wrapping_add(len as usize);
    match copy.get(start..end) {
        Some(records) => Incoming::parse(records).map_err(RxError::Record),
        None => far_infos(memory, area).ok_or(bad)?,
    }
}

/// The records of a frame that are further away, or many.
#[cold]
fn far_infos(memory: &impl Memory, area: Range) -> Option<Result<Incoming, RxError>> {
    let mut copy = [0; MAX_INFO as usize];
    let copy = copy.get_mut(..area.len as usize)?;
    memory
        .read(area.start, copy)
        .then(|| Incoming::parse(copy).map_err(RxError::Record))
}

/// Copies a control message out, or as much of it as counts. `None` when it is
/// not there.
///
/// All of the range is taken, whatever length the message claims: hosts up to
/// Windows Server 2012 leave the status buffer of an indication out.
#[cold]
pub fn control<'a>(
    memory: &impl Memory,
    range: Range,
    buffer: &'a mut [u8; MAX_CONTROL],
) -> Option<&'a [u8]> {
    let len = usize::try_from(range.len).ok()?.min(MAX_CONTROL);
    let copy = buffer.get_mut(..len)?;
    memory.read(range.start, copy).then_some(copy)
}

/// Puts the parts of coalesced packets together. One for each queue; all parts
/// of a packet come in one transfer-page packet.
#[derive(Debug)]
pub struct Assembler<S> {
    parts: S,
    used: usize,
    total: u32,
    infos: Incoming,
}

/// A whole packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole<'a> {
    /// Where its bytes are, in order; at least one part.
    pub parts: &'a [Range],
    /// Bytes of all parts.
    pub total: u32,
    /// What came beside its first part.
    pub infos: Incoming,
}

impl<S: DerefMut<Target = [Range]>> Assembler<S> {
    /// With storage for as many parts as a packet may have.
    pub fn new(parts: S) -> Self {
        Assembler {
            parts,
            used: 0,
            total: 0,
            infos: Incoming::default(),
        }
    }

    /// Another transfer-page packet. True when parts of an unfinished packet
    /// were dropped.
    #[inline]
    #[must_use = "what was dropped is to be counted"]
    pub fn restart(&mut self) -> bool {
        let dropped = self.used != 0;
        self.used = 0;
        dropped
    }

    /// A message was not taken that may have been a part: without it there is no frame, and what
    /// follows of it is refused.
    #[inline]
    pub fn lost(&mut self) {
        self.used = 0;
    }

    /// Takes a frame, or a part of one. `None` while parts are missing.
    ///
    /// # Errors
    ///
    /// [`RxError::Fragments`] for parts that do not go together, too many or
    /// too long; what was collected is dropped.
    #[inline]
    pub fn push(&mut self, frame: &Frame) -> Result<Option<Whole<'_>>, RxError> {
        let last = match frame.infos.fragment {
            Some(fragment) => {
                if fragment.first != (self.used == 0) {
                    return Err(self.fail());
                }
                fragment.last
            }
            None if self.used != 0 => return Err(self.fail()),
            None => true,
        };
        if self.used == 0 {
            self.total = 0;
            self.infos = frame.infos;
        }
        let total = self.total.saturating_add(frame.data.len);
        let Some(part) = self.parts.get_mut(self.used) else {
            return Err(self.fail());
        };
        if total > MAX_COALESCED {
            return Err(self.fail());
        }
        *part = frame.data;
        self.total = total;
        self.used = self.used.saturating_add(1);
        if !last {
            return Ok(None);
        }
        let used = core::mem::take(&mut self.used);
        Ok(self.parts.get(..used).map(|parts| Whole {
            parts,
            total,
            infos: self.infos,
        }))
    }

    #[cold]
    fn fail(&mut self) -> RxError {
        self.used = 0;
        RxError::Fragments
    }
}
