// SPDX-License-Identifier: GPL-2.0

//! Posting of messages to a host that may have no room for them.
//!
//! A message is posted with one hypercall (`HvCallPostMessage`, TLFS section
//! 11.12), and a host that has much to do refuses it, with one of three
//! statuses and for many seconds. So a message is posted again, after pauses
//! that become longer, until a time is over (`drivers/hv/connection.c:
//! vmbus_post_msg`, which counts tries).

const SUCCESS: u64 = 0;
const INSUFFICIENT_MEMORY: u64 = 0x0b;
const INVALID_CONNECTION_ID: u64 = 0x12;
const INSUFFICIENT_BUFFERS: u64 = 0x13;

/// The longest pause between two tries, in microseconds. The guest is not
/// busy with this, and the host's room is found soon after it is there.
pub const MAX_PAUSE_US: u32 = 100_000;

/// A message that has waited for so long, in microseconds, is worth a line in the log.
pub const LONG_US: u32 = 5_000_000;

/// Why a message is posted, which decides for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// INITIATE_CONTACT: the host need not have the connection id that this
    /// version of the protocol uses, so that is an answer at once. Other
    /// versions are waiting.
    Contact,
    /// Every other message. A host that has accepted the connection has its
    /// connection id, and may deny it when messages come too often.
    Request,
    /// Any message after one that the host had no room for in all the time:
    /// it would be waited for again and again, with each channel's. And one
    /// that is posted again later anyway.
    AfterFull,
    /// UNLOAD in a crash: nothing else runs meanwhile, and a dump waits.
    Crash,
}

impl Purpose {
    /// The sum of all pauses, in microseconds. The C driver's is about 168 s.
    #[must_use]
    pub const fn budget_us(self) -> u32 {
        match self {
            Purpose::Contact | Purpose::Request => 180_000_000,
            Purpose::AfterFull => 1_000_000,
            Purpose::Crash => 30_000_000,
        }
    }
}

/// Why a message was not posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostError {
    /// The host does not have the connection id.
    NoConnection,
    /// The host had no room in all the time; its last status.
    Full(u64),
    /// Any other status: posting again would not help.
    Status(u64),
}

/// What to do after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The host has the message.
    Posted,
    /// Pause for this many microseconds, then post again.
    Pause(u32),
    /// Give up.
    Failed(PostError),
}

/// The tries to post one message.
#[derive(Clone, Debug)]
pub struct Tries {
    purpose: Purpose,
    pause_us: u32,
    left_us: u32,
}

impl Tries {
    /// Before the first try.
    #[must_use]
    pub const fn new(purpose: Purpose) -> Self {
        Tries {
            purpose,
            pause_us: 1,
            left_us: purpose.budget_us(),
        }
    }

    /// After a try, whose status (TLFS appendix B) the hypervisor gave.
    #[must_use]
    pub fn after(&mut self, status: u64) -> Next {
        match status {
            SUCCESS => Next::Posted,
            INVALID_CONNECTION_ID if self.purpose == Purpose::Contact => {
                Next::Failed(PostError::NoConnection)
            }
            INVALID_CONNECTION_ID | INSUFFICIENT_MEMORY | INSUFFICIENT_BUFFERS => {
                self.again(status)
            }
            other => Next::Failed(PostError::Status(other)),
        }
    }

    /// Whether the pauses, with the one that comes now, are [`LONG_US`] together for the first
    /// time.
    #[must_use]
    pub const fn become_long(&self, pause_us: u32) -> bool {
        let waited = self.purpose.budget_us().saturating_sub(self.left_us);

        waited >= LONG_US && waited.saturating_sub(pause_us) < LONG_US
    }

    fn again(&mut self, status: u64) -> Next {
        if self.left_us == 0 {
            return Next::Failed(PostError::Full(status));
        }
        let pause = self.pause_us.min(self.left_us);
        self.left_us = self.left_us.saturating_sub(pause);
        self.pause_us = self.pause_us.saturating_mul(2).min(MAX_PAUSE_US);
        Next::Pause(pause)
    }
}
