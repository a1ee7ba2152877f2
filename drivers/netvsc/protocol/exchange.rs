// SPDX-License-Identifier: GPL-2.0

//! RNDIS requests and their answers: one at a time, each with an id of its
//! own.
//!
//! What comes twice, with another type, or unasked changes nothing, and what
//! comes late says no more than that the host answers again; the C driver
//! compares the id only, and writes a repeated answer to memory that it may
//! have freed (`drivers/net/hyperv/rndis_filter.c:rndis_filter_receive_response`).

use crate::{
    rndis::{head, Kind},
    rx::MAX_CONTROL,
};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is the answer that is waited for.
    Answered,
    /// It is the answer to the last request that had none when it was ended.
    Late,
    /// It answers nothing that is waited for.
    Ignored,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    id: u32,
    kind: Kind,
}

impl Expected {
    fn is(self, message: &[u8]) -> bool {
        head(message).is_some_and(|(kind, _, id)| kind == self.kind && id == self.id)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Waiting(Expected),
    Answered,
}

/// The request that is under way, if there is one.
#[derive(Debug)]
pub struct Exchange {
    state: State,
    /// That to the last request that had none when it was ended.
    late: Option<Expected>,
    last_id: u32,
    answer: [u8; MAX_CONTROL],
    len: usize,
    ignored: u32,
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

impl Exchange {
    /// Nothing under way.
    #[must_use]
    pub const fn new() -> Self {
        Exchange {
            state: State::Idle,
            late: None,
            last_id: 0,
            answer: [0; MAX_CONTROL],
            len: 0,
            ignored: 0,
        }
    }

    /// Starts a request and returns its id; what was under way before is
    /// forgotten. Ids repeat after 2^32 requests.
    pub fn begin(&mut self, kind: Kind) -> u32 {
        let id = self.last_id.wrapping_add(1);
        self.last_id = id;
        self.state = State::Waiting(Expected {
            id,
            kind: kind.answer(),
        });
        id
    }

    /// Takes a message, a private copy.
    pub fn on_message(&mut self, message: &[u8]) -> Outcome {
        let fits = matches!(self.state, State::Waiting(expected) if expected.is(message));
        let to = self.answer.get_mut(..message.len());
        match to {
            Some(to) if fits => {
                to.copy_from_slice(message);
                self.len = message.len();
                self.state = State::Answered;
                Outcome::Answered
            }
            _ if self.late.take_if(|late| late.is(message)).is_some() => Outcome::Late,
            _ => {
                self.ignored = self.ignored.saturating_add(1);
                Outcome::Ignored
            }
        }
    }

    /// The answer, once it is there.
    #[must_use]
    pub fn answer(&self) -> Option<&[u8]> {
        match self.state {
            State::Answered => self.answer.get(..self.len),
            _ => None,
        }
    }

    /// The request could not be sent: no answer is owed to it. That to the one before still is.
    pub fn withdraw(&mut self) {
        self.state = State::Idle;
    }

    /// Ends the request, answered or not.
    pub fn end(&mut self) {
        if let State::Waiting(expected) = self.state {
            self.late = Some(expected);
        }
        self.state = State::Idle;
    }

    /// Messages that answered nothing.
    #[must_use]
    pub const fn ignored(&self) -> u32 {
        self.ignored
    }
}
