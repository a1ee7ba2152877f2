// SPDX-License-Identifier: GPL-2.0

//! The initialisation: what is sent, what is expected, and how it ends.
//!
//! A list of steps, each of which takes one answer at most. The caller does
//! what [`Setup::action`] says, bounds each wait by
//! [`crate::ANSWER_TIMEOUT_MS`], and says what came of it. A step that says
//! what the interface could do besides is done without when the host refuses
//! it; anything else ends the initialisation.

use crate::{
    buffers::{self, Layout, LayoutError, ReceiveClaim},
    inbound::Answer,
    nvsp::{Message, Version, STATUS_SUCCESS},
    offload::Offloads,
    query::{self, oid, Name},
    rndis::{self, AnswerError, Initialized, Kind},
    rss,
};
use core::fmt;

/// Bytes of a frame's header that count for [`Config::mtu`]'s message.
const ETHERNET_LEN: u32 = 14;
/// Longest frame that version 1 carries, without its header, in bytes.
pub const STANDARD_MTU: u32 = 1500;
/// Shortest such length that can be set, in bytes.
pub const MIN_MTU: u32 = 68;
/// Longest frame of all, without its header, in bytes.
pub const MAX_MTU: u32 = 65_521;

/// What the guest wants.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Longest frame without its header, in bytes.
    pub mtu: u32,
    /// Bytes of the receive buffer.
    pub receive_bytes: u32,
    /// Bytes of the send buffer.
    pub send_bytes: u32,
    /// Coalesced packets are welcome.
    pub coalesce: bool,
    /// Virtual functions are welcome.
    pub functions: bool,
}

/// One of the two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// The host writes it.
    Receive,
    /// The host reads it.
    Send,
}

/// A request of the initialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Starts RNDIS.
    Initialize,
    /// Asks for an object.
    Query(u32),
    /// Turns offloads on.
    SetOffloads(Offloads),
}

impl Request {
    /// The type of its message.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Initialize => Kind::INITIALIZE,
            Self::Query(_) => Kind::QUERY,
            Self::SetOffloads(_) => Kind::SET,
        }
    }

    /// Builds its message; its length, or `None` when it does not fit.
    pub fn build(&self, buffer: &mut [u8], id: u32, version: Version) -> Option<usize> {
        match *self {
            Self::Initialize => rndis::initialize(buffer, id),
            Self::Query(oid::OFFLOAD_CAPABILITIES) => crate::offload::query(buffer, id, version),
            Self::Query(oid::RSS_CAPABILITIES) => rss::query(buffer, id),
            Self::Query(oid) => rndis::query(buffer, id, oid, &[]),
            Self::SetOffloads(offloads) => offloads.set(buffer, id, version),
        }
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the message; there is no answer. Then call [`Setup::sent`].
    Tell(Message),
    /// Send the message and give its completion to [`Setup::on_answer`].
    Ask(Message),
    /// Tell the host about so many bytes of memory, and then call
    /// [`Setup::announced`].
    Announce(Buffer, u32),
    /// Send the request and give its answer to [`Setup::on_response`].
    Request(Request),
    /// Nothing: the interface can be used.
    Done,
    /// Nothing: the channel has to be closed.
    Stop(SetupError),
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Version,
    Config,
    NdisVersion,
    ReceiveMemory,
    ReceiveBuffer(u32),
    SendMemory,
    SendBuffer(u32),
    Initialize,
    Address,
    FrameSize,
    Name,
    Offloads,
    SetOffloads,
    Media,
    Speed,
    Rss,
    Done,
}

/// Why the initialisation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// The host knows none of our versions.
    NoVersion,
    /// The answer is not one to what was asked.
    Unexpected,
    /// The host does with a buffer what makes no sense.
    Layout(Buffer, LayoutError),
    /// An answer that cannot be done without.
    Answer(Request, AnswerError),
    /// The host says no address that an interface can have.
    Address,
    /// No answer in time.
    Timeout,
    /// Something could not be sent, or the channel was lost.
    Channel,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVersion => f.write_str("the host has no version of the protocol that we have"),
            Self::Unexpected => f.write_str("an answer to something else"),
            Self::Layout(Buffer::Receive, error) => write!(f, "receive buffer: {error}"),
            Self::Layout(Buffer::Send, error) => write!(f, "send buffer: {error}"),
            Self::Answer(Request::Query(oid), error) => write!(f, "object {oid:#x}: {error}"),
            Self::Answer(_, error) => write!(f, "RNDIS: {error}"),
            Self::Address => f.write_str("no usable address"),
            Self::Timeout => f.write_str("no answer"),
            Self::Channel => f.write_str("the channel was lost"),
        }
    }
}

/// What came of it. Meaningful as far as the steps went.
#[derive(Clone, Copy, Debug)]
pub struct Agreed {
    /// Version of the protocol.
    pub version: Version,
    /// Receive buffer.
    pub receive: Layout,
    /// Send buffer.
    pub send: Layout,
    /// RNDIS.
    pub rndis: Initialized,
    /// Address of the interface.
    pub address: [u8; 6],
    /// Longest frame without its header that the host takes now, in bytes.
    pub mtu: u32,
    /// Longest that can be asked for, in bytes.
    pub max_mtu: u32,
    /// The adapter's name.
    pub name: Option<Name>,
    /// Offloads that are on.
    pub offloads: Offloads,
    /// The host can coalesce packets, whether or not that is on.
    pub coalesces: bool,
    /// The link is up.
    pub connected: bool,
    /// Its speed in Mb/s.
    pub speed: Option<u32>,
    /// Receive scaling.
    pub rss: Option<rss::Capabilities>,
}

/// The initialisation of one device.
#[derive(Clone, Debug)]
pub struct Setup {
    config: Config,
    step: Step,
    error: Option<SetupError>,
    agreed: Agreed,
}

impl Setup {
    /// Nothing was sent yet.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        const NONE: Layout = Layout {
            section: 0,
            count: 0,
        };
        Setup {
            step: Step::Version,
            error: None,
            agreed: Agreed {
                version: Version::V6_1,
                receive: NONE,
                send: NONE,
                rndis: Initialized {
                    max_packets: 1,
                    alignment: 1,
                },
                address: [0; 6],
                mtu: config.mtu,
                max_mtu: STANDARD_MTU,
                name: None,
                offloads: Offloads::NONE,
                coalesces: false,
                connected: false,
                speed: None,
                rss: None,
            },
            config,
        }
    }

    /// What was agreed on.
    #[must_use]
    pub const fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    fn receive_bytes(&self) -> u32 {
        buffers::receive_bytes(self.agreed.version, self.config.receive_bytes)
    }

    fn send_bytes(&self) -> u32 {
        buffers::send_bytes(self.config.send_bytes)
    }

    /// What is to be done now.
    #[must_use]
    pub fn action(&self) -> Action {
        let version = self.agreed.version;
        if let Some(error) = self.error {
            return Action::Stop(error);
        }
        match self.step {
            Step::Version => Action::Ask(Message::init(version)),
            Step::Config => {
                let frame = self.agreed.mtu.saturating_add(ETHERNET_LEN);
                Action::Tell(Message::ndis_config(version, frame, self.config.functions))
            }
            Step::NdisVersion => Action::Tell(Message::ndis_version(version)),
            Step::ReceiveMemory => Action::Announce(Buffer::Receive, self.receive_bytes()),
            Step::ReceiveBuffer(handle) => Action::Ask(Message::receive_buffer(handle)),
            Step::SendMemory => Action::Announce(Buffer::Send, self.send_bytes()),
            Step::SendBuffer(handle) => Action::Ask(Message::send_buffer(handle)),
            Step::Done => Action::Done,
            _ => match self.request() {
                Some(request) => Action::Request(request),
                None => Action::Done,
            },
        }
    }

    /// The request of the present step, if it is one.
    fn request(&self) -> Option<Request> {
        Some(match self.step {
            Step::Initialize => Request::Initialize,
            Step::Address => Request::Query(oid::PERMANENT_ADDRESS),
            Step::FrameSize => Request::Query(oid::MAX_FRAME_SIZE),
            Step::Name => Request::Query(oid::FRIENDLY_NAME),
            Step::Offloads => Request::Query(oid::OFFLOAD_CAPABILITIES),
            Step::SetOffloads => Request::SetOffloads(self.agreed.offloads),
            Step::Media => Request::Query(oid::MEDIA_STATUS),
            Step::Speed => Request::Query(oid::LINK_SPEED),
            Step::Rss => Request::Query(oid::RSS_CAPABILITIES),
            _ => return None,
        })
    }

    fn fail(&mut self, error: SetupError) {
        // The first one counts.
        self.error.get_or_insert(error);
    }

    /// The message was sent.
    pub fn sent(&mut self) {
        match self.step {
            Step::Config => self.step = Step::NdisVersion,
            Step::NdisVersion => self.step = Step::ReceiveMemory,
            _ => self.fail(SetupError::Unexpected),
        }
    }

    /// The host knows the memory by this handle.
    pub fn announced(&mut self, handle: u32) {
        match self.step {
            Step::ReceiveMemory => self.step = Step::ReceiveBuffer(handle),
            Step::SendMemory => self.step = Step::SendBuffer(handle),
            _ => self.fail(SetupError::Unexpected),
        }
    }

    /// No answer came in time.
    pub fn on_timeout(&mut self) {
        self.fail(SetupError::Timeout);
    }

    /// Something could not be sent, or the channel was lost.
    pub fn on_channel_lost(&mut self) {
        self.fail(SetupError::Channel);
    }

    /// Takes the answer to an NVSP message; `None` for one that makes no
    /// sense.
    pub fn on_answer(&mut self, answer: Option<Answer>) {
        match (self.step, answer) {
            (Step::Version, Some(Answer::Init { status })) => self.on_version(status),
            (
                Step::ReceiveBuffer(_),
                Some(Answer::ReceiveBuffer {
                    status,
                    parts,
                    offset,
                    section,
                    count,
                }),
            ) => {
                let claim = ReceiveClaim {
                    status,
                    parts,
                    offset,
                    section,
                    count,
                };
                match claim.check(self.receive_bytes()) {
                    Ok(layout) => {
                        self.agreed.receive = layout;
                        self.step = Step::SendMemory;
                    }
                    Err(error) => self.fail(SetupError::Layout(Buffer::Receive, error)),
                }
            }
            (Step::SendBuffer(_), Some(Answer::SendBuffer { status, section })) => {
                match buffers::send_layout(status, section, self.send_bytes()) {
                    Ok(layout) => {
                        self.agreed.send = layout;
                        self.step = Step::Initialize;
                    }
                    Err(error) => self.fail(SetupError::Layout(Buffer::Send, error)),
                }
            }
            _ => self.fail(SetupError::Unexpected),
        }
    }

    fn on_version(&mut self, status: u32) {
        let version = self.agreed.version;
        if status != STATUS_SUCCESS {
            match version.next() {
                Some(next) => self.agreed.version = next,
                None => self.fail(SetupError::NoVersion),
            }
        } else if version.has_config() {
            self.agreed.max_mtu = MAX_MTU;
            self.step = Step::Config;
        } else {
            self.agreed.mtu = self.agreed.mtu.min(STANDARD_MTU);
            self.step = Step::NdisVersion;
        }
    }

    /// Takes the answer to a request.
    pub fn on_response(&mut self, answer: &[u8]) {
        let Some(request) = self.request() else {
            return self.fail(SetupError::Unexpected);
        };
        let sub_channels = self.agreed.version.has_sub_channels();
        let value = rndis::queried(answer);
        let good = value.ok();
        let agreed = &mut self.agreed;
        self.step = match self.step {
            Step::Initialize => match Initialized::parse(answer) {
                Ok(initialized) => {
                    agreed.rndis = initialized;
                    Step::Address
                }
                Err(error) => return self.fail(SetupError::Answer(request, error)),
            },
            Step::Address => match value.map(query::address) {
                Ok(Some(address)) => {
                    agreed.address = address;
                    Step::FrameSize
                }
                Ok(None) => return self.fail(SetupError::Address),
                Err(error) => return self.fail(SetupError::Answer(request, error)),
            },
            Step::FrameSize => {
                // It can only become less.
                let limit = good.and_then(query::number).filter(|n| *n >= MIN_MTU);
                agreed.mtu = agreed.mtu.min(limit.unwrap_or(u32::MAX));
                Step::Name
            }
            Step::Name => {
                agreed.name = good.and_then(Name::parse);
                Step::Offloads
            }
            Step::Offloads => match good.and_then(|value| Offloads::parse(agreed.version, value)) {
                Some(mut offloads) => {
                    agreed.coalesces = offloads.coalesce;
                    offloads.coalesce &= self.config.coalesce;
                    agreed.offloads = offloads;
                    Step::SetOffloads
                }
                None => Step::Media,
            },
            Step::SetOffloads => {
                if rndis::was_set(answer).is_err() {
                    agreed.offloads = Offloads::NONE;
                    agreed.coalesces = false;
                }
                Step::Media
            }
            Step::Media => {
                // A host that does not say delivers all the same.
                agreed.connected = good.and_then(query::number).is_none_or(|media| media == 0);
                if sub_channels {
                    Step::Speed
                } else {
                    Step::Done
                }
            }
            Step::Speed => {
                agreed.speed = good.and_then(query::speed);
                Step::Rss
            }
            Step::Rss => {
                agreed.rss = good.and_then(rss::Capabilities::parse);
                Step::Done
            }
            other => other,
        };
    }
}
