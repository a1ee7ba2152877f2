// SPDX-License-Identifier: GPL-2.0

//! RNDIS: control messages.

use crate::bytes::{put, slice_at, u32_at};
use core::fmt;

/// Bytes of the head of every message.
pub const HEAD_LEN: usize = 8;
/// Most bytes of a request.
pub const MAX_REQUEST: usize = 1280;
/// Status: success.
pub const SUCCESS: u32 = 0;
/// Most bytes of one message that the guest takes, as the C driver says.
const MAX_TRANSFER: u32 = 0x4000;

/// Bit of the types of answers.
const ANSWER: u32 = 1 << 31;

/// Types of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u32);

impl Kind {
    /// Starts RNDIS.
    pub const INITIALIZE: Self = Self(2);
    /// Ends it; no answer.
    pub const HALT: Self = Self(3);
    /// Asks for an object.
    pub const QUERY: Self = Self(4);
    /// Sets an object.
    pub const SET: Self = Self(5);
    /// Tells of a change; see [`crate::link`].
    pub const INDICATE: Self = Self(7);

    /// The answer to it.
    #[must_use]
    pub const fn answer(self) -> Self {
        Self(self.0 | ANSWER)
    }
}

/// Type, claimed length and the number behind the head of a message: of
/// requests and answers that is the request's id.
pub(crate) fn head(message: &[u8]) -> Option<(Kind, u32, u32)> {
    Some((
        Kind(u32_at(message, 0)?),
        u32_at(message, 4)?,
        u32_at(message, 8)?,
    ))
}

/// Builds a message in `buffer`: its head, `words`, and `info` behind. Its
/// length, or `None` when it does not fit.
fn build(buffer: &mut [u8], kind: Kind, words: &[u32], info: &[&[u8]]) -> Option<usize> {
    let start = words.len().checked_mul(4)?.checked_add(HEAD_LEN)?;
    let len = info
        .iter()
        .try_fold(start, |sum, part| sum.checked_add(part.len()))?;
    let message = buffer.get_mut(..len)?;
    message.fill(0);
    put(message, 0, &kind.0.to_le_bytes());
    put(message, 4, &u32::try_from(len).ok()?.to_le_bytes());
    let mut at = HEAD_LEN;
    for word in words {
        put(message, at, &word.to_le_bytes());
        at = at.checked_add(4)?;
    }
    for part in info {
        put(message, at, part);
        at = at.checked_add(part.len())?;
    }
    Some(len)
}

/// `INITIALIZE`.
pub fn initialize(buffer: &mut [u8], id: u32) -> Option<usize> {
    build(buffer, Kind::INITIALIZE, &[id, 1, 0, MAX_TRANSFER], &[])
}

/// `HALT`.
pub fn halt(buffer: &mut [u8], id: u32) -> Option<usize> {
    build(buffer, Kind::HALT, &[id], &[])
}

/// Bytes from the body to the information of a query and of a set.
const INFO: u32 = 20;

/// `QUERY` for an object; `input` goes with it.
pub fn query(buffer: &mut [u8], id: u32, oid: u32, input: &[u8]) -> Option<usize> {
    let len = u32::try_from(input.len()).ok()?;
    build(buffer, Kind::QUERY, &[id, oid, len, INFO, 0], &[input])
}

/// `SET` of an object, whose value is given in parts.
pub fn set(buffer: &mut [u8], id: u32, oid: u32, value: &[&[u8]]) -> Option<usize> {
    let len = value
        .iter()
        .try_fold(0usize, |sum, part| sum.checked_add(part.len()))?;
    let len = u32::try_from(len).ok()?;
    build(buffer, Kind::SET, &[id, oid, len, INFO, 0], value)
}

/// `SET` of an object of `len` bytes, which are to be filled in: the message's
/// length, and where they are.
pub(crate) fn set_with(
    buffer: &mut [u8],
    id: u32,
    oid: u32,
    len: usize,
) -> Option<(usize, &mut [u8])> {
    let size = u32::try_from(len).ok()?;
    let start = build(buffer, Kind::SET, &[id, oid, size, INFO, 0], &[])?;
    let end = start.checked_add(len)?;
    put(buffer, 4, &u32::try_from(end).ok()?.to_le_bytes());
    let value = buffer.get_mut(start..end)?;
    value.fill(0);
    Some((end, value))
}

/// Why an answer is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// The host refuses.
    Status(u32),
    /// It is too short, or its information is not inside of it.
    Malformed,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status:#x}"),
            Self::Malformed => f.write_str("malformed answer"),
        }
    }
}

/// The message without its head, as long as it claims to be and no longer than
/// what came.
fn body(message: &[u8]) -> Result<&[u8], AnswerError> {
    let len = u32_at(message, 4).and_then(|len| usize::try_from(len).ok());
    len.and_then(|len| message.get(HEAD_LEN..len))
        .ok_or(AnswerError::Malformed)
}

fn word(body: &[u8], at: usize) -> Result<u32, AnswerError> {
    u32_at(body, at).ok_or(AnswerError::Malformed)
}

fn check(body: &[u8]) -> Result<(), AnswerError> {
    match word(body, 4)? {
        SUCCESS => Ok(()),
        status => Err(AnswerError::Status(status)),
    }
}

/// What the answer to `INITIALIZE` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initialized {
    /// Most frames of one message to the host; at least 1.
    pub max_packets: u32,
    /// Bytes to whose multiples each frame of several is padded: a power of 2,
    /// at most 4096.
    pub alignment: u32,
}

impl Initialized {
    /// Parses the answer.
    ///
    /// # Errors
    ///
    /// See [`AnswerError`]. A short one is refused; the C driver takes the
    /// missing fields for 0.
    pub fn parse(message: &[u8]) -> Result<Self, AnswerError> {
        let body = body(message)?;
        check(body)?;
        let max_packets = word(body, 24)?.max(1);
        let shift = word(body, 32)?.min(12);
        Ok(Initialized {
            max_packets,
            alignment: 1u32.wrapping_shl(shift),
        })
    }
}

/// The information in the answer to a `QUERY`.
///
/// # Errors
///
/// See [`AnswerError`].
pub fn queried(message: &[u8]) -> Result<&[u8], AnswerError> {
    let body = body(message)?;
    check(body)?;
    let (len, offset) = (word(body, 8)?, word(body, 12)?);
    if len != 0 && offset < 16 {
        return Err(AnswerError::Malformed);
    }
    slice_at(body, offset, len).ok_or(AnswerError::Malformed)
}

/// The answer to a `SET`.
///
/// # Errors
///
/// See [`AnswerError`].
pub fn was_set(message: &[u8]) -> Result<(), AnswerError> {
    check(body(message)?)
}
