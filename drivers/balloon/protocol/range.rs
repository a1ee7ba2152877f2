// SPDX-License-Identifier: GPL-2.0

//! Page ranges and checks on sets of them.

use core::fmt;
use zerocopy::little_endian::U64;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const START_BITS: u32 = 40;
const START_MASK: u64 = (1 << START_BITS) - 1;
/// Most pages one range can name.
pub const MAX_RANGE_PAGES: u32 = (1 << 24) - 1;

/// A range on the wire: first frame in bits 0 to 39, count in bits 40 to 63
/// (`union dm_mem_page_range`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct WireRange(pub U64);

static_assertions::assert_eq_size!(WireRange, u64);

impl WireRange {
    /// No pages.
    pub const EMPTY: WireRange = WireRange(U64::ZERO);

    /// First frame, unchecked.
    #[must_use]
    pub fn start(self) -> u64 {
        self.0.get() & START_MASK
    }

    /// Number of pages, unchecked.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::try_from(self.0.get() >> START_BITS).unwrap_or(0)
    }
}

/// Why a range was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// No pages.
    Empty {
        /// First frame.
        start: u64,
    },
    /// The end lies beyond the frames that can be named.
    Overflow {
        /// First frame.
        start: u64,
        /// Number of pages.
        count: u32,
    },
    /// A count or frame that the wire cannot carry.
    NotRepresentable,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeError::Empty { start } => write!(f, "empty range at frame {start:#x}"),
            RangeError::Overflow { start, count } => {
                write!(f, "range of {count} pages at frame {start:#x} overflows")
            }
            RangeError::NotRepresentable => f.write_str("range cannot be put on the wire"),
        }
    }
}

/// A checked range of 4 KiB frames: not empty, and its end is at most 2^40.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    start: u64,
    count: u32,
}

impl PageRange {
    /// Makes a range.
    ///
    /// # Errors
    ///
    /// See [`RangeError`].
    pub fn new(start: u64, count: u32) -> Result<Self, RangeError> {
        if count == 0 {
            return Err(RangeError::Empty { start });
        }
        if count > MAX_RANGE_PAGES || start > START_MASK {
            return Err(RangeError::NotRepresentable);
        }
        let end = start.wrapping_add(u64::from(count));
        if end > START_MASK + 1 {
            return Err(RangeError::Overflow { start, count });
        }
        Ok(PageRange { start, count })
    }

    /// First frame.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Number of pages, at least one.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Frame behind the last.
    #[must_use]
    pub const fn end(self) -> u64 {
        // At most 2^40 by construction.
        self.start.wrapping_add(self.count as u64)
    }

    /// The wire form.
    #[must_use]
    pub fn to_wire(self) -> WireRange {
        WireRange(U64::new(self.start | (u64::from(self.count) << START_BITS)))
    }

    /// Whether the two share a frame.
    #[must_use]
    pub const fn overlaps(self, other: PageRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// Whether `other` lies within.
    #[must_use]
    pub const fn contains(self, other: PageRange) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// The union, when `next` starts where this one ends and the sum still
    /// fits into one range.
    #[must_use]
    pub fn merge(self, next: PageRange) -> Option<PageRange> {
        if next.start != self.end() {
            return None;
        }
        let count = self.count.checked_add(next.count)?;
        PageRange::new(self.start, count).ok()
    }

    /// Both ends are multiples of `pages` (a power of two or not; 0 never is).
    #[must_use]
    pub const fn is_aligned(self, pages: u64) -> bool {
        pages != 0 && self.start % pages == 0 && self.count as u64 % pages == 0
    }
}

impl TryFrom<WireRange> for PageRange {
    type Error = RangeError;

    fn try_from(wire: WireRange) -> Result<Self, RangeError> {
        PageRange::new(wire.start(), wire.count())
    }
}

/// Why a set of ranges was refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// One range is nonsense.
    Range {
        /// Place of the range in the message, from 0.
        index: usize,
        /// What is wrong.
        error: RangeError,
    },
    /// Two ranges share a frame.
    Overlap {
        /// Number of the earlier one.
        first: usize,
        /// Number of the later one.
        second: usize,
    },
    /// A range reaches beyond the guest's last frame.
    BeyondEnd {
        /// Place of the range in the message, from 0.
        index: usize,
        /// The frame behind the range.
        end: u64,
    },
    /// A range is not made of whole guest pages.
    Unaligned {
        /// Place of the range in the message, from 0.
        index: usize,
    },
    /// A range has frames that the guest never gave to the host.
    NotGiven {
        /// Place of the range in the message, from 0.
        index: usize,
        /// First frame of the range.
        start: u64,
    },
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::Range { index, error } => write!(f, "range {index}: {error}"),
            SetError::Overlap { first, second } => {
                write!(f, "ranges {first} and {second} overlap")
            }
            SetError::BeyondEnd { index, end } => {
                write!(f, "range {index} ends at frame {end:#x}, beyond memory")
            }
            SetError::Unaligned { index } => {
                write!(f, "range {index} is not made of whole guest pages")
            }
            SetError::NotGiven { index, start } => {
                write!(f, "range {index} at frame {start:#x} was never given")
            }
        }
    }
}

/// Limits that a set of ranges has to keep.
#[derive(Clone, Copy, Debug)]
pub struct RangeLimits {
    /// Frame behind the last one the guest can have.
    pub end_frame: u64,
    /// 4 KiB units in a guest page.
    pub guest_page_units: u32,
}

impl Default for RangeLimits {
    fn default() -> Self {
        RangeLimits {
            end_frame: START_MASK + 1,
            guest_page_units: 1,
        }
    }
}

/// Checks every range of a message, each by itself and all against each other,
/// and returns the total number of pages. Either all are good or the message
/// has to be refused as a whole. A range without pages names none, and is good,
/// wherever it is. At most 510 ranges fit into a message, so
/// comparing all pairs is bounded.
///
/// # Errors
///
/// See [`SetError`].
pub fn check_set(ranges: &[WireRange], limits: &RangeLimits) -> Result<u64, SetError> {
    let mut total = 0u64;
    for (index, wire) in with_pages(ranges) {
        let range = PageRange::try_from(*wire).map_err(|error| SetError::Range { index, error })?;
        if range.end() > limits.end_frame {
            return Err(SetError::BeyondEnd {
                index,
                end: range.end(),
            });
        }
        if !range.is_aligned(u64::from(limits.guest_page_units)) {
            return Err(SetError::Unaligned { index });
        }
        let clash = ranges.iter().take(index).position(|earlier| {
            PageRange::try_from(*earlier).is_ok_and(|earlier| earlier.overlaps(range))
        });
        if let Some(first) = clash {
            return Err(SetError::Overlap {
                first,
                second: index,
            });
        }
        total = total.saturating_add(u64::from(range.count()));
    }
    Ok(total)
}

/// The ranges of a message that name pages, and their places in it, from 0.
pub fn with_pages(ranges: &[WireRange]) -> impl Iterator<Item = (usize, &WireRange)> + Clone {
    // Not `enumerate`, whose count could overflow as far as the compiler can see.
    (0..ranges.len())
        .zip(ranges)
        .filter(|(_, wire)| wire.count() != 0)
}

/// Like [`check_set`], and every range must consist of frames that the guest
/// gave to the host and has not got back, as `is_given` tells.
///
/// # Errors
///
/// See [`SetError`].
pub fn check_returned(
    ranges: &[WireRange],
    limits: &RangeLimits,
    mut is_given: impl FnMut(PageRange) -> bool,
) -> Result<u64, SetError> {
    let total = check_set(ranges, limits)?;
    for (index, wire) in with_pages(ranges) {
        let range = PageRange::try_from(*wire).map_err(|error| SetError::Range { index, error })?;
        if !is_given(range) {
            return Err(SetError::NotGiven {
                index,
                start: range.start(),
            });
        }
    }
    Ok(total)
}
