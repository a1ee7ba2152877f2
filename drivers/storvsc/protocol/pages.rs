// SPDX-License-Identifier: GPL-2.0

//! Page numbers of a command's data.

use crate::HV_PAGE_SIZE;

const OFFSET: u64 = HV_PAGE_SIZE as u64 - 1;

/// The 4 KiB page numbers of pieces of memory, each a bus address and a length
/// in bytes, up to `len` bytes in all.
///
/// The host gets one offset and one length for all of them, so only the first
/// may start, and only the last may end, elsewhere than at a page boundary
/// (case S06). Where a piece contradicts that, or pieces are missing, the numbers
/// never end: so they are more than the range has pages, and the ring does not
/// take the packet.
#[derive(Clone, Debug)]
pub struct Pages<I> {
    pieces: I,
    /// Bytes that are not covered yet.
    left: u64,
    /// Next page number.
    page: u64,
    /// Pages of the present piece.
    count: u64,
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
            page: 0,
            count: 0,
            end: None,
        }
    }

    /// Goes to the next piece.
    #[inline]
    fn next_piece(&mut self) -> Option<()> {
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
        self.page = first;
        self.count = (end.checked_add(OFFSET)? / u64::from(HV_PAGE_SIZE)).saturating_sub(first);
        Some(())
    }
}

impl<I: Iterator<Item = (u64, u32)>> Iterator for Pages<I> {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        while self.count == 0 {
            if self.left == 0 {
                return None;
            }
            if self.next_piece().is_none() {
                self.count = u64::MAX;
            }
        }
        self.count = self.count.wrapping_sub(1);
        let page = self.page;
        self.page = page.wrapping_add(1);
        Some(page)
    }
}
