// SPDX-License-Identifier: GPL-2.0

//! The added memory, for people: neighbours in the same state are one span.

use super::{BlockState, Ledger, Table};
use core::ops::Range;

/// A part of the added memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its frames of 4 KiB.
    pub frames: Range<u64>,
    /// The kernel uses it, in as far as the host backs it.
    pub is_online: bool,
}

impl<T: Table> Ledger<T> {
    /// Lists the added memory in `spans`, as far as there is room. Returns how many spans there are
    /// in it, and whether there are more.
    pub fn spans(&self, spans: &mut [Span]) -> (usize, bool) {
        let mut used = 0usize;

        for block in self.table().blocks() {
            let frames = self.block_at(block.start());
            let is_online = block.state() == BlockState::Online;
            let last = used.checked_sub(1).and_then(|place| spans.get_mut(place));

            match last {
                Some(last) if last.frames.end == frames.start && last.is_online == is_online => {
                    last.frames.end = frames.end;
                }
                _ => {
                    let Some(place) = spans.get_mut(used) else {
                        return (used, true);
                    };
                    *place = Span { frames, is_online };
                    used = used.saturating_add(1);
                }
            }
        }
        (used, false)
    }
}
