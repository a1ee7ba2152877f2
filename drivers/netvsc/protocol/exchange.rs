// SPDX-License-Identifier: GPL-2.0

//! RNDIS requests and their answers: one at a time, each with an id of its
//! own.
//!
//! What comes late, twice, with another type, or unasked changes nothing
//! (netvsc.md 4.12); the C driver compares the id only, and writes a repeated
//! answer to memory that it may have freed.

use crate::{
    rndis::{head, Kind},
    rx::MAX_CONTROL,
};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is the answer that is waited for.
    Answered,
    /// It answers nothing that is waited for.
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Waiting { id: u32, answer: Kind },
    Answered,
}

/// The request that is under way, if there is one.
#[derive(Debug)]
pub struct Exchange {
    state: State,
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
        self.state = State::Waiting {
            id,
            answer: kind.answer(),
        };
        id
    }

    /// Takes a message, a private copy.
    pub fn on_message(&mut self, message: &[u8]) -> Outcome {
        let fits = match (self.state, head(message)) {
            (State::Waiting { id, answer }, Some((kind, _, of))) => kind == answer && of == id,
            _ => false,
        };
        let to = self.answer.get_mut(..message.len());
        match to {
            Some(to) if fits => {
                to.copy_from_slice(message);
                self.len = message.len();
                self.state = State::Answered;
                Outcome::Answered
            }
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

    /// Ends the request, answered or not.
    pub fn end(&mut self) {
        self.state = State::Idle;
    }

    /// Messages that answered nothing.
    #[must_use]
    pub const fn ignored(&self) -> u32 {
        self.ignored
    }
}
