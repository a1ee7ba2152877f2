// SPDX-License-Identifier: GPL-2.0

//! NVSP: the host's messages.

use crate::{
    bytes::u32_at,
    nvsp::{Kind, Version, MESSAGE_LEN},
};
use core::fmt;

/// Entries of the table that spreads outgoing packets.
pub const TABLE_LEN: usize = 16;

/// Why a message of the host is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// Shorter than its type requires.
    TooShort {
        /// Its type.
        kind: u32,
        /// Bytes there are.
        len: usize,
        /// Bytes required.
        want: usize,
    },
    /// A type that the host does not send this way.
    Unexpected(u32),
    /// A table of the wrong size, or not inside of its message.
    Table {
        /// Number of entries.
        count: u32,
        /// Where it starts in the message.
        offset: u32,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { kind, len, want } => {
                write!(f, "message {kind} of {len} bytes, {want} expected")
            }
            Self::Unexpected(kind) => write!(f, "unexpected message {kind}"),
            Self::Table { count, offset } => {
                write!(f, "table of {count} entries at {offset}")
            }
        }
    }
}

/// An answer to a message of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a proposed version.
    Init {
        /// Status.
        status: u32,
    },
    /// To the receive buffer; describes its first part.
    ReceiveBuffer {
        /// Status.
        status: u32,
        /// Parts it was divided into; one is supported.
        parts: u32,
        /// Where the first part starts, in bytes.
        offset: u32,
        /// Bytes of a section.
        section: u32,
        /// Sections.
        count: u32,
    },
    /// To the send buffer.
    SendBuffer {
        /// Status.
        status: u32,
        /// Bytes of a section.
        section: u32,
    },
    /// To what needs no more than to be done: no payload.
    Done,
    /// To the request for sub-channels.
    SubChannels {
        /// Status.
        status: u32,
        /// How many there will be.
        count: u32,
    },
}

fn kind_of(message: &[u8]) -> Result<Kind, MessageError> {
    u32_at(message, 0).map(Kind).ok_or(MessageError::TooShort {
        kind: 0,
        len: message.len(),
        want: 4,
    })
}

/// The numbers behind the type of a message.
fn words<const N: usize>(message: &[u8], kind: Kind) -> Result<[u32; N], MessageError> {
    let mut words = [0; N];
    let mut at = 4usize;
    for word in &mut words {
        *word = u32_at(message, at).ok_or(MessageError::TooShort {
            kind: kind.0,
            len: message.len(),
            want: N.saturating_add(1).saturating_mul(4),
        })?;
        at = at.saturating_add(4);
    }
    Ok(words)
}

impl Answer {
    /// Parses the payload of a completion, a private copy.
    ///
    /// # Errors
    ///
    /// See [`MessageError`].
    pub fn parse(message: &[u8]) -> Result<Self, MessageError> {
        if message.is_empty() {
            return Ok(Self::Done);
        }
        let kind = kind_of(message)?;
        match kind {
            Kind::INIT_COMPLETE => {
                let [_negotiated, _mdl, status] = words(message, kind)?;
                Ok(Self::Init { status })
            }
            Kind::RECEIVE_BUFFER_COMPLETE => {
                let [status, parts] = words(message, kind)?;
                // A refusal need not describe anything.
                let [_, _, offset, section, count] = if parts == 0 {
                    [0; 5]
                } else {
                    words(message, kind)?
                };
                Ok(Self::ReceiveBuffer {
                    status,
                    parts,
                    offset,
                    section,
                    count,
                })
            }
            Kind::SEND_BUFFER_COMPLETE => {
                let [status, section] = words(message, kind)?;
                Ok(Self::SendBuffer { status, section })
            }
            Kind::SUB_CHANNEL => {
                let [status, count] = words(message, kind)?;
                Ok(Self::SubChannels { status, count })
            }
            other => Err(MessageError::Unexpected(other.0)),
        }
    }
}

/// The completion of an RNDIS message: its status.
///
/// # Errors
///
/// See [`MessageError`].
#[inline]
pub fn sent_status(message: &[u8]) -> Result<u32, MessageError> {
    let kind = kind_of(message)?;
    if kind != Kind::RNDIS_COMPLETE {
        return Err(MessageError::Unexpected(kind.0));
    }
    let [status] = words(message, kind)?;
    Ok(status)
}

/// A message that the host sends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Which channel each value of the hash modulo [`TABLE_LEN`] goes to. Not
    /// checked against the channels that there are.
    Table([u32; TABLE_LEN]),
    /// A virtual function was added or removed.
    VirtualFunction {
        /// It is there.
        present: bool,
        /// Number of its slot.
        serial: u32,
    },
}

impl Notice {
    /// Parses an in-band message, a private copy.
    ///
    /// # Errors
    ///
    /// See [`MessageError`].
    pub fn parse(version: Version, message: &[u8]) -> Result<Self, MessageError> {
        let kind = kind_of(message)?;
        match kind {
            Kind::SEND_INDIRECTION_TABLE => {
                let [count, offset] = words(message, kind)?;
                table(version, message, count, offset)
            }
            Kind::VF_ASSOCIATION => {
                let [present, serial] = words(message, kind)?;
                Ok(Self::VirtualFunction {
                    present: present != 0,
                    serial,
                })
            }
            other => Err(MessageError::Unexpected(other.0)),
        }
    }
}

/// The offset counts from the start of the message. Hosts up to version 6 say
/// something smaller; where the message is long enough for the table to stand
/// behind the fixed part, there it is.
fn table(
    version: Version,
    message: &[u8],
    count: u32,
    offset: u32,
) -> Result<Notice, MessageError> {
    let bad = MessageError::Table { count, offset };
    if usize::try_from(count) != Ok(TABLE_LEN) {
        return Err(bad);
    }
    const BYTES: usize = TABLE_LEN * 4;
    let at = if version <= Version::V6 && message.len() >= MESSAGE_LEN + BYTES {
        MESSAGE_LEN
    } else {
        usize::try_from(offset).map_err(|_| bad)?
    };
    let bytes: [u8; BYTES] = crate::bytes::array_at(message, at).ok_or(bad)?;
    let mut table = [0; TABLE_LEN];
    for (entry, word) in table.iter_mut().zip(bytes.chunks_exact(4)) {
        *entry = u32_at(word, 0).unwrap_or(0);
    }
    Ok(Notice::Table(table))
}
