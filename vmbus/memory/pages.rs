// SPDX-License-Identifier: GPL-2.0

//! Pages shared with the host.

use crate::ffi;
use core::ptr::NonNull;
use kernel::{
    bindings,
    ffi::c_void,
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
};

/// The page size of the protocol (`HV_HYP_PAGE_SIZE`), in bytes.
pub(crate) const PAGE_BYTES: usize = 4096;

// PFNs in messages count protocol pages; the driver is built only where the two agree.
const _: () = assert!(kernel::page::PAGE_SIZE == PAGE_BYTES);

/// Pages that are left to the host because it did not say that it is done with them.
static LEAKED_PAGES: Atomic<u64> = Atomic::new(0);

/// Pages leaked to the host so far, less those that it let go of later (see [`PageList::leak`]).
pub(crate) fn leaked_pages() -> u64 {
    LEAKED_PAGES.load(Relaxed)
}

/// Whether memory was left to the host.
pub(super) struct Leak(Atomic<bool>);

impl Leak {
    pub(super) const fn new() -> Self {
        Self(Atomic::new(false))
    }

    fn set(&self, pages: usize) {
        if !self.0.xchg(true, Full) {
            LEAKED_PAGES.fetch_add(pages as u64, Relaxed);
        }
    }

    fn clear(&self, pages: usize) {
        if self.0.xchg(false, Full) {
            LEAKED_PAGES.fetch_sub(pages as u64, Relaxed);
        }
    }

    fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// One zeroed page that the host is told about by its address.
///
/// Dropping frees it, so whoever tells the host about it must call [`Self::leak`] when it cannot
/// prove that the host has let go.
///
/// # Invariants
///
/// `addr` is a page from `alloc_pages_exact()`, owned by this object.
pub(crate) struct SharedPage {
    addr: NonNull<u8>,
    leak: Leak,
}

// SAFETY: The page belongs to the object and is not bound to a thread.
unsafe impl Send for SharedPage {}
// SAFETY: Shared access hands out addresses only; accesses through them are volatile.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// Allocates the page. May sleep.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: The size is not zero.
        let addr = unsafe {
            bindings::alloc_pages_exact_noprof(
                PAGE_BYTES,
                bindings::GFP_KERNEL | bindings::__GFP_ZERO,
            )
        };

        // INVARIANT: Just allocated with this size.
        Ok(Self {
            addr: NonNull::new(addr.cast()).ok_or(ENOMEM)?,
            leak: Leak::new(),
        })
    }

    /// Start of the page in the kernel's direct map.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.addr.as_ptr()
    }

    /// Guest physical address of the page.
    pub(crate) fn phys(&self) -> u64 {
        // SAFETY: By the invariant the address is in the direct map.
        unsafe { ffi::vmbus_shim_virt_to_phys(self.addr.as_ptr().cast::<c_void>()) }
    }

    /// Gives the page up for good, because the host may still use it: it is counted and never
    /// freed.
    pub(crate) fn leak(&self) {
        self.leak.set(1);
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        if self.leak.is_set() {
            return;
        }
        // SAFETY: By the invariant; the size is the one that was allocated.
        unsafe { bindings::free_pages_exact(self.addr.as_ptr().cast::<c_void>(), PAGE_BYTES) };
    }
}

/// The largest block that a [`PageList`] asks for: 2 MiB. A larger one is rarely there, and buys
/// nothing.
const MAX_ORDER: u32 = 9;

/// A block of pages.
///
/// # Invariants
///
/// `page` is the first of `1 << order` pages in a row.
pub(super) struct Block {
    pub(super) page: NonNull<bindings::page>,
    pub(super) order: u32,
}

impl Block {
    fn count(&self) -> usize {
        1 << self.order
    }

    fn pages(&self) -> impl Iterator<Item = *mut bindings::page> + '_ {
        // The page structures of a block are an array.
        (0..self.count()).map(|index| self.page.as_ptr().wrapping_add(index))
    }
}

/// Zeroed pages that the host is told about by a GPADL: as few blocks as memory allows, single
/// pages where it is fragmented.
///
/// Dropping frees them, so whoever tells the host about them must call [`Self::leak`] when it
/// cannot prove that the host has let go.
///
/// # Invariants
///
/// The blocks belong to this object and have at least `count` pages in all.
pub(crate) struct PageList {
    pub(super) blocks: KVVec<Block>,
    pub(super) count: usize,
    pub(super) leak: Leak,
}

// SAFETY: The pages belong to the object and are not bound to a thread.
unsafe impl Send for PageList {}
// SAFETY: Shared access hands out page structures only, to be mapped; accesses through mappings are
// volatile.
unsafe impl Sync for PageList {}

impl PageList {
    /// Allocates `count` pages, on NUMA node `node` if it has them; -1 is any node. May sleep.
    ///
    /// `EINVAL` for no page at all, `EOVERFLOW` for more than a GPADL can list, `ENOMEM`.
    pub(crate) fn new(count: usize, node: i32) -> Result<Self> {
        if count == 0 {
            return Err(EINVAL);
        }
        if count > vmbus_protocol::gpadl::MAX_PAGES {
            return Err(EOVERFLOW);
        }
        // INVARIANT: No block, no page.
        let mut this = Self {
            blocks: KVVec::new(),
            count: 0,
            leak: Leak::new(),
        };
        let mut order = MAX_ORDER;

        while this.count < count {
            // At least one page is missing.
            order = order.min((count - this.count).ilog2());
            // SAFETY: The node is one that the kernel named, or none.
            let page = unsafe { ffi::vmbus_shim_alloc_block(node, order) };

            match NonNull::new(page) {
                Some(page) => this.add(Block { page, order })?,
                None if order == 0 => return Err(ENOMEM),
                None => order -= 1,
            }
        }
        Ok(this)
    }

    /// Adds a block; it is freed if there is no memory for that.
    pub(super) fn add(&mut self, block: Block) -> Result {
        let count = block.count();

        if let Err(error) = self.blocks.reserve(1, GFP_KERNEL) {
            free(&block);
            return Err(error.into());
        }
        self.blocks.push(block, GFP_KERNEL)?;
        // INVARIANT: The block is ours from now on.
        self.count += count;
        Ok(())
    }

    /// Number of pages.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The `struct page` of each page.
    pub(super) fn pages(&self) -> impl Iterator<Item = *mut bindings::page> + '_ {
        self.blocks.iter().flat_map(Block::pages).take(self.count)
    }

    /// Guest frame numbers, one for each page.
    pub(crate) fn pfns(&self) -> Pfns<'_> {
        Pfns {
            blocks: self.blocks.iter(),
            next: 0,
            in_block: 0,
            left: self.count,
        }
    }

    /// Gives the pages up, because the host may still use them: they are counted, and not freed
    /// unless [`Self::reclaim`] takes them back.
    pub(crate) fn leak(&self) {
        self.leak.set(self.count);
    }

    /// Takes pages back that were given up: the host has let go of them after all.
    pub(crate) fn reclaim(&self) {
        self.leak.clear(self.count);
    }
}

fn free(block: &Block) {
    // SAFETY: By the invariants of `Block`, whose owner gives it up.
    unsafe { bindings::__free_pages(block.page.as_ptr(), block.order) };
}

impl Drop for PageList {
    fn drop(&mut self) {
        if !self.leak.is_set() {
            self.blocks.iter().for_each(free);
        }
    }
}

/// The frame numbers of a [`PageList`].
pub(crate) struct Pfns<'a> {
    blocks: core::slice::Iter<'a, Block>,
    next: u64,
    in_block: usize,
    left: usize,
}

impl Iterator for Pfns<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.in_block == 0 {
            let block = self.blocks.next()?;

            // SAFETY: The page is one of the memory map.
            self.next = unsafe { ffi::vmbus_shim_page_to_pfn(block.page.as_ptr()) };
            self.in_block = block.count();
        }
        let pfn = self.next;

        self.next = pfn.wrapping_add(1);
        self.in_block = self.in_block.saturating_sub(1);
        self.left = self.left.saturating_sub(1);
        Some(pfn)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Pfns<'_> {}

#[kunit_tests(vmbus_pages)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_make_no_sense() {
        assert!(PageList::new(0, -1).err() == Some(EINVAL));
        assert!(PageList::new(usize::MAX, -1).err() == Some(EOVERFLOW));
    }

    #[test]
    fn a_list_has_as_many_pages_as_were_asked_for() -> Result {
        for count in [1, 2, 3, 7, 512, 1000] {
            let list = PageList::new(count, -1)?;

            assert_eq!(list.count(), count);
            assert_eq!(list.pages().count(), count);
            assert_eq!(list.pfns().len(), count);
            for (page, pfn) in list.pages().zip(list.pfns()) {
                // SAFETY: The page is one of the list.
                assert_eq!(unsafe { ffi::vmbus_shim_page_to_pfn(page) }, pfn);
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_left_to_the_host_can_come_back() -> Result {
        let before = leaked_pages();
        let list = PageList::new(3, -1)?;

        list.leak();
        list.leak();
        assert_eq!(leaked_pages(), before + 3);
        list.reclaim();
        list.reclaim();
        assert_eq!(leaked_pages(), before);
        Ok(())
    }

    #[test]
    fn a_page_is_zeroed() -> Result {
        let page = SharedPage::new()?;

        for offset in 0..PAGE_BYTES {
            // SAFETY: The offset is inside the page, which nobody else has.
            assert_eq!(unsafe { page.as_ptr().add(offset).read() }, 0);
        }
        Ok(())
    }
}
