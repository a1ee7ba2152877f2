// SPDX-License-Identifier: GPL-2.0

//! Pages on their way out of the kernel's memory management and back.

use super::{
    ffi,
    frames::{Span, BLOCK_FRAMES}, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    ffi::{c_long, c_ulong}, //
};

/// The size of an allocation: a power of two of pages, 2 MiB at most.
///
/// # Invariants
///
/// The number is at most that of [`Order::BLOCK`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Order(u8);

impl Order {
    /// A block of 2 MiB.
    // INVARIANT: It is the limit.
    pub(crate) const BLOCK: Self = Self(BLOCK_FRAMES.trailing_zeros() as u8);

    /// The largest order of which no more than `pages` pages are needed; none for 0 pages.
    pub(crate) fn fitting(pages: u64) -> Option<Self> {
        // INVARIANT: Limited to the one of `BLOCK`; the logarithm of an `u64` fits into an `u8`.
        pages
            .checked_ilog2()
            .map(|log| Self((log as u8).min(Self::BLOCK.0)))
    }

    /// The smaller one of two orders.
    pub(crate) fn min(self, other: Self) -> Self {
        // INVARIANT: Both are at most `BLOCK`.
        Self(self.0.min(other.0))
    }

    /// The next smaller order; none below a single page.
    pub(crate) fn smaller(self) -> Option<Self> {
        // INVARIANT: Smaller than a valid order.
        self.0.checked_sub(1).map(Self)
    }

    /// The number of pages.
    pub(crate) fn pages(self) -> u64 {
        // By the type invariant the shift is at most 9.
        1 << self.0
    }
}

/// Pages that were just allocated.
///
/// # Invariants
///
/// `page` is the first page of an allocation of `order` that this object owns, that is neither
/// compound nor split, and that nobody else knows.
pub(super) struct Fresh {
    page: NonNull<bindings::page>,
    order: Order,
}

impl Fresh {
    /// Allocates pages, without trying hard. May sleep.
    pub(super) fn alloc(order: Order) -> Option<Self> {
        // SAFETY: By the type invariant the order is one that the allocator knows. The call is
        // made in process context.
        let page = unsafe { ffi::hv_balloon_shim_alloc(order.0.into()) };

        // INVARIANT: The flags do not ask for a compound page, and the allocation is new.
        NonNull::new(page).map(|page| Self { page, order })
    }

    /// The number of the first frame.
    pub(super) fn frame(&self) -> u64 {
        // SAFETY: By the type invariant the page is valid.
        let pfn = unsafe { ffi::hv_balloon_shim_pfn(self.page.as_ptr()) };

        pfn as u64
    }

    /// Hides the pages from the kernel.
    ///
    /// A whole block stays one allocation; anything smaller is split into single pages. From now
    /// on the frames are marked `PageOffline` and counted as ballooned, and nothing but
    /// [`free_block`] or [`free_pages`] gets them back.
    pub(super) fn hide(self) {
        let (page, order) = (self.page.as_ptr(), self.order);
        core::mem::forget(self);

        if order != Order::BLOCK {
            // SAFETY: By the type invariant this is an allocation of that order which is not
            // compound, not split and has no other user.
            unsafe { bindings::split_page(page, order.0.into()) };
        }

        // SAFETY: The pages are the allocation's, so their descriptors are valid and neighbours,
        // nobody else uses them, and they lie in one zone. An allocated page that is not mapped
        // has no page type.
        unsafe {
            ffi::hv_balloon_shim_set_offline(page, order.pages() as u32);
            ffi::hv_balloon_shim_account(page, order.pages() as c_long);
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the allocation is ours and of this order.
        unsafe { bindings::__free_pages(self.page.as_ptr(), self.order.0.into()) };
    }
}

/// Returns the descriptor of the first page of block `block`.
///
/// # Safety
///
/// A frame of the block must be hidden.
unsafe fn block_page(block: u64) -> *mut bindings::page {
    // The caller promises that a frame of the block is hidden, so the number of its first frame
    // is one of memory that exists, and far from the limit of the type.
    let pfn = block.wrapping_mul(BLOCK_FRAMES) as c_ulong;

    // SAFETY: A block is not larger than the unit in which the kernel has page descriptors, so
    // there is one for each of its frames if there is one for any.
    unsafe { ffi::hv_balloon_shim_page(pfn) }
}

/// Returns a whole block to the kernel.
///
/// # Safety
///
/// Block `block` must be hidden as one allocation, see [`Fresh::hide`]. It no longer is after the
/// call.
pub(super) unsafe fn free_block(block: u64) {
    // SAFETY: The caller promises that the block is hidden.
    let page = unsafe { block_page(block) };
    let frames = Span::WHOLE.len();

    // SAFETY: The caller promises that these pages are hidden, thus marked and counted, that they
    // are one allocation of this order, which lies in one zone, and that the only reference to it
    // is ours.
    unsafe {
        ffi::hv_balloon_shim_clear_offline(page, frames);
        ffi::hv_balloon_shim_account(page, -(frames as c_long));
        bindings::__free_pages(page, Order::BLOCK.0.into());
    }
}

/// Makes single pages out of a whole block, which stay hidden.
///
/// # Safety
///
/// Block `block` must be hidden as one allocation. It is hidden as single pages after the call.
pub(super) unsafe fn split_block(block: u64) {
    // SAFETY: The caller promises that the block is hidden.
    let page = unsafe { block_page(block) };

    // SAFETY: The caller promises that this is one allocation of that order; it is not compound,
    // since `Fresh` is not.
    unsafe { bindings::split_page(page, Order::BLOCK.0.into()) };
}

/// Returns single pages to the kernel.
///
/// # Safety
///
/// The frames `span` of block `block` must be hidden as single pages. They no longer are after the
/// call.
pub(super) unsafe fn free_pages(block: u64, span: Span) {
    // SAFETY: The caller promises that frames of the block are hidden.
    let base = unsafe { block_page(block) };
    let mut at = span.first();
    let end = at + span.len();

    while at < end {
        // SAFETY: A block has descriptors for all its frames, side by side, see `block_page`.
        let first = unsafe { base.add(at as usize) };
        let mut run = 1;

        // Counting is expensive, so it is done once for neighbours in one zone. A whole block lies
        // in one, single pages of a block need not.
        while at + run < end {
            // SAFETY: As for `first`.
            let next = unsafe { first.add(run as usize) };
            // SAFETY: Both are valid descriptors.
            if !unsafe { ffi::hv_balloon_shim_same_zone(first, next) } {
                break;
            }
            run += 1;
        }

        // SAFETY: The caller promises that these pages are hidden, thus marked and counted. They
        // lie in one zone.
        unsafe {
            ffi::hv_balloon_shim_clear_offline(first, run);
            ffi::hv_balloon_shim_account(first, -(run as c_long));
        }
        for i in 0..run {
            // SAFETY: The caller promises that each of them is an allocation of its own, to which
            // the only reference is ours.
            unsafe { bindings::__free_pages(first.add(i as usize), 0) };
        }
        at += run;
    }
}

/// Lets others run, between blocks.
pub(super) fn cond_resched() {
    // SAFETY: Called in process context without spinlocks.
    unsafe { ffi::hv_balloon_shim_cond_resched() };
}
