// SPDX-License-Identifier: GPL-2.0

//! Negotiation with the host and dispatch of its requests.
//!
//! Events go in, one action comes out; sending, waiting and memory are the
//! caller's. Nothing here waits for ever: each negotiation step has
//! [`STEP_TIMEOUT_MS`], after which the caller reports
//! [`Session::on_timeout`].

use crate::message::{HotAdd, Inbound, Info, MessageError, MessageType, Unballoon, VERSION_2_0};
use core::fmt;

const BALLOON_REQUEST: u16 = MessageType::BalloonRequest as u16;
const UNBALLOON_REQUEST: u16 = MessageType::UnballoonRequest as u16;
const HOT_ADD_REQUEST: u16 = MessageType::HotAddRequest as u16;

/// Milliseconds the host has for each step of the negotiation.
pub const STEP_TIMEOUT_MS: u32 = 5000;

/// Versions to propose, best first.
pub const VERSIONS: [u32; 1] = [VERSION_2_0];

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// The host refused every version.
    VersionRefused,
    /// The host refused the capabilities.
    CapabilitiesRefused,
    /// The host did not answer the version proposal.
    VersionTimeout,
    /// The host did not answer the capabilities.
    CapabilitiesTimeout,
    /// A message of the negotiation could not be sent.
    SendFailed,
    /// There is no version to propose.
    NoVersion,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionError::VersionRefused => "the host refused every version",
            SessionError::CapabilitiesRefused => "the host refused the capabilities",
            SessionError::VersionTimeout => "the host did not answer the version request",
            SessionError::CapabilitiesTimeout => "the host did not answer the capabilities",
            SessionError::SendFailed => "a message could not be sent",
            SessionError::NoVersion => "there is no version to propose",
        })
    }
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not started.
    Idle,
    /// A version was proposed.
    VersionSent,
    /// The capabilities were stated.
    CapabilitiesSent,
    /// Requests are served.
    Ready,
    /// The negotiation failed; nothing is served.
    Failed(SessionError),
}

/// Why a message was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoreReason {
    /// Requests are served only after the negotiation.
    NotReady,
    /// A response nobody waits for.
    UnexpectedResponse,
    /// The session has begun already.
    Begun,
    /// Information of no use.
    UnknownInfo,
}

/// What the caller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send a version request and start the timeout.
    SendVersion {
        /// The version.
        version: u32,
        /// No other will be proposed.
        is_last_attempt: bool,
    },
    /// Send the capabilities and start the timeout.
    SendCapabilities,
    /// The negotiation succeeded.
    Start,
    /// The session is over: close the channel and fail.
    Fail(SessionError),
    /// Give up to that many pages, call [`Session::balloon_done`], and answer.
    Balloon {
        /// Pages of 4 KiB.
        page_count: u32,
    },
    /// Answer a balloon request at once with an empty last response: nothing
    /// is given while hibernation is possible, but the host must not wait for
    /// ever.
    AnswerEmptyBalloon,
    /// Take pages back, then answer unless `more_pages` is set.
    Unballoon(Unballoon<'a>),
    /// Take nothing back: nothing was given. Answer if `respond` is set.
    RefuseUnballoon {
        /// This was the request's last message.
        respond: bool,
    },
    /// Add memory, call [`Session::hot_add_done`], and answer.
    HotAdd(HotAdd),
    /// Answer a hot-add request at once with 0 pages and result 1 (never).
    RefuseHotAdd {
        /// Say so in the log; only the first time.
        log: bool,
    },
    /// The host's limit of the guest's memory.
    MaxPageCount {
        /// Pages of 4 KiB.
        pages: u64,
        /// Say so in the log; only when it is another one than before.
        log: bool,
    },
    /// Nothing now: a request of this kind is being served. This one is next, and comes when that
    /// is done; one that waited so far does no longer, and is answered together with this one.
    Wait,
    /// Nothing; it was counted.
    Ignore(IgnoreReason),
}

/// What the host waits for after a request that made no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// The last answer to a request for pages, without any; then call [`Session::balloon_done`].
    Balloon,
    /// The answer to the return of pages, of which none was taken back.
    Unballoon,
    /// The answer to a hot-add request: no page was added.
    HotAdd {
        /// Memory may be added by a request that makes sense.
        later: bool,
    },
}

/// What this guest serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The guest may hibernate (ACPI S4): the host forgets the balloon then,
    /// so nothing is given and nothing is added.
    pub hibernation: bool,
    /// Ballooning was stated as a capability.
    pub balloon: bool,
    /// Memory can be added.
    pub hot_add: bool,
}

impl Features {
    /// Whether memory is given to the host.
    #[must_use]
    pub const fn gives(&self) -> bool {
        self.balloon && !self.hibernation
    }

    /// Whether memory of the host is added.
    #[must_use]
    pub const fn adds(&self) -> bool {
        self.hot_add && !self.hibernation
    }

    /// Whether hot-add is stated as a capability. Where hibernation is possible hosts insist on it
    /// being stated; requests are declined then (`drivers/hv/hv_balloon.c:balloon_connect_vsp`).
    #[must_use]
    pub const fn states_hot_add(&self) -> bool {
        self.hot_add || self.hibernation
    }
}

/// One session with the host, from the channel's opening to its close.
#[derive(Debug)]
pub struct Session<'v> {
    state: State,
    features: Features,
    versions: &'v [u32],
    version: u32,
    transaction_id: u32,
    ballooning: bool,
    hot_adding: bool,
    next_balloon: Option<u32>,
    next_hot_add: Option<HotAdd>,
    logged_hot_add: bool,
    max_pages: Option<u64>,
    ignored: u32,
}

impl Session<'static> {
    /// A session that proposes [`VERSIONS`].
    #[must_use]
    pub fn new(features: Features) -> Self {
        Session::with_versions(features, &VERSIONS)
    }
}

impl<'v> Session<'v> {
    /// A session that proposes these versions, in this order.
    #[must_use]
    pub fn with_versions(features: Features, versions: &'v [u32]) -> Self {
        Session {
            state: State::Idle,
            features,
            versions,
            version: 0,
            transaction_id: 0,
            ballooning: false,
            hot_adding: false,
            next_balloon: None,
            next_hot_add: None,
            logged_hot_add: false,
            max_pages: None,
            ignored: 0,
        }
    }

    /// Where the session is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The version proposed last; in force once capabilities are sent.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Messages that were ignored.
    #[must_use]
    pub fn ignored(&self) -> u32 {
        self.ignored
    }

    /// Transaction id of the next message to send.
    pub fn next_transaction_id(&mut self) -> u32 {
        self.transaction_id = self.transaction_id.wrapping_add(1);
        self.transaction_id
    }

    fn fail<'m>(&mut self, error: SessionError) -> Action<'m> {
        self.state = State::Failed(error);
        Action::Fail(error)
    }

    fn ignore<'m>(&mut self, reason: IgnoreReason) -> Action<'m> {
        self.ignored = self.ignored.saturating_add(1);
        Action::Ignore(reason)
    }

    /// Proposes the next version, or ends with `otherwise`.
    fn propose<'m>(&mut self, otherwise: SessionError) -> Action<'m> {
        let versions: &'v [u32] = self.versions;
        match versions.split_first() {
            Some((version, rest)) => {
                self.versions = rest;
                self.version = *version;
                self.state = State::VersionSent;
                Action::SendVersion {
                    version: *version,
                    is_last_attempt: rest.is_empty(),
                }
            }
            None => self.fail(otherwise),
        }
    }

    /// Starts the negotiation; the channel is open.
    pub fn start(&mut self) -> Action<'static> {
        if self.state != State::Idle {
            return self.ignore(IgnoreReason::Begun);
        }
        self.propose(SessionError::NoVersion)
    }

    /// The host did not answer in time. Late answers are ignored from now on.
    pub fn on_timeout(&mut self) -> Action<'static> {
        match self.state {
            State::VersionSent => self.fail(SessionError::VersionTimeout),
            State::CapabilitiesSent => self.fail(SessionError::CapabilitiesTimeout),
            _ => self.ignore(IgnoreReason::UnexpectedResponse),
        }
    }

    /// A message of the negotiation could not be sent.
    pub fn on_send_failed(&mut self) -> Action<'static> {
        self.fail(SessionError::SendFailed)
    }

    /// A packet that is no message: counted.
    pub fn on_bad_packet(&mut self) {
        self.ignored = self.ignored.saturating_add(1);
    }

    /// A message that [`Inbound::parse`] refused: counted. Returns what the host waits for all the
    /// same: of a request it sends no other one until there is an answer.
    pub fn on_bad_message(&mut self, error: &MessageError) -> Option<Owed> {
        self.ignored = self.ignored.saturating_add(1);
        if self.state != State::Ready {
            return None;
        }
        match *error {
            MessageError::RangeCount { more_pages, .. } if !more_pages => Some(Owed::Unballoon),
            MessageError::Range(_) => self.owed_hot_add(),
            MessageError::TooShort { kind, .. } if kind == BALLOON_REQUEST => self.owed_balloon(),
            // Whether more follow is cut off. An answer that comes too early does no harm.
            MessageError::TooShort { kind, .. } if kind == UNBALLOON_REQUEST => {
                Some(Owed::Unballoon)
            }
            MessageError::TooShort { kind, .. } if kind == HOT_ADD_REQUEST => self.owed_hot_add(),
            _ => None,
        }
    }

    /// As of a request for no pages: it is served, or the one that is being served is its answer.
    fn owed_balloon(&mut self) -> Option<Owed> {
        if self.ballooning {
            return None;
        }
        self.ballooning = self.features.gives();
        Some(Owed::Balloon)
    }

    /// The answer to the request that is being served is the answer to this one, too.
    fn owed_hot_add(&self) -> Option<Owed> {
        let later = self.features.adds();

        (!self.hot_adding).then_some(Owed::HotAdd { later })
    }

    /// Takes a message from the host.
    pub fn on_message<'m>(&mut self, message: &Inbound<'m>) -> Action<'m> {
        match *message {
            Inbound::VersionResponse { accepted } => self.on_version(accepted),
            Inbound::CapabilitiesResponse { accepted } => self.on_capabilities(accepted),
            // A figure is worth knowing at any time.
            Inbound::Info(Info::MaxPageCount(pages)) => {
                let log = self.max_pages.replace(pages) != Some(pages);
                Action::MaxPageCount { pages, log }
            }
            Inbound::Info(Info::Unknown { .. }) => self.ignore(IgnoreReason::UnknownInfo),
            _ if self.state != State::Ready => self.ignore(IgnoreReason::NotReady),
            Inbound::BalloonRequest { page_count } => self.on_balloon(page_count),
            Inbound::UnballoonRequest(request) => self.on_unballoon(request),
            Inbound::HotAddRequest(request) => self.on_hot_add(request),
        }
    }

    fn on_version<'m>(&mut self, accepted: bool) -> Action<'m> {
        if self.state != State::VersionSent {
            return self.ignore(IgnoreReason::UnexpectedResponse);
        }
        if !accepted {
            return self.propose(SessionError::VersionRefused);
        }
        self.state = State::CapabilitiesSent;
        Action::SendCapabilities
    }

    fn on_capabilities<'m>(&mut self, accepted: bool) -> Action<'m> {
        if self.state != State::CapabilitiesSent {
            return self.ignore(IgnoreReason::UnexpectedResponse);
        }
        if !accepted {
            return self.fail(SessionError::CapabilitiesRefused);
        }
        self.state = State::Ready;
        Action::Start
    }

    fn on_balloon<'m>(&mut self, page_count: u32) -> Action<'m> {
        if !self.features.gives() {
            return Action::AnswerEmptyBalloon;
        }
        if self.ballooning {
            self.next_balloon = Some(page_count);
            return Action::Wait;
        }
        self.ballooning = true;
        Action::Balloon { page_count }
    }

    fn on_unballoon<'m>(&mut self, request: Unballoon<'m>) -> Action<'m> {
        if !self.features.gives() {
            return Action::RefuseUnballoon {
                respond: !request.more_pages,
            };
        }
        Action::Unballoon(request)
    }

    fn on_hot_add<'m>(&mut self, request: HotAdd) -> Action<'m> {
        if !self.features.adds() {
            // Of hibernation the log knows since the start.
            let first = !core::mem::replace(&mut self.logged_hot_add, true);
            let log = first && !self.features.hibernation;
            return Action::RefuseHotAdd { log };
        }
        if self.hot_adding {
            self.next_hot_add = Some(request);
            return Action::Wait;
        }
        self.hot_adding = true;
        Action::HotAdd(request)
    }

    /// A balloon request is served, and its last response about to be sent. Returns the pages of
    /// the next one, which is being served from now on, if there is one.
    pub fn balloon_done(&mut self) -> Option<u32> {
        let next = self.next_balloon.take();
        self.ballooning = next.is_some();
        next
    }

    /// A hot-add request is served, and its response about to be sent. Returns the next one, which
    /// is being served from now on, if there is one.
    pub fn hot_add_done(&mut self) -> Option<HotAdd> {
        let next = self.next_hot_add.take();
        self.hot_adding = next.is_some();
        next
    }

    /// A balloon request is being served.
    #[must_use]
    pub fn is_ballooning(&self) -> bool {
        self.ballooning
    }

    /// A hot-add request is being served.
    #[must_use]
    pub fn is_hot_adding(&self) -> bool {
        self.hot_adding
    }
}
