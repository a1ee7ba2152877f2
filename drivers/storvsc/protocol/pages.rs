// SPDX-License-Identifier: GPL-2.0

//! Page numbers of a command's data.

use crate::HV_PAGE_SIZE;
use core::ops::Range;

const OFFSET: u64 = HV_PAGE_SIZE as u64 - 1;

/// The 4 KiB page numbers of pieces of memory, each a bus address and a length
/// in bytes, up to `len` bytes in all; in runs, one for each piece.
///
/// The host gets one offset and one length for all of them, so only the first
/// may start, and only the last may end, elsewhere than at a page boundary
/// of 4 KiB. Where a piece contradicts that, or pieces are missing, there is a
/// run of more pages than any range has, so the ring does not take the packet.
#[derive(Clone, Debug)]
pub struct Pages<I> {
    pieces: I,
    /// Bytes that are not covered yet.
    left: u64,
    /// End of the present piece, if there is one.
    end: Option<u64>,
}

impl<I: Iterator<Item = (u64, u32)>> Pages<I> {
    /// The pages of `len` bytes in `pieces`.
    #[inline]
    pub fn new(pieces: I, len: u32) -> Self {
        Pages {
            pieces,
            left: u64::from(len),
            end: None,
        }
    }

    /// Takes the next piece; `None` if it is missing or does not fit.
    #[inline]
    fn take_piece(&mut self) -> Option<Range<u64>> {
        let (start, len) = self.pieces.next()?;
        let len = u64::from(len).min(self.left);
        let end = start.checked_add(len)?;
        let first = match self.end {
            // The present page goes on.
            Some(previous) if previous == start => start.checked_add(OFFSET)?,
            Some(previous) if (previous | start) & OFFSET != 0 => return None,
            _ => start,
        } / u64::from(HV_PAGE_SIZE);
        self.left = self.left.saturating_sub(len);
        self.end = Some(end);
        Some(first..end.checked_add(OFFSET)? / u64::from(HV_PAGE_SIZE))
    }
}

impl<I: Iterator<Item = (u64, u32)>> Iterator for Pages<I> {
    type Item = Range<u64>;

    #[inline]
    fn next(&mut self) -> Option<Range<u64>> {
        if self.left == 0 {
            return None;
        }
        Some(self.take_piece().unwrap_or(0..u64::MAX))
    }
}
