// SPDX-License-Identifier: GPL-2.0

//! Building balloon responses.

use crate::{
    message::{BalloonResponse, MAX_RANGES},
    range::{PageRange, WireRange},
    MAX_MESSAGE,
};
use core::mem::size_of;
use zerocopy::{FromBytes, IntoBytes};

const HEAD: usize = size_of::<BalloonResponse>();
const RANGE: usize = size_of::<WireRange>();

/// Collects the ranges of one BALLOON_RESPONSE in a caller's buffer, merging
/// neighbours, so that a message carries as many pages as it can.
#[derive(Debug)]
pub struct ResponseBuilder<'a> {
    buffer: &'a mut [u8; MAX_MESSAGE],
    count: usize,
    pages: u64,
    last: Option<PageRange>,
}

impl<'a> ResponseBuilder<'a> {
    /// Starts an empty response; `buffer` is overwritten.
    #[must_use]
    pub fn new(buffer: &'a mut [u8; MAX_MESSAGE]) -> Self {
        ResponseBuilder {
            buffer,
            count: 0,
            pages: 0,
            last: None,
        }
    }

    fn slot(&mut self, index: usize) -> Option<&mut [u8]> {
        let start = index.checked_mul(RANGE)?.checked_add(HEAD)?;
        self.buffer.get_mut(start..)?.get_mut(..RANGE)
    }

    fn store(&mut self, index: usize, range: PageRange) -> bool {
        match self.slot(index) {
            Some(slot) => {
                slot.copy_from_slice(range.to_wire().as_bytes());
                true
            }
            None => false,
        }
    }

    /// Adds a range, in 4 KiB frames.
    ///
    /// # Errors
    ///
    /// Gives the range back when the message is full: send it and start the
    /// next one.
    pub fn push(&mut self, range: PageRange) -> Result<(), PageRange> {
        let merged = self
            .last
            .and_then(|last| last.merge(range).or_else(|| range.merge(last)));
        let (index, stored) = match (merged, self.count.checked_sub(1)) {
            (Some(merged), Some(index)) => (index, merged),
            _ => (self.count, range),
        };
        if index >= MAX_RANGES || !self.store(index, stored) {
            return Err(range);
        }
        self.count = index.saturating_add(1);
        self.last = Some(stored);
        self.pages = self.pages.saturating_add(u64::from(range.count()));
        Ok(())
    }

    /// Number of ranges.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.count
    }

    /// Number of pages.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The ranges, for instance to free them when the message cannot be sent.
    #[must_use]
    pub fn ranges(&self) -> &[WireRange] {
        self.buffer
            .get(HEAD..)
            .and_then(|bytes| <[WireRange]>::ref_from_prefix_with_elems(bytes, self.count).ok())
            .map(|(ranges, _)| ranges)
            .unwrap_or_default()
    }

    /// Writes the head and returns the message. `more_pages` says that another
    /// one follows; the last one, even an empty one, must not have it set.
    /// Can be called again, with a new transaction id, if the ring was full.
    pub fn finish(&mut self, transaction_id: u32, more_pages: bool) -> &[u8] {
        let len = self
            .count
            .saturating_mul(RANGE)
            .saturating_add(HEAD)
            .min(MAX_MESSAGE);
        // The count was bounded by `push`.
        if let Some(head) = BalloonResponse::new(transaction_id, self.count, more_pages) {
            if let Some(slot) = self.buffer.get_mut(..HEAD) {
                slot.copy_from_slice(head.as_bytes());
            }
        }
        self.buffer.get(..len).unwrap_or_default()
    }
}
