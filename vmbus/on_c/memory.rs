// SPDX-License-Identifier: GPL-2.0

//! Memory that the host can see: as with the Rust core, but the rings are one block, as the C core
//! wants them.

#[path = "../memory/barrier.rs"]
mod barrier;
#[path = "../memory/buffer.rs"]
mod buffer;
#[path = "../memory/mapping.rs"]
mod mapping;
#[path = "../memory/pages.rs"]
mod pages;
#[path = "../memory/ring.rs"]
mod ring;

pub(crate) use buffer::BufferMap;
pub(crate) use pages::{leaked_pages, PageList, PAGE_BYTES};
pub(crate) use ring::{RingMap, RingPages};

use core::ptr::NonNull;
use kernel::{bindings, prelude::*, sync::Arc};
use pages::{Block, Leak};

impl PageList {
    /// Takes over a block of `1 << order` zeroed pages, of which the host is told of `count`. They
    /// are freed if there is no memory for that.
    ///
    /// # Safety
    ///
    /// `page` is the first of such a block, which is the caller's.
    unsafe fn of_block(page: NonNull<bindings::page>, order: u32, count: usize) -> Result<Self> {
        // INVARIANT: No block, no page.
        let mut this = Self {
            blocks: KVVec::new(),
            count: 0,
            leak: Leak::new(),
        };

        this.add(Block { page, order })?;
        // INVARIANT: The block has at least as many.
        this.count = this.count.min(count);
        Ok(this)
    }

    /// The first page.
    pub(crate) fn first(&self) -> Option<NonNull<bindings::page>> {
        self.blocks.first().map(|block| block.page)
    }
}

impl RingPages {
    /// Takes over a block of `1 << order` zeroed pages: `send_pages` pages of the outgoing ring,
    /// then `recv_pages` of the incoming one.
    ///
    /// # Safety
    ///
    /// As for [`PageList::of_block`].
    pub(crate) unsafe fn of_block(
        page: NonNull<bindings::page>,
        order: u32,
        send_pages: usize,
        recv_pages: usize,
    ) -> Result<Self> {
        let count = send_pages.saturating_add(recv_pages);
        // SAFETY: By the requirements of this function.
        let pages = unsafe { PageList::of_block(page, order, count)? };

        Ok(Self {
            pages: Arc::new(pages, GFP_KERNEL)?,
            send_pages,
        })
    }
}
