// SPDX-License-Identifier: GPL-2.0

//! The pages of an outgoing message, as the header of a GPA-direct packet.

use zerocopy::{little_endian::U64, IntoBytes as _};

/// Most pages of a message (`MAX_PAGE_BUFFER_COUNT`).
pub const MAX_PAGES: usize = 32;
/// Bytes of a page in the protocol.
const PAGE: u64 = 4096;
/// One for the count, one for each range and one for each page.
const UNITS: usize = 1 + 2 * MAX_PAGES;

/// Pieces of memory, in order. What is contiguous is one range, since hosts
/// want a message's header in one.
#[derive(Clone, Debug)]
pub struct Pieces {
    units: [U64; UNITS],
    used: usize,
    pages: usize,
    ranges: u32,
    /// Unit of the present range, where it starts in its first page, its bytes
    /// and the address behind it.
    range: (usize, u32, u32),
    end: u64,
}

/// Too many pages: the message has to be copied together first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Default for Pieces {
    fn default() -> Self {
        Self::new()
    }
}

impl Pieces {
    /// No pieces yet.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Pieces {
            units: [U64::ZERO; UNITS],
            used: 1,
            pages: 0,
            ranges: 0,
            range: (0, 0, 0),
            end: u64::MAX,
        }
    }

    /// Adds `len` bytes at guest-physical address `start`.
    ///
    /// # Errors
    ///
    /// [`TooMany`]; the pieces are of no use then.
    #[inline]
    pub fn push(&mut self, start: u64, len: u32) -> Result<(), TooMany> {
        if len == 0 {
            return Ok(());
        }
        let end = start.checked_add(u64::from(len)).ok_or(TooMany)?;
        let mut first = start / PAGE;
        if self.ranges != 0 && start == self.end {
            let (at, offset, bytes) = self.range;
            self.range = (at, offset, bytes.checked_add(len).ok_or(TooMany)?);
            // The page that it goes on in is there already.
            first = start.checked_add(PAGE - 1).ok_or(TooMany)? / PAGE;
        } else {
            // Less than a page.
            let offset = u32::try_from(start % PAGE).map_err(|_| TooMany)?;
            self.range = (self.used, offset, len);
            self.ranges = self.ranges.checked_add(1).ok_or(TooMany)?;
            self.unit(0)?;
        }
        let last = end.checked_add(PAGE - 1).ok_or(TooMany)? / PAGE;
        for page in first..last {
            self.pages = self
                .pages
                .checked_add(1)
                .filter(|pages| *pages <= MAX_PAGES)
                .ok_or(TooMany)?;
            self.unit(page)?;
        }
        let (at, offset, bytes) = self.range;
        let head = u64::from(bytes) | (u64::from(offset) << 32);
        *self.units.get_mut(at).ok_or(TooMany)? = U64::new(head);
        self.end = end;
        Ok(())
    }

    #[inline]
    fn unit(&mut self, value: u64) -> Result<(), TooMany> {
        *self.units.get_mut(self.used).ok_or(TooMany)? = U64::new(value);
        self.used = self.used.checked_add(1).ok_or(TooMany)?;
        Ok(())
    }

    /// The packet's header, behind its descriptor.
    #[inline]
    #[must_use]
    pub fn header(&mut self) -> &[u8] {
        if let Some(count) = self.units.first_mut() {
            *count = U64::new(u64::from(self.ranges) << 32);
        }
        self.units.get(..self.used).unwrap_or(&[]).as_bytes()
    }

    /// How many ranges there are.
    #[must_use]
    pub const fn ranges(&self) -> u32 {
        self.ranges
    }
}
