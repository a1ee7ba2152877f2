// SPDX-License-Identifier: GPL-2.0

//! Life of one session: one open of a channel.
//!
//! Interrupts, the reading of the host's messages, CPU hotplug and whoever
//! closes it change it at the same time: see [`crate::shared`].

use crate::shared::SharedState;

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The host broke a ring.
    Broken,
    /// The host has taken the channel back.
    Rescinded,
    /// The host interrupts another CPU.
    Moved,
    /// The driver is about to be told of the last two.
    Tell,
    /// The end begins.
    BeginClose,
    /// The end is over.
    Closed,
}

/// Nothing is sent any more.
const STOPPED: u32 = 1;
/// The end has begun: no code of the driver is called from its first part on.
const CLOSING: u32 = 1 << 1;
/// The end is over.
const OVER: u32 = 1 << 2;
/// What the driver is to be told.
const TELL_RESCINDED: u32 = 1 << 3;
const TELL_MOVED: u32 = 1 << 4;

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLife(u32);

impl SessionLife {
    /// A session that was just made.
    #[must_use]
    pub const fn new() -> Self {
        SessionLife(0)
    }

    const fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    /// Packets can be sent.
    #[inline]
    #[must_use]
    pub const fn sends(self) -> bool {
        !self.has(STOPPED)
    }

    /// Its end has begun, or is over.
    #[inline]
    #[must_use]
    pub const fn is_closing(self) -> bool {
        self.has(CLOSING)
    }

    /// Its end is over.
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.has(OVER)
    }

    /// The driver is to be told that the channel is rescinded.
    #[must_use]
    pub const fn tells_rescind(self) -> bool {
        self.has(TELL_RESCINDED)
    }

    /// The driver is to be told that the host interrupts another CPU.
    #[must_use]
    pub const fn tells_move(self) -> bool {
        self.has(TELL_MOVED)
    }
}

impl SharedState for SessionLife {
    type Event = SessionEvent;

    fn after(self, event: SessionEvent) -> Option<Self> {
        let old = self.0;
        let closing = self.is_closing();
        let new = match event {
            SessionEvent::Broken => old | STOPPED,
            SessionEvent::Rescinded if closing => old | STOPPED,
            SessionEvent::Rescinded => old | STOPPED | TELL_RESCINDED,
            SessionEvent::Moved if closing => old,
            SessionEvent::Moved => old | TELL_MOVED,
            SessionEvent::Tell => old & !(TELL_RESCINDED | TELL_MOVED),
            SessionEvent::BeginClose if closing => old,
            SessionEvent::BeginClose => old | STOPPED | CLOSING,
            SessionEvent::Closed if closing => old | OVER,
            SessionEvent::Closed => old,
        };
        (new != old).then_some(SessionLife(new))
    }

    #[inline]
    fn raw(self) -> u32 {
        self.0
    }

    #[inline]
    fn from_raw(raw: u32) -> Self {
        SessionLife(raw)
    }
}
