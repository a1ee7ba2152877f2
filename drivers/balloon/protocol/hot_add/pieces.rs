// SPDX-License-Identifier: GPL-2.0

//! Sets of frames that are a few ranges.

use core::ops::Range;

/// A set of frames that consists of at most `N` ranges, which ascend and do not touch each other.
///
/// It has a bound, and no memory of its own, since the host decides what is put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces<const N: usize> {
    /// How many of `items` count.
    len: usize,
    /// First frame, and the frame behind the last.
    items: [(u64, u64); N],
}

/// The set would consist of too many ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyPieces;

impl<const N: usize> Pieces<N> {
    /// No frames.
    pub const EMPTY: Self = Pieces {
        len: 0,
        items: [(0, 0); N],
    };

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.items
            .iter()
            .take(self.len)
            .map(|piece| piece.0..piece.1)
    }

    /// The number of frames.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.iter().fold(0, |sum, piece| {
            sum.saturating_add(piece.end.saturating_sub(piece.start))
        })
    }

    /// Whether all frames of the range are in the set. None are in an empty range, so it is.
    #[must_use]
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self
                .iter()
                .any(|piece| piece.start <= range.start && range.end <= piece.end)
    }

    /// The parts of the range that are in the set, ascending.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        self.iter()
            .map(move |piece| piece.start.max(range.start)..piece.end.min(range.end))
            .filter(|part| !part.is_empty())
    }

    /// The first part of the range that is not in the set.
    #[must_use]
    pub fn gap(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut at = range.start;
        for piece in self.within(range.clone()) {
            if at < piece.start {
                return Some(at..piece.start);
            }
            at = piece.end;
        }
        (at < range.end).then_some(at..range.end)
    }

    /// All parts of the range that are not in the set, ascending.
    pub fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut rest = range;
        core::iter::from_fn(move || {
            let gap = self.gap(rest.clone())?;
            rest.start = gap.end;
            Some(gap)
        })
    }

    fn push(&mut self, piece: (u64, u64)) -> Result<(), TooManyPieces> {
        *self.items.get_mut(self.len).ok_or(TooManyPieces)? = piece;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Puts frames into the set; some of them may be in it.
    ///
    /// # Errors
    ///
    /// [`TooManyPieces`]; the set is as before.
    pub fn insert(&mut self, range: Range<u64>) -> Result<(), TooManyPieces> {
        if range.is_empty() {
            return Ok(());
        }
        let mut all = Self::EMPTY;
        let (mut start, mut end) = (range.start, range.end);
        let mut placed = false;
        for piece in self.iter() {
            if piece.end < start {
                all.push((piece.start, piece.end))?;
            } else if end < piece.start {
                if !placed {
                    all.push((start, end))?;
                    placed = true;
                }
                all.push((piece.start, piece.end))?;
            } else {
                start = start.min(piece.start);
                end = end.max(piece.end);
            }
        }
        if !placed {
            all.push((start, end))?;
        }
        *self = all;
        Ok(())
    }
}
