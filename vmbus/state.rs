// SPDX-License-Identifier: GPL-2.0

//! States of `vmbus_protocol` that several contexts change.

use core::marker::PhantomData;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed};
use vmbus_protocol::shared::{happen, SharedState, StateWord};

/// Holds a state.
pub(crate) struct StateCell<S> {
    word: Word,
    _state: PhantomData<S>,
}

struct Word(Atomic<u32>);

impl StateWord for Word {
    fn load(&self) -> u32 {
        self.0.load(Acquire)
    }

    fn exchange(&self, old: u32, new: u32) -> Result<(), u32> {
        self.0.cmpxchg(old, new, Full).map(drop)
    }
}

impl<S: SharedState> StateCell<S> {
    /// In this state.
    pub(crate) fn new(state: S) -> Self {
        Self {
            word: Word(Atomic::new(state.raw())),
            _state: PhantomData,
        }
    }

    /// In the state whose word is 0.
    pub(crate) const fn zero() -> Self {
        Self {
            word: Word(Atomic::new(0)),
            _state: PhantomData,
        }
    }

    /// The state of now. What is read behind this is not older.
    pub(crate) fn get(&self) -> S {
        S::from_raw(self.word.load())
    }

    /// The state of now, for who needs no order: it may have changed by the time it is looked at.
    #[inline]
    pub(crate) fn peek(&self) -> S {
        S::from_raw(self.word.0.load(Relaxed))
    }

    /// Lets an event happen, and returns the state before it; `None` when it changes nothing: it
    /// does not fit, or somebody else was first.
    pub(crate) fn happen(&self, event: S::Event) -> Option<S> {
        happen(&self.word, event)
    }
}
