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

/// Pages that were left to the host because it did not say that it is done with them.
static LEAKED_PAGES: Atomic<u64> = Atomic::new(0);

/// Physically contiguous, zeroed pages that the host is told about.
///
/// Dropping frees them, so whoever tells the host about them must call [`Self::leak`] when it
/// cannot prove that the host has let go.
///
/// # Invariants
///
/// `addr` is the start of `count` pages from `alloc_pages_exact()`, owned by this object.
pub(crate) struct SharedPages {
    addr: NonNull<u8>,
    count: usize,
    leaked: Atomic<bool>,
}

// SAFETY: The pages belong to the object and are not bound to a thread.
unsafe impl Send for SharedPages {}
// SAFETY: Shared access hands out addresses only; accesses through them are volatile.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// Allocates `count` contiguous pages, zeroed. May sleep.
    ///
    /// `EINVAL` for no page at all, `EOVERFLOW` for an absurd number, `ENOMEM`.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let bytes = count.checked_mul(PAGE_BYTES).ok_or(EOVERFLOW)?;

        if bytes == 0 {
            return Err(EINVAL);
        }
        // SAFETY: The size is not zero.
        let addr = unsafe {
            bindings::alloc_pages_exact_noprof(bytes, bindings::GFP_KERNEL | bindings::__GFP_ZERO)
        };

        // INVARIANT: Just allocated with this size.
        Ok(Self {
            addr: NonNull::new(addr.cast()).ok_or(ENOMEM)?,
            count,
            leaked: Atomic::new(false),
        })
    }

    /// Number of pages.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Start of the pages in the kernel's direct map.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.addr.as_ptr()
    }

    /// Guest physical address of the first page.
    pub(crate) fn phys(&self) -> u64 {
        // SAFETY: By the invariant the address is in the direct map.
        unsafe { ffi::vmbus_shim_virt_to_phys(self.addr.as_ptr().cast::<c_void>()) }
    }

    /// Guest frame numbers, one for each page.
    pub(crate) fn pfns(&self) -> impl ExactSizeIterator<Item = u64> {
        let first = self.phys() / PAGE_BYTES as u64;

        // The sum cannot overflow: frame numbers of memory that exists have at most 52 bits.
        (0..self.count).map(move |i| first.wrapping_add(i as u64))
    }

    /// The `struct page` of page `index`, if there is such a page.
    pub(super) fn page(&self, index: usize) -> Option<*mut bindings::page> {
        if index >= self.count {
            return None;
        }
        // SAFETY: `index` is inside the allocation, so the address is one of the direct map.
        Some(unsafe {
            ffi::vmbus_shim_virt_to_page(self.as_ptr().add(index * PAGE_BYTES).cast::<c_void>())
        })
    }

    /// Gives the pages up for good, because the host may still use them: they are counted and
    /// never freed.
    pub(crate) fn leak(&self) {
        if !self.leaked.xchg(true, Full) {
            LEAKED_PAGES.fetch_add(self.count as u64, Relaxed);
        }
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        if self.leaked.load(Relaxed) {
            return;
        }
        // SAFETY: By the invariant; the size is the one that was allocated.
        unsafe {
            bindings::free_pages_exact(self.addr.as_ptr().cast::<c_void>(), self.count * PAGE_BYTES)
        };
    }
}

/// Pages leaked to the host so far (see [`SharedPages::leak`]).
pub(crate) fn leaked_pages() -> u64 {
    LEAKED_PAGES.load(Relaxed)
}

/// One page of flags that both sides set and clear: SynIC event flags, or the old interrupt page.
pub(crate) struct FlagPage(SharedPages);

/// Flags in one word of a [`FlagPage`].
const WORD_BITS: usize = 64;

impl FlagPage {
    /// Offset of the half of the interrupt page that signals the host (protocols before 5.0).
    pub(crate) const SEND_OFFSET: usize = PAGE_BYTES / 2;

    /// A page with all flags clear.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(SharedPages::new(1)?))
    }

    /// The page itself.
    pub(crate) fn pages(&self) -> &SharedPages {
        &self.0
    }

    fn word(&self, byte: usize) -> Option<&Atomic<u64>> {
        if byte % 8 != 0 || byte >= PAGE_BYTES {
            return None;
        }
        // SAFETY: `byte` is an aligned offset inside the page, and the page lives as long as
        // `self`. The host accesses the same word, with atomic operations only.
        Some(unsafe { Atomic::from_ptr(self.0.as_ptr().add(byte).cast::<u64>()) })
    }

    /// Sets flag `flag` of the area that starts at `byte`; flags beyond the page are ignored.
    pub(crate) fn set(&self, byte: usize, flag: usize) {
        let Some(word) = self.word(byte + flag / WORD_BITS * 8) else {
            return;
        };
        let bit = 1u64 << (flag % WORD_BITS);
        let mut old = word.load(Relaxed);

        while let Err(now) = word.cmpxchg(old, old | bit, Full) {
            old = now;
        }
    }

    /// Whether one of the 64 flags that start at flag `word * 64` of the area at `byte` is set.
    pub(crate) fn is_set(&self, byte: usize, word: usize) -> bool {
        self.word(byte + word * 8)
            .is_some_and(|word| word.load(Relaxed) != 0)
    }

    /// Takes all flags of the 64 that start at flag `word * 64` of the area at `byte`.
    ///
    /// Costs one load when none is set, which is the common case.
    #[inline]
    pub(crate) fn take(&self, byte: usize, word: usize) -> u64 {
        let Some(word) = self.word(byte + word * 8) else {
            return 0;
        };

        if word.load(Relaxed) == 0 {
            return 0;
        }
        word.xchg(0, Full)
    }
}

#[kunit_tests(vmbus_pages)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_make_no_sense() {
        assert!(SharedPages::new(0).err() == Some(EINVAL));
        assert!(SharedPages::new(usize::MAX).err() == Some(EOVERFLOW));
    }

    #[test]
    fn pages_are_zeroed_and_in_a_row() -> Result {
        let pages = SharedPages::new(3)?;
        let mut pfns = pages.pfns();
        let first = pfns.next().ok_or(EINVAL)?;

        assert_eq!(first * PAGE_BYTES as u64, pages.phys());
        assert_eq!(pfns.next(), Some(first + 1));
        assert_eq!(pfns.next(), Some(first + 2));
        assert_eq!(pfns.next(), None);
        assert!(pages.page(2).is_some());
        assert!(pages.page(3).is_none());
        for offset in 0..3 * PAGE_BYTES {
            // SAFETY: The offset is inside the pages, which nobody else has.
            assert_eq!(unsafe { pages.as_ptr().add(offset).read() }, 0);
        }
        Ok(())
    }

    #[test]
    fn flags() -> Result {
        let page = FlagPage::new()?;

        page.set(0, 0);
        page.set(0, 65);
        page.set(FlagPage::SEND_OFFSET, 3);
        // Beyond the page: ignored.
        page.set(FlagPage::SEND_OFFSET, PAGE_BYTES * 8);
        assert!(page.is_set(0, 0));
        assert_eq!(page.take(0, 0), 1);
        assert_eq!(page.take(0, 0), 0);
        assert_eq!(page.take(0, 1), 2);
        assert_eq!(page.take(FlagPage::SEND_OFFSET, 0), 8);
        assert_eq!(page.take(0, PAGE_BYTES), 0);
        Ok(())
    }
}
