// SPDX-License-Identifier: GPL-2.0

//! Guest physical address descriptor lists (GPADLs): how shared memory is
//! described to the host, and when it may be freed.

mod life;

pub use life::{BadGpadlEvent, GpadlLife, GpadlState, MemoryFate};

use crate::{
    message::{GpadlBodyHeader, GpadlHeader, MessageHeader, MessageType, MAX_MESSAGE},
    GpadlHandle, Relid, HV_PAGE_SIZE,
};
use core::mem::size_of;
use static_assertions::const_assert_eq;
use zerocopy::{
    little_endian::{U16, U32},
    IntoBytes,
};

/// Bytes of a page number on the wire.
const PFN_LEN: usize = 8;
/// Page numbers that fit into the header message.
pub const HEADER_PFNS: usize = (MAX_MESSAGE - size_of::<GpadlHeader>()) / PFN_LEN;
/// Page numbers that fit into a body message.
pub const BODY_PFNS: usize = (MAX_MESSAGE - size_of::<GpadlBodyHeader>()) / PFN_LEN;
/// Most 4 KiB pages of one GPADL: the range's size in bytes, 8 and 8 per page,
/// is a 16-bit field.
pub const MAX_PAGES: usize = (u16::MAX as usize - 8) / PFN_LEN;

const_assert_eq!(HEADER_PFNS, 26);
const_assert_eq!(BODY_PFNS, 28);
const_assert_eq!(MAX_PAGES, 8190);

/// The handle Linux starts counting from. Zero is no handle.
pub const FIRST_HANDLE: u32 = 0xe1e10;

/// Why memory cannot be described by one GPADL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpadlError {
    /// No pages, or no bytes.
    Empty,
    /// More than [`MAX_PAGES`].
    TooManyPages {
        /// The number of pages.
        pages: usize,
    },
    /// The number of pages is not what the byte count needs.
    PageCountMismatch {
        /// The number of pages.
        pages: usize,
        /// Bytes in the range.
        byte_count: u32,
    },
    /// Handle 0.
    NullHandle,
}

/// The messages of one GPADL, one at a time.
#[derive(Debug)]
pub struct Splitter<I> {
    gpadl: GpadlHandle,
    relid: Relid,
    byte_count: u32,
    range_buflen: u16,
    pfns: I,
    header_done: bool,
}

/// Starts describing `byte_count` bytes, from the start of the first page, in
/// the 4 KiB pages `pfns`.
///
/// # Errors
///
/// See [`GpadlError`].
pub fn split<I: ExactSizeIterator<Item = u64>>(
    gpadl: GpadlHandle,
    relid: Relid,
    byte_count: u32,
    pfns: I,
) -> Result<Splitter<I>, GpadlError> {
    let pages = pfns.len();
    if pages == 0 || byte_count == 0 {
        return Err(GpadlError::Empty);
    }
    if gpadl.raw() == 0 {
        return Err(GpadlError::NullHandle);
    }
    if pages > MAX_PAGES {
        return Err(GpadlError::TooManyPages { pages });
    }
    if u32::try_from(pages) != Ok(byte_count.div_ceil(HV_PAGE_SIZE)) {
        return Err(GpadlError::PageCountMismatch { pages, byte_count });
    }
    let range_buflen = pages
        .checked_mul(PFN_LEN)
        .and_then(|bytes| bytes.checked_add(8))
        .and_then(|bytes| u16::try_from(bytes).ok())
        .ok_or(GpadlError::TooManyPages { pages })?;
    Ok(Splitter {
        gpadl,
        relid,
        byte_count,
        range_buflen,
        pfns,
        header_done: false,
    })
}

impl<I> Splitter<I> {
    /// The handle.
    #[must_use]
    pub const fn gpadl(&self) -> GpadlHandle {
        self.gpadl
    }

    /// The channel on which the memory is announced.
    #[must_use]
    pub const fn relid(&self) -> Relid {
        self.relid
    }
}

impl<I: ExactSizeIterator<Item = u64>> Splitter<I> {
    /// Number of messages still to come.
    #[must_use]
    pub fn remaining(&self) -> usize {
        let left = self.pfns.len();
        if self.header_done {
            left.div_ceil(BODY_PFNS)
        } else {
            left.saturating_sub(HEADER_PFNS)
                .div_ceil(BODY_PFNS)
                .saturating_add(1)
        }
    }

    /// Writes the next message into `buffer` and returns the part to post;
    /// `None` after the last.
    pub fn next_message<'b>(&mut self, buffer: &'b mut [u8; MAX_MESSAGE]) -> Option<&'b [u8]> {
        let used = if self.header_done {
            if self.pfns.len() == 0 {
                return None;
            }
            let head = GpadlBodyHeader {
                header: MessageHeader::new(MessageType::GpadlBody),
                message_number: U32::new(0),
                gpadl: U32::new(self.gpadl.raw()),
            };
            self.fill(buffer, head.as_bytes())
        } else {
            self.header_done = true;
            let head = GpadlHeader {
                header: MessageHeader::new(MessageType::GpadlHeader),
                relid: U32::new(self.relid.raw()),
                gpadl: U32::new(self.gpadl.raw()),
                range_buflen: U16::new(self.range_buflen),
                range_count: U16::new(1),
                byte_count: U32::new(self.byte_count),
                byte_offset: U32::new(0),
            };
            self.fill(buffer, head.as_bytes())
        };
        buffer.get(..used)
    }

    /// Writes `head` and as many page numbers as fit; returns the bytes used.
    fn fill(&mut self, buffer: &mut [u8; MAX_MESSAGE], head: &[u8]) -> usize {
        let Some((start, rest)) = buffer.split_at_mut_checked(head.len()) else {
            return 0;
        };
        start.copy_from_slice(head);
        let mut used = head.len();
        for slot in rest.chunks_exact_mut(PFN_LEN) {
            let Some(pfn) = self.pfns.next() else { break };
            slot.copy_from_slice(&pfn.to_le_bytes());
            used = used.saturating_add(PFN_LEN);
        }
        used
    }
}

/// Size of a ring with its header page, in bytes, for `payload` bytes of data
/// (`include/linux/hyperv.h:VMBUS_RING_SIZE`): the header is taken out of
/// large rings and added to small ones. `None` on overflow.
#[must_use]
pub const fn ring_size(payload: u32, page_size: u32) -> Option<u32> {
    let Some(threshold) = page_size.checked_mul(8) else {
        return None;
    };
    let header = if payload >= threshold { 0 } else { page_size };
    let Some(bytes) = payload.checked_add(header) else {
        return None;
    };
    bytes.checked_next_multiple_of(page_size)
}

/// Bytes that the GPADL of a pair of rings describes, of `total` bytes of
/// guest memory: of each ring's header only the first 4 KiB are shared
/// (`drivers/hv/channel.c:hv_gpadl_size`). `None` when there is no room for
/// two headers.
#[must_use]
pub const fn ring_gpadl_bytes(total: u32, page_size: u32) -> Option<u32> {
    let Some(gap) = page_size.checked_sub(HV_PAGE_SIZE) else {
        return None;
    };
    let Some(gaps) = gap.checked_mul(2) else {
        return None;
    };
    total.checked_sub(gaps)
}

/// 4 KiB pages in the GPADL of a pair of rings.
#[must_use]
pub const fn ring_page_count(total: u32, page_size: u32) -> Option<u32> {
    match ring_gpadl_bytes(total, page_size) {
        Some(bytes) => Some(bytes / HV_PAGE_SIZE),
        None => None,
    }
}

/// Byte offset in guest memory of page `index` of a ring pair's GPADL, whose
/// second ring starts at `send_size` bytes
/// (`drivers/hv/channel.c:hv_gpadl_hvpfn`). `None` on overflow.
#[must_use]
pub const fn ring_page_offset(index: u32, send_size: u32, page_size: u32) -> Option<u32> {
    let (Some(gap), Some(offset)) = (
        page_size.checked_sub(HV_PAGE_SIZE),
        index.checked_mul(HV_PAGE_SIZE),
    ) else {
        return None;
    };
    let Some(second) = send_size.checked_sub(gap) else {
        return None;
    };
    // Page 0 is the first header; the second header follows the first ring,
    // which is one gap shorter in the GPADL.
    if index == 0 {
        Some(0)
    } else if offset <= second {
        offset.checked_add(gap)
    } else {
        match offset.checked_add(gap) {
            Some(sum) => sum.checked_add(gap),
            None => None,
        }
    }
}
