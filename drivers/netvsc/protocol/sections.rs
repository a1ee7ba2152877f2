// SPDX-License-Identifier: GPL-2.0

//! Sections of the send buffer. Each queue has its own, so that queues do not
//! wait for each other.

use core::ops::{DerefMut, Range};

/// The sections of queue `queue` of `queues`, of `count` sections in all.
#[must_use]
pub fn share(count: u32, queues: u32, queue: u32) -> Range<u32> {
    let at = |queue: u32| {
        u64::from(count)
            .saturating_mul(u64::from(queue))
            .checked_div(u64::from(queues))
            .and_then(|at| u32::try_from(at).ok())
            .unwrap_or(count)
    };
    if queue >= queues {
        return 0..0;
    }
    at(queue)..at(queue.saturating_add(1))
}

/// A section that is in use. Not `Clone`: it goes back once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a section that is dropped is lost to its queue"]
pub struct Section(u32);

impl Section {
    /// Its number in NVSP messages.
    #[inline]
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.0
    }

    /// Puts it aside as a number, of which one becomes a section again.
    #[inline]
    #[must_use]
    pub const fn put_aside(self) -> u32 {
        self.0
    }

    /// Of what [`Self::put_aside`] gave, which it was not called with before.
    #[inline]
    pub const fn take_up(number: u32) -> Self {
        Section(number)
    }
}

/// The free sections of a queue. What was freed last is used first.
#[derive(Debug)]
pub struct Sections<S> {
    free: S,
    used: usize,
}

impl<S: DerefMut<Target = [u32]>> Sections<S> {
    /// The sections of `range`, as many as `storage` has room for.
    pub fn new(mut storage: S, range: Range<u32>) -> Self {
        let mut used = 0usize;
        for (to, number) in storage.iter_mut().zip(range) {
            *to = number;
            used = used.saturating_add(1);
        }
        Sections {
            free: storage,
            used,
        }
    }

    /// How many are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.used
    }

    /// Takes one.
    #[inline]
    pub fn take(&mut self) -> Option<Section> {
        let top = self.used.checked_sub(1)?;
        let number = *self.free.get(top)?;
        self.used = top;
        Some(Section(number))
    }

    /// Gives one back.
    #[inline]
    pub fn give(&mut self, section: Section) {
        if let Some(to) = self.free.get_mut(self.used) {
            *to = section.0;
            self.used = self.used.saturating_add(1);
        }
    }
}
