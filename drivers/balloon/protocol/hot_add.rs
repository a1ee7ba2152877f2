// SPDX-License-Identifier: GPL-2.0

//! Memory that the host adds: which blocks to add, which frames of them to use, what to answer.
//!
//! The kernel adds memory in blocks of some 128 MiB, and brings blocks online. The host names a
//! range of frames, with or without a region that it lies in. Where there is a region, the blocks
//! have to lie in it; where there is none, the range grows to whole blocks. What the host does not
//! back of a block stays unused until it does.
//!
//! [`Ledger`] knows all blocks that were added; [`Plan`] is one request under way. The caller asks
//! for one [`Step`] after the other, does it, and says how that went:
//!
//!  * [`Step::Add`]: [`Ledger::add`], then add the block; if the kernel refuses, [`Ledger::undo`];
//!  * [`Step::Back`]: [`Ledger::back`], which says what the allocator gets now.
//!
//! An answer counts pages from the beginning of the range: that is how hosts take it. So a plan
//! ends with the first block that fails, and frames that are in use already count.

mod block;
mod ledger;
mod pieces;
mod spans;

pub use block::{Block, BlockState, BLOCK_PIECES};
pub use ledger::{Ledger, MemoryEvent, Table, MAX_REGIONS};
pub use pieces::{Pieces, TooManyPieces};
pub use spans::Span;

use crate::{message::HotAdd, policy::hot_add_result, range::PageRange};
use core::{fmt, ops::Range};

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add a block, of which the host backs a part.
    Add {
        /// All of the block.
        block: Range<u64>,
        /// The part.
        backed: Range<u64>,
    },
    /// The host backs more of a block that was added.
    Back {
        /// The part that this is about; some of it may be backed already.
        backed: Range<u64>,
    },
}

impl Step {
    /// The frames of the request that the step is about.
    #[must_use]
    pub fn frames(&self) -> Range<u64> {
        match self {
            Step::Add { backed, .. } | Step::Back { backed } => backed.clone(),
        }
    }
}

/// Why a plan ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it was done.
    Done,
    /// The next block does not lie in a region of the host.
    NoRegion,
    /// The next block is beyond what this kernel can address.
    TooHigh,
    /// The host names too many regions, or backs a block in too many pieces.
    TooManyPieces,
    /// The kernel has such memory: nothing will be added any more.
    Exists,
    /// The kernel could not add a block; it may work later.
    Failed,
    /// What was added is not in use: no more is added before it is.
    NotInUse,
    /// The device goes away.
    Closing,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Done => "all of it was added",
            End::NoRegion => "the host's region does not hold whole memory blocks there",
            End::TooHigh => "the addresses are beyond what this kernel can map",
            End::TooManyPieces => "the host names too many pieces",
            End::Exists => "there is memory at these addresses; no more will be added",
            End::Failed => "the kernel could not add a block",
            End::NotInUse => "what was added is not in use",
            End::Closing => "the device goes away",
        })
    }
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Pages of the range that are in use, from its beginning.
    pub pages: u32,
    /// 1, or 0 if there are no pages and the host may try again.
    pub result: u32,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    range: PageRange,
    /// The first frame that nothing was done about.
    at: u64,
    /// Where blocks may be added for this request besides the host's regions: first frame, and the
    /// one behind the last.
    around: (u64, u64),
}

impl Plan {
    fn new(request: &HotAdd, around: (u64, u64)) -> Self {
        Plan {
            range: request.range,
            at: request.range.start(),
            around,
        }
    }

    /// Whether the request itself allows this block to be added.
    fn allows(&self, block: &Range<u64>) -> bool {
        self.around.0 <= block.start && block.end <= self.around.1
    }

    /// A step was done.
    pub fn advance(&mut self, step: &Step) {
        self.at = step.frames().end.max(self.at).min(self.range.end());
    }

    /// Pages of the range that are in use, from its beginning.
    #[must_use]
    pub fn pages(&self) -> u32 {
        let pages = self.at.saturating_sub(self.range.start());
        u32::try_from(pages).unwrap_or(u32::MAX)
    }

    /// What to tell the host; `possible` says whether it may try again (`Ledger::is_possible`).
    #[must_use]
    pub fn answer(&self, possible: bool) -> Answer {
        let pages = self.pages();
        Answer {
            pages,
            result: hot_add_result(pages, possible),
        }
    }
}

/// The range in as few parts as the allocator takes: `(first frame, order)`, each aligned to its
/// size, of at most `max_order`.
pub fn chunks(range: Range<u64>, max_order: u32) -> impl Iterator<Item = (u64, u32)> {
    let mut at = range.start;
    core::iter::from_fn(move || {
        let left = range.end.saturating_sub(at);
        let order = left
            .checked_ilog2()?
            .min(at.trailing_zeros())
            .min(max_order);
        let start = at;
        at = at.checked_add(1u64.checked_shl(order)?)?;
        Some((start, order))
    })
}
