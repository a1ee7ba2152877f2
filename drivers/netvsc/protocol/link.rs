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
    /// shorter.
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

/// What a host has said of the link since it was connected to.
///
/// A link that was lost, or leads elsewhere, is shown as down for a while, whatever the host says
/// meanwhile: user space is told of the state of an interface once a second at most
/// (`net/core/link_watch.c`), and is to see that it has to ask for an address again
/// (`drivers/net/hyperv/netvsc_drv.c:netvsc_link_change`). Times are in milliseconds of the
/// caller's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    up: Option<bool>,
    speed: Option<u32>,
    /// It is shown as up.
    shown: bool,
    /// Until when it is shown as down.
    down_until: u64,
}

impl Link {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Link {
            up: None,
            speed: None,
            shown: false,
            down_until: 0,
        }
    }

    /// Takes what it said when it was asked, at the beginning. What it has told by itself meanwhile
    /// is newer.
    pub fn on_answer(&mut self, up: bool, speed: Option<u32>) {
        self.up = self.up.or(Some(up));
        self.speed = self.speed.or(speed);
    }

    /// Takes what it tells by itself, at the time `now`.
    pub fn on_event(&mut self, event: Event, now: u64) {
        match event {
            Event::Connected => self.up = Some(true),
            Event::Disconnected => self.up = Some(false),
            Event::Speed(speed) => self.speed = Some(speed),
            Event::Changed => {}
        }
        // One that is shown as down does not stay so for as long as the host tells of it.
        if self.shown && matches!(event, Event::Disconnected | Event::Changed) {
            self.shown = false;
            self.down_until = now.saturating_add(DOWN_MS.into());
        }
    }

    /// It is shown as up from now on, or not.
    pub fn set_shown(&mut self, up: bool) {
        self.shown = up;
    }

    /// Whether it is up, and to be shown so at the time `now`.
    #[must_use]
    pub fn is_up(&self, now: u64) -> bool {
        self.up == Some(true) && now >= self.down_until
    }

    /// In how many milliseconds from `now` a link that is up is shown so; none if it is, or is not
    /// up.
    #[must_use]
    pub fn up_in(&self, now: u64) -> Option<u32> {
        let left = self.down_until.saturating_sub(now);
        u32::try_from(left)
            .ok()
            .filter(|left| *left != 0 && self.up == Some(true))
    }

    /// Its speed in Mb/s.
    #[must_use]
    pub fn speed(&self) -> Option<u32> {
        self.speed.filter(|speed| *speed != 0)
    }
}

/// How long a link that was lost, or leads elsewhere, is shown as down at least.
pub const DOWN_MS: u32 = 2_000;

/// The neighbours are told of the link once in so many milliseconds at most, however often the host
/// tells of it; each time everybody waits who changes something of a network.
pub const TOLD_EVERY_MS: u32 = 2_000;

/// How many milliseconds to wait before they are told, when they were told so many before, if ever.
#[must_use]
pub fn tell_after(told_before_ms: Option<i64>) -> u32 {
    let since = told_before_ms.and_then(|ms| u32::try_from(ms).ok());

    since.map_or(0, |since| TOLD_EVERY_MS.saturating_sub(since))
}
