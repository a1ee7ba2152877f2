// SPDX-License-Identifier: GPL-2.0

//! Matching of the host's replies to the requests that wait for them.
//!
//! A reply is matched by everything it carries (kind, relid, handle or open
//! id). Replies nobody waits for, late or repeated ones, are counted and
//! otherwise ignored.

use crate::message::Inbound;
use core::{marker::PhantomData, ops::DerefMut};

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKey {
    /// VERSION_RESPONSE.
    Version,
    /// OPENCHANNEL_RESULT.
    Open {
        /// The channel.
        relid: u32,
        /// From the request.
        open_id: u32,
    },
    /// GPADL_CREATED.
    GpadlCreated {
        /// The channel.
        relid: u32,
        /// The handle.
        gpadl: u32,
    },
    /// GPADL_TORNDOWN, which does not name the channel on the wire.
    GpadlTorndown {
        /// The channel, for [`Pending::rescind`] only.
        relid: u32,
        /// The handle.
        gpadl: u32,
    },
    /// MODIFYCHANNEL_RESPONSE.
    Modify {
        /// The channel.
        relid: u32,
    },
}

/// A reply's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The host's status, 0 for success.
    Status(u32),
    /// The version response.
    Version(crate::message::VersionResponse),
    /// There is nothing but the fact.
    Done,
    /// No reply will come: the channel was rescinded.
    Rescinded,
}

impl ReplyKey {
    /// The channel that the request is about.
    #[must_use]
    pub const fn relid(&self) -> Option<u32> {
        match *self {
            ReplyKey::Version => None,
            ReplyKey::Open { relid, .. }
            | ReplyKey::GpadlCreated { relid, .. }
            | ReplyKey::GpadlTorndown { relid, .. }
            | ReplyKey::Modify { relid } => Some(relid),
        }
    }

    /// Tells whether `message` is the reply this key waits for, and its
    /// content.
    #[must_use]
    pub fn matches(&self, message: &Inbound) -> Option<Reply> {
        match (*self, message) {
            (ReplyKey::Version, Inbound::VersionResponse(r)) => Some(Reply::Version(*r)),
            (ReplyKey::Open { relid, open_id }, Inbound::OpenResult(r)) => {
                (r.relid == relid && r.open_id == open_id).then_some(Reply::Status(r.status))
            }
            (ReplyKey::GpadlCreated { relid, gpadl }, Inbound::GpadlCreated(r)) => {
                (r.relid == relid && r.gpadl == gpadl).then_some(Reply::Status(r.status))
            }
            (ReplyKey::GpadlTorndown { gpadl, .. }, Inbound::GpadlTorndown(r)) => {
                (r.gpadl == gpadl).then_some(Reply::Done)
            }
            (ReplyKey::Modify { relid }, Inbound::ModifyChannelResponse(r)) => {
                (r.relid == relid).then_some(Reply::Status(r.status))
            }
            _ => None,
        }
    }
}

/// Tells whether a message is a reply at all (and not an offer or the like).
/// UNLOAD_RESPONSE is none: there is one UNLOAD, which waits by itself.
#[must_use]
pub const fn is_reply(message: &Inbound) -> bool {
    matches!(
        message,
        Inbound::VersionResponse(_)
            | Inbound::OpenResult(_)
            | Inbound::GpadlCreated(_)
            | Inbound::GpadlTorndown(_)
            | Inbound::ModifyChannelResponse(_)
    )
}

/// Names one waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    index: usize,
    generation: u32,
}

/// Why a request cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// Too many requests wait.
    Full,
    /// A request with the same key waits; its reply could not be told apart.
    Duplicate,
}

#[derive(Debug)]
struct Entry<W> {
    key: ReplyKey,
    waiter: W,
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
    stray: u32,
    _waiter: PhantomData<W>,
}

impl<W, S: DerefMut<Target = [Place<W>]>> Pending<W, S> {
    /// Nobody waits in `places`, of which each is new.
    #[must_use]
    pub const fn new(places: S) -> Self {
        Pending {
            places,
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
        let mut free = None;
        for (index, place) in self.places.iter_mut().enumerate() {
            match &place.entry {
                Some(entry) if entry.key == key => return Err(RegisterError::Duplicate),
                Some(_) => {}
                None if free.is_none() => free = Some((index, place)),
                None => {}
            }
        }
        let (index, place) = free.ok_or(RegisterError::Full)?;
        place.generation = place.generation.wrapping_add(1);
        place.entry = Some(Entry { key, waiter });
        Ok(Token {
            index,
            generation: place.generation,
        })
    }

    /// Takes a request out: its post failed or its wait ended. `None` when it
    /// was resolved already.
    pub fn cancel(&mut self, token: Token) -> Option<W> {
        let place = self.places.get_mut(token.index)?;
        if place.generation != token.generation {
            return None;
        }
        place.entry.take().map(|entry| entry.waiter)
    }

    /// Finds the request a message answers and takes it out. A reply nobody
    /// waits for is counted.
    pub fn resolve(&mut self, message: &Inbound) -> Option<(W, Reply)> {
        for place in self.places.iter_mut() {
            let reply = place.entry.as_ref().and_then(|e| e.key.matches(message));
            if let Some(reply) = reply {
                return place.entry.take().map(|entry| (entry.waiter, reply));
            }
        }
        if is_reply(message) {
            self.stray = self.stray.saturating_add(1);
        }
        None
    }

    /// Takes out one request that waits on a rescinded channel; call until
    /// `None`. Every waiter has to be woken with [`Reply::Rescinded`].
    pub fn rescind(&mut self, relid: u32) -> Option<W> {
        self.places
            .iter_mut()
            .find(|place| {
                place
                    .entry
                    .as_ref()
                    .is_some_and(|entry| entry.key.relid() == Some(relid))
            })
            .and_then(|place| place.entry.take())
            .map(|entry| entry.waiter)
    }

    /// Number of requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.iter().filter(|p| p.entry.is_some()).count()
    }

    /// Nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replies that nobody waited for.
    #[must_use]
    pub fn stray(&self) -> u32 {
        self.stray
    }
}
