// SPDX-License-Identifier: GPL-2.0

//! What the host tells of the link (`RNDIS_MSG_INDICATE`).

use crate::{
    bytes::{slice_at, u32_at},
    rndis::{head, Kind, HEAD_LEN},
};

/// A change of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is up.
    Connected,
    /// It is down.
    Disconnected,
    /// It leads elsewhere.
    Changed,
    /// Its speed, in Mb/s.
    Speed(u32),
}

/// Why an indication is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventError {
    /// It is too short, or its buffer is not inside of it.
    Malformed,
    /// It tells of something else.
    Unknown(u32),
}

/// The link's speed is told in this many bits per second.
pub(crate) const SPEED_UNITS_PER_MB: u32 = 10_000;

impl Event {
    /// Parses a control message, a private copy of all of its range. `None`
    /// when it is not an indication.
    ///
    /// The buffer has to be inside of the range; the message may claim to be
    /// shorter (case N06).
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Result<Self, EventError>> {
        let (kind, _, status) = head(message)?;
        (kind == Kind::INDICATE).then(|| Self::of(message, status))
    }

    fn of(message: &[u8], status: u32) -> Result<Self, EventError> {
        let body = message.get(HEAD_LEN..).ok_or(EventError::Malformed)?;
        let (Some(len), Some(offset)) = (u32_at(body, 4), u32_at(body, 8)) else {
            return Err(EventError::Malformed);
        };
        let buffer = match len {
            0 => &[],
            _ => slice_at(body, offset, len)
                .filter(|_| offset >= 12)
                .ok_or(EventError::Malformed)?,
        };
        match status {
            0x4001_000b => Ok(Self::Connected),
            0x4001_000c => Ok(Self::Disconnected),
            0x4001_0018 => Ok(Self::Changed),
            0x4001_0013 => {
                let speed = u32_at(buffer, 0).ok_or(EventError::Malformed)?;
                Ok(Self::Speed(
                    speed.checked_div(SPEED_UNITS_PER_MB).unwrap_or(0),
                ))
            }
            other => Err(EventError::Unknown(other)),
        }
    }
}
