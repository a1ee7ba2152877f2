// SPDX-License-Identifier: GPL-2.0

//! The initialisation: what is sent, what is expected, and how it ends.
//!
//! Each step is one packet and one answer. Each has a transaction id of its
//! own, so a repeated or late answer to an earlier step is not taken for the
//! answer to the present one; the C driver has one id for all.
//! There are never more steps than those of [`Step`], and the caller bounds
//! each by [`crate::ANSWER_TIMEOUT_MS`].

use crate::packet::{Operation, Packet, Properties, Version, BODY_LEN};
use core::fmt;
use zerocopy::FromBytes as _;

/// What is being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `BEGIN_INITIALIZATION`.
    Begin,
    /// `QUERY_PROTOCOL_VERSION` with entry 0 or 1 of [`Version::PROPOSED`].
    Version(Version),
    /// `QUERY_PROPERTIES`.
    Properties,
    /// `END_INITIALIZATION`.
    End,
    /// `CREATE_SUB_CHANNELS` with this number.
    SubChannels(u16),
}

const ID_BASE: u64 = u64::MAX - 15;
const STEPS: u64 = 6;

/// The id is one of a step of the initialisation.
#[must_use]
pub const fn is_init_id(id: u64) -> bool {
    id >= ID_BASE && id < ID_BASE + STEPS
}

impl Step {
    /// Its transaction id, in the range that is reserved for drivers.
    #[must_use]
    pub const fn id(self) -> u64 {
        let number = match self {
            Step::Begin => 0,
            Step::Version(Version::WIN10) => 1,
            Step::Version(_) => 2,
            Step::Properties => 3,
            Step::End => 4,
            Step::SubChannels(_) => 5,
        };
        ID_BASE | number
    }

    /// Its packet.
    #[must_use]
    pub fn packet(self) -> Packet {
        match self {
            Step::Begin => Packet::new(Operation::BEGIN_INITIALIZATION),
            Step::Version(version) => {
                Packet::with_u16(Operation::QUERY_PROTOCOL_VERSION, version.0)
            }
            Step::Properties => Packet::new(Operation::QUERY_PROPERTIES),
            Step::End => Packet::new(Operation::END_INITIALIZATION),
            Step::SubChannels(count) => Packet::with_u16(Operation::CREATE_SUB_CHANNELS, count),
        }
    }
}

/// Why the initialisation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// The host answered with a status that is not 0.
    Refused {
        /// The step.
        step: Step,
        /// NT status.
        status: u32,
    },
    /// The answer is not one.
    Protocol {
        /// The step.
        step: Step,
        /// The operation of the answer.
        operation: u32,
    },
    /// The host knows none of our versions.
    NoVersion,
    /// No answer in time.
    Timeout(Step),
    /// The packet could not be sent, or the channel was lost.
    Channel,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::Refused { step, status } => {
                write!(f, "the host refused {step:?}: status {status:#x}")
            }
            InitError::Protocol { step, operation } => {
                write!(f, "operation {operation} in answer to {step:?}")
            }
            InitError::NoVersion => {
                f.write_str("the host has neither version 6.2 nor 6.0 of the protocol")
            }
            InitError::Timeout(step) => write!(f, "no answer to {step:?}"),
            InitError::Channel => f.write_str("the channel was lost"),
        }
    }
}

/// What the host is able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Most sub-channels; 0 when it has none.
    pub max_sub_channels: u16,
    /// Most bytes of one transfer, not checked: see
    /// [`crate::limits::transfer`].
    pub max_transfer_bytes: u32,
}

/// Where the initialisation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was sent.
    Idle,
    /// A packet was sent.
    Waiting(Step),
    /// Commands can be sent.
    Ready,
    /// The channel has to be closed.
    Failed(InitError),
}

/// The initialisation of one device.
#[derive(Clone, Debug)]
pub struct Init {
    state: State,
    version: Version,
    host: HostLimits,
    asked: u16,
    granted: u16,
    ignored: u32,
}

impl Default for Init {
    fn default() -> Self {
        Self::new()
    }
}

impl Init {
    /// Nothing was sent yet.
    #[must_use]
    pub const fn new() -> Self {
        Init {
            state: State::Idle,
            version: Version::WIN10,
            host: HostLimits {
                max_sub_channels: 0,
                max_transfer_bytes: 0,
            },
            asked: 0,
            granted: 0,
            ignored: 0,
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The version that was agreed on; meaningful from `Ready` on.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// What the host is able to do; meaningful from `Ready` on.
    #[must_use]
    pub const fn host(&self) -> HostLimits {
        self.host
    }

    /// Sub-channels that the host promised. It may offer fewer.
    #[must_use]
    pub const fn granted(&self) -> u16 {
        self.granted
    }

    /// Whether a sub-channel with this index is one of those that were asked
    /// for. A host may offer them before it answers, so what it granted does
    /// not count.
    #[must_use]
    pub const fn wants_sub_channel(&self, index: u16) -> bool {
        index != 0 && index <= self.asked
    }

    /// Answers that came when none was expected, or twice.
    #[must_use]
    pub const fn ignored(&self) -> u32 {
        self.ignored
    }

    fn wait_for(&mut self, step: Step) -> Option<Step> {
        self.state = State::Waiting(step);
        Some(step)
    }

    fn fail(&mut self, error: InitError) -> Option<Step> {
        self.state = State::Failed(error);
        None
    }

    /// Starts; returns the first step, whose packet is to be sent. `None` when
    /// it was started before.
    pub fn start(&mut self) -> Option<Step> {
        if self.state != State::Idle {
            return None;
        }
        self.wait_for(Step::Begin)
    }

    /// Asks for sub-channels, once everything else is done. `None` when there
    /// is nothing to ask for.
    pub fn ask_sub_channels(&mut self, count: u16) -> Option<Step> {
        let count = count.min(self.host.max_sub_channels);
        if self.state != State::Ready || count == 0 {
            return None;
        }
        self.asked = count;
        self.wait_for(Step::SubChannels(count))
    }

    /// Takes an answer; returns the next step to send, if there is one.
    pub fn on_answer(
        &mut self,
        id: u64,
        operation: Operation,
        status: u32,
        body: &[u8; BODY_LEN],
    ) -> Option<Step> {
        let step = match self.state {
            State::Waiting(step) if step.id() == id => step,
            _ => {
                self.ignored = self.ignored.saturating_add(1);
                return None;
            }
        };
        if let Step::SubChannels(count) = step {
            // Without them the device works as well.
            if operation == Operation::COMPLETE_IO && status == 0 {
                self.granted = count;
            }
            self.state = State::Ready;
            return None;
        }
        if operation != Operation::COMPLETE_IO {
            return self.fail(InitError::Protocol {
                step,
                operation: operation.0,
            });
        }
        match step {
            Step::Version(version) if status != 0 => {
                let next = Version::PROPOSED
                    .into_iter()
                    .skip_while(|other| *other != version)
                    .nth(1);
                return match next {
                    Some(version) => self.wait_for(Step::Version(version)),
                    None => self.fail(InitError::NoVersion),
                };
            }
            _ if status != 0 => return self.fail(InitError::Refused { step, status }),
            _ => {}
        }
        match step {
            Step::Begin => self.wait_for(Step::Version(Version::WIN10)),
            Step::Version(version) => {
                self.version = version;
                self.wait_for(Step::Properties)
            }
            Step::Properties => {
                if let Ok((properties, _)) = Properties::ref_from_prefix(body) {
                    let multi = properties.flags.get() & Properties::MULTI_CHANNEL != 0;
                    self.host = HostLimits {
                        max_sub_channels: if multi {
                            properties.max_channels.get()
                        } else {
                            0
                        },
                        max_transfer_bytes: properties.max_transfer_bytes.get(),
                    };
                }
                self.wait_for(Step::End)
            }
            Step::End | Step::SubChannels(_) => {
                self.state = State::Ready;
                None
            }
        }
    }

    /// No answer came in time. Sub-channels are done without; anything else
    /// fails.
    pub fn on_timeout(&mut self) {
        match self.state {
            State::Waiting(Step::SubChannels(_)) => self.state = State::Ready,
            State::Waiting(step) => self.state = State::Failed(InitError::Timeout(step)),
            _ => {}
        }
    }

    /// The packet was not sent, or the channel is lost.
    pub fn on_channel_lost(&mut self) {
        match self.state {
            State::Waiting(Step::SubChannels(_)) => self.state = State::Ready,
            State::Idle | State::Waiting(_) => self.state = State::Failed(InitError::Channel),
            State::Ready | State::Failed(_) => {}
        }
    }
}
