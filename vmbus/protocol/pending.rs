// SPDX-License-Identifier: GPL-2.0

//! Matching of the host's replies to the requests that wait for them.
//!
//! A reply is matched by everything it carries (kind, relid, handle or open
//! id). A request that is given up leaves its key behind: its reply may come
//! late, and is then not taken for the answer to another request. It says what
//! the host has done meanwhile, which is acted upon, except for a channel's CPU:
//! that stays in doubt until it is asked for again. Replies to nothing at all
//! are counted and otherwise ignored.
//!
//! Which replies could be taken for another's:
//!
//! - OPENCHANNEL_RESULT, GPADL_CREATED and GPADL_TORNDOWN carry the open id or
//!   the handle, which are different for each request of a connection.
//! - MODIFYCHANNEL_RESPONSE carries the relid only: see [`Pending::resolve`].
//! - VERSION_RESPONSE carries nothing. A proposal without an answer ends the
//!   negotiation, so no other one waits when the answer comes late.
//! - UNLOAD_RESPONSE carries nothing. One UNLOAD is sent in the life of a
//!   connection, and what a former connection left behind comes before the
//!   host's answer to the first proposal of the next.

use crate::{
    message::Inbound,
    reply::{is_reply, Reply, ReplyKey},
    Relid,
};
use core::{marker::PhantomData, ops::DerefMut};

/// Names one waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    index: usize,
    generation: u32,
    number: u64,
    times: u8,
}

impl Token {
    /// How often the request is to be posted: once, and once more for each answer
    /// that is owed, from which its own could not be told apart, and which may
    /// never come. See [`Pending::posted`].
    #[must_use]
    pub const fn times(&self) -> u8 {
        self.times
    }
}

/// Why a request cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// Too many requests wait.
    Full,
    /// A request waits whose reply could not be told apart.
    Duplicate,
    /// The host owes answers to too many former requests, from which this one's
    /// could not be told apart.
    Owed,
}

/// What a message from the host is to those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<W> {
    /// The answer to a request that waits.
    Awaited(W, Reply),
    /// The answer to a request that was given up.
    Late(ReplyKey, Reply),
    /// A reply to nothing; it is counted.
    Stray,
}

/// Answers about one channel's CPU that the host may owe.
pub const MAX_OWED_MODIFIES: usize = 4;

#[derive(Debug)]
struct Entry<W> {
    key: ReplyKey,
    /// Requests are numbered as they are registered.
    number: u64,
    /// `None` when the request was given up: the host owes its answer.
    waiter: Option<W>,
}

/// One place for a request that waits.
#[derive(Debug)]
pub struct Place<W> {
    generation: u32,
    entry: Option<Entry<W>>,
}

impl<W> Place<W> {
    /// A free place.
    #[must_use]
    pub const fn new() -> Self {
        Place {
            generation: 0,
            entry: None,
        }
    }

    fn waits(&self) -> bool {
        self.entry.as_ref().is_some_and(|e| e.waiter.is_some())
    }
}

impl<W> Default for Place<W> {
    fn default() -> Self {
        Self::new()
    }
}

/// Requests that wait for replies, each with the caller's waiter, in storage of
/// the caller: a vector, a boxed or a borrowed slice.
#[derive(Debug)]
pub struct Pending<W, S: DerefMut<Target = [Place<W>]>> {
    places: S,
    next_number: u64,
    stray: u32,
    _waiter: PhantomData<W>,
}

impl<W, S: DerefMut<Target = [Place<W>]>> Pending<W, S> {
    /// Nobody waits in `places`, of which each is new.
    #[must_use]
    pub const fn new(places: S) -> Self {
        Pending {
            places,
            next_number: 0,
            stray: 0,
            _waiter: PhantomData,
        }
    }

    /// Registers a request. Do it before looking at the channel's rescinded
    /// flag and before posting, or a wake-up can be lost.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`].
    pub fn register(&mut self, key: ReplyKey, waiter: W) -> Result<Token, RegisterError> {
        let mut owed = 0u8;
        for entry in self.entries() {
            if entry.key.collides(&key) {
                if entry.waiter.is_some() || entry.key == ReplyKey::Version {
                    return Err(RegisterError::Duplicate);
                }
                owed = owed.saturating_add(1);
            }
        }
        if usize::from(owed) >= MAX_OWED_MODIFIES {
            return Err(RegisterError::Owed);
        }
        let times = owed.saturating_add(1);
        // If those owed are lost, answers to this one are taken for them.
        for added in 0..owed {
            if let Err(error) = self.add(key, None, times) {
                self.forget_last(key, added);
                return Err(error);
            }
        }
        self.add(key, Some(waiter), times)
            .inspect_err(|_| self.forget_last(key, owed))
    }

    /// Takes out the last `count` answers that are owed to `key`, and that were
    /// registered right before now.
    fn forget_last(&mut self, key: ReplyKey, count: u8) {
        let end = self.next_number;
        self.forget(key, end.wrapping_sub(u64::from(count))..end);
    }

    /// Takes out answers that are owed to `key`, by their numbers.
    fn forget(&mut self, key: ReplyKey, numbers: core::ops::Range<u64>) {
        for place in self.places.iter_mut() {
            if place.entry.as_ref().is_some_and(|entry| {
                entry.waiter.is_none() && entry.key == key && numbers.contains(&entry.number)
            }) {
                place.entry = None;
            }
        }
    }

    fn add(&mut self, key: ReplyKey, waiter: Option<W>, times: u8) -> Result<Token, RegisterError> {
        let index = self.free_place().ok_or(RegisterError::Full)?;
        let place = self.places.get_mut(index).ok_or(RegisterError::Full)?;
        place.generation = place.generation.wrapping_add(1);
        let number = self.next_number;
        place.entry = Some(Entry {
            key,
            number,
            waiter,
        });
        self.next_number = number.wrapping_add(1);
        Ok(Token {
            index,
            generation: place.generation,
            number,
            times,
        })
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<W>> {
        self.places.iter().filter_map(|place| place.entry.as_ref())
    }

    /// A place that is free, or has the oldest answer owed of those that can be
    /// forgotten.
    fn free_place(&self) -> Option<usize> {
        let rank = |place: &Place<W>| match &place.entry {
            None => Some((false, 0)),
            Some(entry) if entry.waiter.is_none() && entry.key.is_unique() => {
                Some((true, entry.number))
            }
            Some(_) => None,
        };
        self.places
            .iter()
            .enumerate()
            .filter_map(|(index, place)| Some((rank(place)?, index)))
            .min()
            .map(|(_, index)| index)
    }

    fn waiting_place(&mut self, token: Token) -> Option<&mut Place<W>> {
        self.places
            .get_mut(token.index)
            .filter(|place| place.generation == token.generation && place.waits())
    }

    /// A request was posted so many times, and not as often as [`Token::times`]
    /// says: the host owes no answers to the others. If it was not posted at all,
    /// it does not wait any more, and its waiter comes back.
    pub fn posted(&mut self, token: Token, times: u8) -> Option<W> {
        let place = self.places.get_mut(token.index)?;
        if place.generation != token.generation {
            return None;
        }
        let key = place.entry.as_ref()?.key;
        let waiter = match times {
            0 if place.waits() => place.entry.take().and_then(|entry| entry.waiter),
            _ => None,
        };
        let missing = u64::from(token.times.saturating_sub(times.max(1)));
        self.forget(key, token.number.wrapping_sub(missing)..token.number);
        waiter
    }

    /// Waits no longer for the answer to a request that was posted: it is late
    /// from now on. `None` when it was resolved already.
    pub fn give_up(&mut self, token: Token) -> Option<W> {
        let place = self.waiting_place(token)?;
        place.entry.as_mut().and_then(|entry| entry.waiter.take())
    }

    /// Finds the request that a message answers. A reply to nothing is counted;
    /// `None` for messages that are no replies.
    ///
    /// Of several requests for a channel's CPU the host answers one after the
    /// other, if it answers. So what comes counts for the oldest one, and for a
    /// later one only if the CPU that it asks for is the same: then the
    /// channel is there whichever of them was answered. See also
    /// [`Token::times`].
    pub fn resolve(&mut self, message: &Inbound) -> Option<Answer<W>> {
        let oldest = self
            .places
            .iter()
            .enumerate()
            .filter_map(|(index, place)| {
                let entry = place.entry.as_ref()?;
                Some((entry.number, index, entry.key.matches(message)?))
            })
            .min_by_key(|&(number, _, _)| number);
        let Some((_, index, reply)) = oldest else {
            if is_reply(message) {
                self.stray = self.stray.saturating_add(1);
                return Some(Answer::Stray);
            }
            return None;
        };
        let Entry { key, waiter, .. } = self.places.get_mut(index)?.entry.take()?;
        if let Some(waiter) = waiter {
            return Some(Answer::Awaited(waiter, reply));
        }
        match self.satisfied_by(key, reply) {
            Some(waiter) => Some(Answer::Awaited(waiter, reply)),
            None => Some(Answer::Late(key, reply)),
        }
    }

    /// The request that a late answer to `key` answers as well. The host owes
    /// its own still.
    fn satisfied_by(&mut self, key: ReplyKey, reply: Reply) -> Option<W> {
        let same = self
            .entries()
            .filter(|entry| entry.key.collides(&key))
            .all(|entry| entry.key == key);
        if !same || reply != Reply::Status(0) {
            return None;
        }
        self.places
            .iter_mut()
            .filter_map(|place| place.entry.as_mut())
            .find(|entry| entry.key == key && entry.waiter.is_some())
            .and_then(|entry| entry.waiter.take())
    }

    /// The host has answered, on this channel, what came after all that it was asked for its CPU:
    /// what it has not answered of that, it never will. Who waits goes on waiting.
    pub fn forget_modifies(&mut self, relid: Relid) {
        for place in self.places.iter_mut() {
            if place.entry.as_ref().is_some_and(|entry| {
                entry.waiter.is_none()
                    && matches!(entry.key, ReplyKey::Modify { relid: of, .. } if of == relid)
            }) {
                place.entry = None;
            }
        }
    }

    /// Takes out one request that waits on a rescinded channel, whose answers
    /// the host does not owe any more; call until `None`. Every waiter has to
    /// be woken with [`Reply::Rescinded`].
    pub fn rescind(&mut self, relid: Relid) -> Option<W> {
        for place in self.places.iter_mut() {
            if place
                .entry
                .as_ref()
                .is_some_and(|entry| entry.key.relid() == Some(relid))
            {
                if let Some(waiter) = place.entry.take().and_then(|entry| entry.waiter) {
                    return Some(waiter);
                }
            }
        }
        None
    }

    /// Number of requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.iter().filter(|place| place.waits()).count()
    }

    /// Nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of answers that the host owes to requests that were given up.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.entries()
            .filter(|entry| entry.waiter.is_none())
            .count()
    }

    /// Replies to nothing.
    #[must_use]
    pub fn stray(&self) -> u32 {
        self.stray
    }
}
