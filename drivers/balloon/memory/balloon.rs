// SPDX-License-Identifier: GPL-2.0

//! The frames that the guest has given to the host.

use super::{
    frames::{FrameSet, Span, BLOCK_FRAMES},
    pages::{self, Fresh, Order}, //
};
use core::ops::Range;
use kernel::{
    alloc::flags::__GFP_NOWARN,
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation}, //
};

/// What the balloon holds of one block.
enum Block {
    /// All frames, as one allocation.
    Whole,
    /// Some frames, each an allocation of its own.
    Pages(FrameSet),
}

/// Why [`Balloon::give_back`] frees nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadRange {
    /// A frame of the range is not in the balloon.
    NotOurs {
        /// The first frame of the range.
        start: u64,
        /// The frame behind the range.
        end: u64,
    },
    /// A frame of the range is in an earlier range as well.
    Twice {
        /// The first frame of the range.
        start: u64,
        /// The frame behind the range.
        end: u64,
    },
}

/// All frames that the guest has given away.
///
/// Blocks of 2 MiB are kept as they were allocated, so that they come back with one call of the
/// allocator and never fragment memory, and are split only when the host returns a part. What was
/// allocated in smaller pieces is kept as single pages.
///
/// Dropping the balloon takes everything back.
///
/// # Invariants
///
/// For each entry of `blocks`, with the number of the block as its key:
///
///  * `Whole`: the block is hidden as one allocation, see [`Fresh::hide`];
///  * `Pages`: each frame of the set, which is not empty, is hidden as a single page.
///
/// `frames` is the number of all of them.
pub(crate) struct Balloon {
    blocks: RBTree<u64, Block>,
    /// Memory for the next entry. It is allocated before the pages it will describe, so that there
    /// are never hidden pages without an entry.
    spare: Option<RBTreeNodeReservation<u64, Block>>,
    frames: u64,
}

impl Balloon {
    /// Creates an empty balloon.
    pub(crate) fn new() -> Self {
        // INVARIANT: There are no entries.
        Self {
            blocks: RBTree::new(),
            spare: None,
            frames: 0,
        }
    }

    /// The number of frames in the balloon.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Allocates pages and gives them away. Returns their frames.
    ///
    /// `None` means that there is no free memory of that size. May sleep.
    pub(crate) fn inflate(&mut self, order: Order) -> Option<Range<u64>> {
        pages::cond_resched();
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => RBTreeNodeReservation::new(GFP_KERNEL | __GFP_NOWARN).ok()?,
        };
        let fresh = Fresh::alloc(order);
        let Some(fresh) = fresh else {
            self.spare = Some(spare);
            return None;
        };

        let start = fresh.frame();
        let end = start.checked_add(order.pages())?;
        let key = start / BLOCK_FRAMES;
        // An allocation is aligned to its size, so it lies in one block.
        let span = Span::of_block(key, start, end)?;

        // INVARIANT: The pages are hidden, as one allocation if and only if they are a whole block,
        // right before or after the entry says so; nobody sees the difference through `&mut self`.
        if let Some(block) = self.blocks.get_mut(&key) {
            self.spare = Some(spare);
            match block {
                Block::Pages(set) if order != Order::BLOCK && !set.intersects(span) => {
                    set.insert(span);
                }
                // The allocator would have given out pages that are in use: touch them no more.
                _ => {
                    core::mem::forget(fresh);
                    return None;
                }
            }
        } else {
            let block = if order == Order::BLOCK {
                Block::Whole
            } else {
                let mut set = FrameSet::EMPTY;
                set.insert(span);
                Block::Pages(set)
            };
            self.blocks.insert(spare.into_node(key, block));
        }
        fresh.hide();
        self.frames = self.frames.saturating_add(order.pages());

        Some(start..end)
    }

    /// Takes back the frames of all `ranges`, or none of them. Returns how many there were.
    ///
    /// The ranges come from the host. Nothing is freed unless each frame is in the balloon and is
    /// named once.
    pub(crate) fn give_back<I>(&mut self, ranges: I) -> Result<u64, BadRange>
    where
        I: Iterator<Item = Range<u64>> + Clone,
    {
        let mut highest = 0;

        for (i, range) in ranges.clone().enumerate() {
            let Range { start, end } = range;

            if !self.holds(&range) {
                return Err(BadRange::NotOurs { start, end });
            }
            // Hosts name ascending ranges; only others are compared with all before them. There are
            // at most some 500 in a message.
            if start < highest
                && ranges
                    .clone()
                    .take(i)
                    .any(|earlier| earlier.start < end && start < earlier.end)
            {
                return Err(BadRange::Twice { start, end });
            }
            highest = highest.max(end);
        }

        let before = self.frames;
        for range in ranges {
            self.free(range);
        }
        Ok(before.saturating_sub(self.frames))
    }

    /// Returns whether all frames of the range are in the balloon.
    fn holds(&self, range: &Range<u64>) -> bool {
        block_spans(range.clone()).all(|(key, span)| match self.blocks.get(&key) {
            Some(Block::Whole) => true,
            Some(Block::Pages(set)) => set.contains(span),
            None => false,
        })
    }

    /// Takes back those frames of the range that are in the balloon.
    fn free(&mut self, range: Range<u64>) {
        for (key, span) in block_spans(range) {
            let Some(mut entry) = self.blocks.find_mut(&key) else {
                continue;
            };

            if let Block::Whole = entry.get() {
                if span == Span::WHOLE {
                    entry.remove();
                    // SAFETY: By the type invariant the block was hidden as one allocation.
                    // INVARIANT: Its entry is gone.
                    unsafe { pages::free_block(key) };
                    self.frames = self.frames.saturating_sub(span.len().into());
                    pages::cond_resched();
                    continue;
                }
                // SAFETY: By the type invariant the block is hidden as one allocation.
                unsafe { pages::split_block(key) };
                // INVARIANT: Now each frame is hidden as a single page.
                *entry.get_mut() = Block::Pages(FrameSet::FULL);
            }

            let Block::Pages(set) = entry.get_mut() else {
                continue;
            };
            if !set.contains(span) {
                continue;
            }
            set.remove(span);
            if set.is_empty() {
                entry.remove();
            }
            // SAFETY: By the type invariant these frames were hidden as single pages.
            // INVARIANT: They are no longer in the set, and an empty set is gone.
            unsafe { pages::free_pages(key, span) };
            self.frames = self.frames.saturating_sub(span.len().into());
            pages::cond_resched();
        }
    }

    /// Takes back everything.
    pub(crate) fn clear(&mut self) {
        let mut next = self.blocks.cursor_front_mut();

        while let Some(cursor) = next {
            let (rest, node) = cursor.remove_current();
            let (key, block) = node.to_key_value();

            // INVARIANT: The entry is gone.
            match block {
                // SAFETY: By the type invariant the block was hidden as one allocation.
                Block::Whole => unsafe { pages::free_block(key) },
                Block::Pages(mut set) => {
                    while let Some(span) = set.pop() {
                        // SAFETY: By the type invariant these frames were hidden as single pages.
                        unsafe { pages::free_pages(key, span) };
                    }
                }
            }
            pages::cond_resched();
            next = rest;
        }
        self.frames = 0;
        self.spare = None;
    }
}

impl Drop for Balloon {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Cuts a range of frames at the borders of blocks.
fn block_spans(range: Range<u64>) -> impl Iterator<Item = (u64, Span)> {
    let Range { start, end } = range;
    let first = start / BLOCK_FRAMES;

    // Ends behind the last block that has a frame of the range.
    (first..=u64::MAX).map_while(move |key| Some((key, Span::of_block(key, start, end)?)))
}
