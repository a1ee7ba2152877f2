// SPDX-License-Identifier: GPL-2.0

//! Protocol versions and their negotiation.
//!
//! The guest proposes versions from the newest downwards until the host
//! accepts one (`drivers/hv/connection.c:vmbus_connect`).

use crate::{
    message::VersionResponse,
    synic::{MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4, MESSAGE_CONNECTION_ID_REDIRECT},
};
use core::fmt;

/// A protocol version: major in the upper, minor in the lower 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl Version {
    /// Windows 10; the oldest that is spoken.
    pub const V4_0: Version = Version::new(4, 0);
    /// Adds MODIFYCHANNEL.
    pub const V4_1: Version = Version::new(4, 1);
    /// Replaces the interrupt page by an explicit SINT and connection id.
    pub const V5_0: Version = Version::new(5, 0);
    /// No change for the guest's core.
    pub const V5_1: Version = Version::new(5, 1);
    /// The oldest an isolated VM accepts.
    pub const V5_2: Version = Version::new(5, 2);
    /// Adds MODIFYCHANNEL_RESPONSE.
    pub const V5_3: Version = Version::new(5, 3);
    /// Adds feature flags (confidential channels).
    pub const V6_0: Version = Version::new(6, 0);

    /// All proposed versions, newest first.
    pub const OFFERED: [Version; 7] = [
        Version::V6_0,
        Version::V5_3,
        Version::V5_2,
        Version::V5_1,
        Version::V5_0,
        Version::V4_1,
        Version::V4_0,
    ];

    /// Makes a version from its two parts.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Version {
        Version(((major as u32) << 16) | minor as u32)
    }

    /// The major part.
    #[must_use]
    pub const fn major(self) -> u16 {
        let [_, _, a, b] = self.0.to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    /// The minor part.
    #[must_use]
    pub const fn minor(self) -> u16 {
        let [a, b, _, _] = self.0.to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    /// INITIATE_CONTACT carries the interrupt page's address instead of the
    /// SINT, and connection id 1 is used throughout.
    #[must_use]
    pub const fn uses_interrupt_page(self) -> bool {
        self.0 < Version::V5_0.0
    }

    /// MODIFYCHANNEL may be sent.
    #[must_use]
    pub const fn has_modify_channel(self) -> bool {
        self.0 >= Version::V4_1.0
    }

    /// MODIFYCHANNEL is acknowledged by a response.
    #[must_use]
    pub const fn has_modify_channel_response(self) -> bool {
        self.0 >= Version::V5_3.0
    }

    /// INITIATE_CONTACT carries feature flags; offers may be confidential.
    #[must_use]
    pub const fn has_feature_flags(self) -> bool {
        self.0 >= Version::V6_0.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

/// One INITIATE_CONTACT to post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The proposed version.
    pub version: Version,
    /// The connection id to post the message on.
    pub connection_id: u32,
}

/// What to do after an event of the negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The host accepted.
    Accepted {
        /// The version now in force.
        version: Version,
        /// Connection id of all further messages.
        msg_conn_id: u32,
        /// The host's `connection_state`; 0 is success. Linux ignores it.
        connection_state: u8,
    },
    /// Propose this next.
    TryNext(Attempt),
    /// Nothing is left to propose, or the host timed out.
    Refused,
    /// The event does not fit the state (a reply nobody waits for, a second
    /// acceptance): ignored, counted, state unchanged.
    Unexpected,
}

/// Why a negotiation cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegotiationError {
    /// The version cap excludes every version that could be proposed.
    NothingToOffer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ready,
    Posted,
    Done,
}

/// State machine of the version negotiation.
///
/// Call [`posted`](Negotiation::posted) right *before* posting an attempt: a
/// reply may arrive before the post returns, and a reply to something that was
/// not posted is refused.
#[derive(Debug)]
pub struct Negotiation {
    max: u32,
    min: Version,
    /// Index into `Version::OFFERED` of the current attempt.
    index: usize,
    redirect: bool,
    redirect_allowed: bool,
    phase: Phase,
    unexpected: u32,
}

impl Negotiation {
    /// Starts below `max` (a raw version, inclusive; `None` for no cap).
    ///
    /// # Errors
    ///
    /// [`NegotiationError::NothingToOffer`] when `max` is below 4.0.
    pub fn new(max: Option<u32>) -> Result<Self, NegotiationError> {
        let mut this = Negotiation {
            max: max.unwrap_or(u32::MAX),
            min: Version::V4_0,
            index: 0,
            redirect: false,
            redirect_allowed: false,
            phase: Phase::Ready,
            unexpected: 0,
        };
        if this.seek(0) {
            Ok(this)
        } else {
            Err(NegotiationError::NothingToOffer)
        }
    }

    /// Sets the guest's virtual trust level: a guest in VTL 2 tries the
    /// redirected connection id first for versions from 5.0
    /// (`drivers/hv/connection.c:vmbus_negotiate_version`).
    #[must_use]
    pub fn with_vtl(mut self, vtl: u8) -> Self {
        self.redirect_allowed = vtl == 2;
        self.redirect = self.wants_redirect();
        self
    }

    /// Demands at least version 5.2, which an isolated VM needs.
    ///
    /// # Errors
    ///
    /// [`NegotiationError::NothingToOffer`] when the cap is below it.
    pub fn require_isolation(mut self) -> Result<Self, NegotiationError> {
        self.min = Version::V5_2;
        if self.current_version().is_some_and(|v| v >= self.min) {
            Ok(self)
        } else {
            Err(NegotiationError::NothingToOffer)
        }
    }

    fn current_version(&self) -> Option<Version> {
        Version::OFFERED.get(self.index).copied()
    }

    fn wants_redirect(&self) -> bool {
        self.redirect_allowed
            && self
                .current_version()
                .is_some_and(|version| !version.uses_interrupt_page())
    }

    /// Moves to the first allowed version at or after `from`.
    fn seek(&mut self, from: usize) -> bool {
        let found = (from..Version::OFFERED.len()).find(|&index| {
            Version::OFFERED
                .get(index)
                .is_some_and(|version| version.0 <= self.max && *version >= self.min)
        });
        match found {
            Some(index) => {
                self.index = index;
                self.redirect = self.wants_redirect();
                self.phase = Phase::Ready;
                true
            }
            None => {
                self.index = Version::OFFERED.len();
                self.phase = Phase::Done;
                false
            }
        }
    }

    /// The attempt to post or awaiting its reply; `None` once over.
    #[must_use]
    pub fn current(&self) -> Option<Attempt> {
        if self.phase == Phase::Done {
            return None;
        }
        let version = self.current_version()?;
        let connection_id = if version.uses_interrupt_page() {
            MESSAGE_CONNECTION_ID
        } else if self.redirect {
            MESSAGE_CONNECTION_ID_REDIRECT
        } else {
            MESSAGE_CONNECTION_ID_4
        };
        Some(Attempt {
            version,
            connection_id,
        })
    }

    /// Marks the current attempt as posted; replies count from here on.
    pub fn posted(&mut self) {
        if self.phase == Phase::Ready {
            self.phase = Phase::Posted;
        }
    }

    /// Takes the host's reply.
    pub fn on_response(&mut self, response: &VersionResponse) -> Step {
        let (Phase::Posted, Some(attempt)) = (self.phase, self.current()) else {
            self.unexpected = self.unexpected.saturating_add(1);
            return Step::Unexpected;
        };
        if !response.supported {
            return self.advance();
        }
        self.phase = Phase::Done;
        let msg_conn_id = if attempt.version.uses_interrupt_page() {
            MESSAGE_CONNECTION_ID
        } else {
            response.msg_conn_id
        };
        Step::Accepted {
            version: attempt.version,
            msg_conn_id,
            connection_state: response.connection_state,
        }
    }

    /// The hypervisor does not know the connection id the attempt was posted
    /// on: VTL 2 falls back to the ordinary id, otherwise the next version.
    pub fn on_invalid_connection(&mut self) -> Step {
        if self.phase == Phase::Done {
            return Step::Unexpected;
        }
        if self.redirect {
            self.redirect = false;
            self.phase = Phase::Ready;
            return self.current().map_or(Step::Refused, Step::TryNext);
        }
        self.advance()
    }

    /// The attempt could not be posted at all: the host had no room for it, or
    /// refused it. The next version may be posted on another connection id.
    pub fn on_not_posted(&mut self) -> Step {
        if self.phase == Phase::Done {
            return Step::Unexpected;
        }
        self.advance()
    }

    /// No reply came in time: the negotiation is over, older versions are not
    /// tried, and a late reply will be ignored.
    pub fn on_timeout(&mut self) -> Step {
        self.phase = Phase::Done;
        Step::Refused
    }

    fn advance(&mut self) -> Step {
        if self.seek(self.index.saturating_add(1)) {
            self.current().map_or(Step::Refused, Step::TryNext)
        } else {
            Step::Refused
        }
    }

    /// Number of replies that were ignored.
    #[must_use]
    pub fn unexpected(&self) -> u32 {
        self.unexpected
    }
}
