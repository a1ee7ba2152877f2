// SPDX-License-Identifier: GPL-2.0

//! One block of memory that was added.

use super::pieces::{Pieces, TooManyPieces};
use core::ops::Range;

/// In how many ranges the host may back one block.
pub const BLOCK_PIECES: usize = 4;

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// The kernel does not use it.
    Offline,
    /// The kernel is bringing it online.
    GoingOnline,
    /// The kernel uses it.
    Online,
}

/// A block of memory, the unit in which the kernel adds memory and brings it online. The host may
/// back a part of it only; the rest has page descriptors, but nobody may touch it.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    start: u64,
    state: BlockState,
    /// What the host backs.
    backed: Pieces<BLOCK_PIECES>,
    /// What the allocator has, or gets while the block goes online. A part of `backed`, and one
    /// that `backed` was before, so it has no more pieces than that can have.
    given: Pieces<BLOCK_PIECES>,
}

impl Block {
    /// A block that starts with this frame, of which these frames are backed.
    pub(super) fn new(start: u64, backed: Range<u64>) -> Result<Self, TooManyPieces> {
        let mut block = Block {
            start,
            state: BlockState::Offline,
            backed: Pieces::EMPTY,
            given: Pieces::EMPTY,
        };
        block.backed.insert(backed)?;
        Ok(block)
    }

    /// The first frame.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// What became of it.
    #[must_use]
    pub fn state(&self) -> BlockState {
        self.state
    }

    /// The frames that the host backs.
    #[must_use]
    pub fn backed(&self) -> &Pieces<BLOCK_PIECES> {
        &self.backed
    }

    /// The frames that the allocator has, or gets while the block goes online.
    #[must_use]
    pub fn given(&self) -> &Pieces<BLOCK_PIECES> {
        &self.given
    }

    /// The host backs these frames, too. Where the kernel uses the block, those that are new go to
    /// `give`. Returns how many are new.
    pub(super) fn back(
        &mut self,
        frames: Range<u64>,
        give: impl FnMut(Range<u64>),
    ) -> Result<u64, TooManyPieces> {
        let before = self.backed.pages();
        self.backed.insert(frames)?;
        if self.state == BlockState::Online {
            self.give_rest(give);
        }
        Ok(self.backed.pages().saturating_sub(before))
    }

    fn give_rest(&mut self, mut give: impl FnMut(Range<u64>)) {
        for piece in self.backed.iter() {
            self.given.gaps(piece).for_each(&mut give);
        }
        self.given = self.backed;
    }

    /// The kernel begins to bring the block online, and will ask for each part of it.
    pub(super) fn going_online(&mut self) {
        self.state = BlockState::GoingOnline;
        self.given = self.backed;
    }

    /// The kernel has asked for all parts. What the host has backed meanwhile goes to `give`.
    pub(super) fn online(&mut self, give: impl FnMut(Range<u64>)) {
        if self.state == BlockState::Offline {
            // It began without a word to us, and no part was given.
            self.given = Pieces::EMPTY;
        }
        self.state = BlockState::Online;
        self.give_rest(give);
    }

    /// The kernel does not use the block, or not any more.
    pub(super) fn offline(&mut self) {
        self.state = BlockState::Offline;
        self.given = Pieces::EMPTY;
    }
}
