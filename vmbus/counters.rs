// SPDX-License-Identifier: GPL-2.0

//! Counters of what went wrong, readable under `/sys/bus/vmbus/counters/`.

use crate::{abstractions::Counter, memory};

/// Messages that were dropped because they were malformed or of an unknown type.
pub(crate) static BAD_MESSAGES: Counter = Counter::new();
/// Replies that nobody waited for.
pub(crate) static STRAY_REPLIES: Counter = Counter::new();
/// Replies to requests that were given up.
pub(crate) static LATE_REPLIES: Counter = Counter::new();
/// Requests that the host did not answer in time.
pub(crate) static TIMEOUTS: Counter = Counter::new();
/// Offers that were refused because something was wrong with them.
pub(crate) static REFUSED_OFFERS: Counter = Counter::new();
/// Rescinds of channels that are not there, and repeated ones.
pub(crate) static BAD_RESCINDS: Counter = Counter::new();
/// Messages that the host had no room for when they were posted; each is posted again.
pub(crate) static REFUSED_POSTS: Counter = Counter::new();
/// Doorbells that the host refused, but for the first one of a channel that it may be taking back.
pub(crate) static REFUSED_DOORBELLS: Counter = Counter::new();

/// Pages that were left to the host because it did not say that it is done with them.
pub(crate) fn leaked_pages() -> u64 {
    memory::leaked_pages()
}
