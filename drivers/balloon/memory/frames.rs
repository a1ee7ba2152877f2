// SPDX-License-Identifier: GPL-2.0

//! Sets of page frames within one block of 2 MiB.

/// Frames in a block.
pub(super) const BLOCK_FRAMES: u64 = 512;

const WORDS: usize = 8;

/// Neighbouring frames of one block.
///
/// # Invariants
///
/// `1 <= len` and `first + len <= BLOCK_FRAMES`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    first: u32,
    len: u32,
}

impl Span {
    /// All frames of a block.
    // INVARIANT: 1 <= 512 and 0 + 512 <= 512.
    pub(super) const WHOLE: Self = Self { first: 0, len: 512 };

    /// Takes the part of `[start, end)`, in frame numbers, that lies in block `block`.
    pub(super) fn of_block(block: u64, start: u64, end: u64) -> Option<Self> {
        let base = block.checked_mul(BLOCK_FRAMES)?;
        let first = start.saturating_sub(base).min(BLOCK_FRAMES);
        let last = end.saturating_sub(base).min(BLOCK_FRAMES);

        let len = last.checked_sub(first).filter(|len| *len > 0)?;

        // INVARIANT: `first + len == last <= BLOCK_FRAMES`.
        Some(Self {
            first: u32::try_from(first).ok()?,
            len: u32::try_from(len).ok()?,
        })
    }

    /// The first frame, counted from the start of the block.
    pub(super) fn first(self) -> u32 {
        self.first
    }

    /// The number of frames.
    pub(super) fn len(self) -> u32 {
        self.len
    }

    /// The bits of the span in the word of a [`FrameSet`] that starts with frame `base`.
    fn mask(self, base: u32) -> u64 {
        let from = self.first.saturating_sub(base).min(64);
        let to = (self.first + self.len).saturating_sub(base).min(64);

        if from >= to {
            return 0;
        }
        // `1 <= to - from <= 64` and `from <= 63`, so no shift is too wide.
        (u64::MAX >> (64 - (to - from))) << from
    }
}

/// A set of frames of one block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameSet([u64; WORDS]);

impl FrameSet {
    pub(super) const EMPTY: Self = Self([0; WORDS]);
    pub(super) const FULL: Self = Self([u64::MAX; WORDS]);

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// Returns whether all frames of `span` are in the set.
    pub(super) fn contains(&self, span: Span) -> bool {
        bases().zip(&self.0).all(|(base, word)| {
            let mask = span.mask(base);
            word & mask == mask
        })
    }

    /// Returns whether any frame of `span` is in the set.
    pub(super) fn intersects(&self, span: Span) -> bool {
        bases()
            .zip(&self.0)
            .any(|(base, word)| word & span.mask(base) != 0)
    }

    pub(super) fn insert(&mut self, span: Span) {
        for (base, word) in bases().zip(&mut self.0) {
            *word |= span.mask(base);
        }
    }

    pub(super) fn remove(&mut self, span: Span) {
        for (base, word) in bases().zip(&mut self.0) {
            *word &= !span.mask(base);
        }
    }

    /// Takes some neighbouring frames out of the set.
    pub(super) fn pop(&mut self) -> Option<Span> {
        let (base, word) = bases().zip(&mut self.0).find(|(_, word)| **word != 0)?;
        let from = word.trailing_zeros();
        let len = (*word >> from).trailing_ones();

        // INVARIANT: `from <= 63` because there is a bit, and the run of bits that starts there
        // ends with the word at the latest: `1 <= len <= 64 - from`. The word is for 64 frames from
        // `base` on, all of them in the block.
        let span = Span {
            first: base + from,
            len,
        };
        *word &= !span.mask(base);
        Some(span)
    }
}

/// The first frame of each word of a set.
fn bases() -> impl Iterator<Item = u32> {
    (0..).step_by(64)
}
