// SPDX-License-Identifier: GPL-2.0

//! Shared pages, mapped in a row.

use super::pages::{PageList, PAGE_BYTES};
use crate::ffi;
use core::ptr::NonNull;
use kernel::{
    bindings,
    ffi::{c_uint, c_void},
    prelude::*,
    sync::Arc,
};

/// A mapping of pages of a [`PageList`]. A page can be in it more than once.
///
/// # Invariants
///
/// `base` is a mapping of `len` bytes, made by `vmap()`. The pages live as long as this object
/// (`_pages`).
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    _pages: Arc<PageList>,
}

// SAFETY: The mapping is not bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: Shared access hands out addresses only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps all pages of `list` in their order. May sleep.
    pub(super) fn of_all(list: &Arc<PageList>) -> Result<Self> {
        Self::new(list, list.count(), list.pages())
    }

    /// Maps the pages `first..first + count` of `list`, and then those of them that follow the
    /// first page once more. May sleep.
    pub(super) fn with_data_twice(
        list: &Arc<PageList>,
        first: usize,
        count: usize,
    ) -> Result<Self> {
        let part = || list.pages().skip(first).take(count);
        let total = count.checked_mul(2).ok_or(EOVERFLOW)?.saturating_sub(1);

        Self::new(list, total, Iterator::chain(part(), part().skip(1)))
    }

    fn new(
        list: &Arc<PageList>,
        count: usize,
        pages: impl Iterator<Item = *mut bindings::page>,
    ) -> Result<Self> {
        let mut array = KVVec::with_capacity(count, GFP_KERNEL)?;

        for page in pages {
            array.push(page, GFP_KERNEL)?;
        }
        if array.len() != count || count == 0 {
            return Err(EINVAL);
        }
        let len = count.checked_mul(PAGE_BYTES).ok_or(EOVERFLOW)?;
        let count = c_uint::try_from(count).map_err(|_| EOVERFLOW)?;
        // SAFETY: `array` holds `count` pages that belong to `list`.
        let base = unsafe { ffi::vmbus_shim_vmap(array.as_mut_ptr(), count) };

        // INVARIANT: Just mapped; the reference in `_pages` keeps the pages alive.
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(ENOMEM)?,
            len,
            _pages: list.clone(),
        })
    }

    /// Where the mapping starts.
    #[inline]
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: The mapping was made by `vmap()` and nothing uses it any more.
        unsafe { ffi::vunmap(self.base.as_ptr().cast::<c_void>()) };
    }
}
