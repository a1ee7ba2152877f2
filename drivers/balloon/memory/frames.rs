// SPDX-License-Identifier: GPL-2.0

//! Sets of page frames within one block of 2 MiB.

/// Frames in a block.
pub(super) const BLOCK_FRAMES: u64 = 512;

const WORDS: usize = (BLOCK_FRAMES / 64) as usize;

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
    pub(super) const WHOLE: Self = Self {
        first: 0,
        len: BLOCK_FRAMES as u32,
    };

    /// Takes the part of `[start, end)`, in frame numbers, that lies in block `block`.
    pub(super) fn of_block(block: u64, start: u64, end: u64) -> Option<Self> {
        let base = block.checked_mul(BLOCK_FRAMES)?;
        let first = start.saturating_sub(base).min(BLOCK_FRAMES);
        let last = end.saturating_sub(base).min(BLOCK_FRAMES);

        // INVARIANT: `first < last <= BLOCK_FRAMES`.
        (first < last).then(|| Self {
            first: first as u32,
            len: (last - first) as u32,
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

    /// The bits of the span in word `index` of a [`FrameSet`].
    fn mask(self, index: usize) -> u64 {
        let base = index as u32 * 64;
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
        self.0.iter().enumerate().all(|(i, word)| {
            let mask = span.mask(i);
            word & mask == mask
        })
    }

    /// Returns whether any frame of `span` is in the set.
    pub(super) fn intersects(&self, span: Span) -> bool {
        self.0
            .iter()
            .enumerate()
            .any(|(i, word)| word & span.mask(i) != 0)
    }

    pub(super) fn insert(&mut self, span: Span) {
        for (i, word) in self.0.iter_mut().enumerate() {
            *word |= span.mask(i);
        }
    }

    pub(super) fn remove(&mut self, span: Span) {
        for (i, word) in self.0.iter_mut().enumerate() {
            *word &= !span.mask(i);
        }
    }

    /// Takes some neighbouring frames out of the set.
    pub(super) fn pop(&mut self) -> Option<Span> {
        for (i, word) in self.0.iter_mut().enumerate() {
            if *word != 0 {
                let from = word.trailing_zeros();
                let len = (*word >> from).trailing_ones();
                // INVARIANT: `from <= 63` because there is a bit, and the run of bits that starts
                // there ends with the word at the latest: `1 <= len <= 64 - from`. Word `i` is for
                // frames from `64 * i` on, of `64 * WORDS == BLOCK_FRAMES`.
                let span = Span {
                    first: i as u32 * 64 + from,
                    len,
                };
                *word &= !span.mask(i);
                return Some(span);
            }
        }
        None
    }
}
