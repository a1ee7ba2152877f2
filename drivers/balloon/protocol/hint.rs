// SPDX-License-Identifier: GPL-2.0

//! The cold-discard hint: telling the host which memory is free, by a hypercall
//! (`include/hyperv/hvgdk_ext.h`), and what to do when it does not take it.

use crate::range::PageRange;

/// Most ranges of one hint: what the kernel reports at a time.
pub const MAX_RANGES: usize = 32;

/// `HV_EXTMEM_HEAT_HINT_COLD_DISCARD`: what is in this memory is no longer needed.
const COLD_DISCARD: u64 = 2;

/// Frames of 4 KiB in a large page of 2 MiB.
const LARGE: u64 = 512;

/// The word's range is in units of [`LARGE`].
const IS_LARGE: u64 = 1 << 11;

/// Most pages that a word can name behind the first one.
const MAX_ADDITIONAL: u64 = (1 << 11) - 1;

/// The host does not know what is in the hint, or not in units of 4 KiB.
pub const INVALID_PARAMETER: u16 = 5;

/// The input of one hypercall.
#[derive(Clone, Debug)]
pub struct Hint {
    words: [u64; 1 + MAX_RANGES],
    ranges: usize,
    pages: u64,
    has_small: bool,
}

/// A range that a hint has no room or no words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoesNotFit;

impl Hint {
    /// A hint without ranges.
    #[must_use]
    pub const fn new() -> Self {
        let mut words = [0; 1 + MAX_RANGES];
        words[0] = COLD_DISCARD;
        Hint {
            words,
            ranges: 0,
            pages: 0,
            has_small: false,
        }
    }

    /// Adds a range, in units of 2 MiB if it is made of such.
    ///
    /// # Errors
    ///
    /// [`DoesNotFit`] if there is no room, or if the range is too long.
    pub fn push(&mut self, range: PageRange) -> Result<(), DoesNotFit> {
        let (start, count) = (range.start(), u64::from(range.count()));
        let is_large = start % LARGE == 0 && count % LARGE == 0;
        let (units, flag) = if is_large {
            (count / LARGE, IS_LARGE)
        } else {
            (count, 0)
        };
        let additional = units
            .checked_sub(1)
            .filter(|n| *n <= MAX_ADDITIONAL)
            .ok_or(DoesNotFit)?;
        let place = self.ranges.wrapping_add(1);
        let word = self.words.get_mut(place).ok_or(DoesNotFit)?;

        // A range's frames have 40 bits. Those of a large one begin at bit 21 of the word, as they
        // are.
        *word = (start << 12) | flag | additional;
        self.ranges = place;
        self.pages = self.pages.saturating_add(count);
        self.has_small |= !is_large;
        Ok(())
    }

    /// What goes into the input page.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        self.words
            .get(..self.ranges.wrapping_add(1))
            .unwrap_or(&self.words)
    }

    /// Pages of 4 KiB in it.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether any range is in units of 4 KiB.
    #[must_use]
    pub fn has_small(&self) -> bool {
        self.has_small
    }
}

impl Default for Hint {
    fn default() -> Self {
        Self::new()
    }
}

/// What to do after a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The host has taken it.
    Taken,
    /// It was refused: the memory is reported again some time.
    Refused,
    /// It was refused, as this host takes pages of 2 MiB only: report no smaller ones.
    LargeOnly,
    /// It was refused once too often: report nothing any more.
    SwitchOff,
}

/// How often in a row a host may refuse.
pub const MAX_REFUSALS: u8 = 3;

/// What the host did with the hints so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    refusals: u8,
    large_only: bool,
}

impl Health {
    /// Nothing so far.
    #[must_use]
    pub const fn new() -> Self {
        Health {
            refusals: 0,
            large_only: false,
        }
    }

    /// The hypercall with a hint was answered with this status; `has_small` is [`Hint::has_small`].
    pub fn on_status(&mut self, status: u16, has_small: bool) -> Verdict {
        if status == 0 {
            self.refusals = 0;
            return Verdict::Taken;
        }
        if status == INVALID_PARAMETER && has_small && !self.large_only {
            self.large_only = true;
            return Verdict::LargeOnly;
        }
        self.refusals = self.refusals.saturating_add(1);
        // Once: it takes a moment.
        if self.refusals == MAX_REFUSALS {
            Verdict::SwitchOff
        } else {
            Verdict::Refused
        }
    }
}
