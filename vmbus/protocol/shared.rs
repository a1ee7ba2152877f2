// SPDX-License-Identifier: GPL-2.0

//! States that several contexts change at the same time, without a lock.
//!
//! Each is one word, changed by compare-exchange, so of several that are first
//! at the same time one is.

/// A state that fits into a word.
pub trait SharedState: Copy {
    /// What happens to it.
    type Event: Copy;

    /// What an event makes of it; `None` when nothing changes: somebody else
    /// was first, or it does not fit.
    fn after(self, event: Self::Event) -> Option<Self>;

    /// The word that stands for this state.
    fn raw(self) -> u32;

    /// The state that a word stands for.
    fn from_raw(raw: u32) -> Self;
}

/// The word.
pub trait StateWord {
    /// Reads it.
    fn load(&self) -> u32;

    /// Replaces `old` by `new`, with a full barrier.
    ///
    /// # Errors
    ///
    /// The word there is, if that is not `old`.
    fn exchange(&self, old: u32, new: u32) -> Result<(), u32>;
}

/// Lets an event happen, and returns the state before it; `None` when it
/// changes nothing. Tried again only if somebody else changed the state.
pub fn happen<S: SharedState>(word: &impl StateWord, event: S::Event) -> Option<S> {
    let mut raw = word.load();
    loop {
        let state = S::from_raw(raw);
        let next = state.after(event)?;
        match word.exchange(raw, next.raw()) {
            Ok(()) => return Some(state),
            Err(now) => raw = now,
        }
    }
}
