// SPDX-License-Identifier: GPL-2.0

//! A buffer that the host reads and writes, mapped for the guest.

use super::{
    mapping::Mapping,
    pages::{PageList, PAGE_BYTES},
};
use core::{mem::MaybeUninit, ptr::NonNull};
use kernel::{bindings, ffi::c_void, prelude::*, sync::Arc};

/// Shared memory with one mapping. The host may write it at any time: bytes are copied in and out,
/// and no reference to them is ever made.
pub(crate) struct BufferMap {
    mapping: Mapping,
    pages: Arc<PageList>,
}

impl BufferMap {
    /// Allocates and maps at least `bytes` bytes, zeroed, on NUMA node `node` if it has the memory.
    ///
    /// May sleep. `EINVAL` for no bytes, `EOVERFLOW` for more than a GPADL can list, `ENOMEM`.
    pub(crate) fn new(bytes: usize, node: i32) -> Result<Self> {
        let pages = Arc::new(PageList::new(bytes.div_ceil(PAGE_BYTES), node)?, GFP_KERNEL)?;

        Ok(Self {
            mapping: Mapping::of_all(&pages)?,
            pages,
        })
    }

    /// The pages, in the order in which the host is told about them.
    pub(crate) fn pages(&self) -> &Arc<PageList> {
        &self.pages
    }

    /// Bytes of the buffer: whole pages.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Address of the `len` bytes at `offset`, if they are inside the buffer.
    #[inline]
    pub(crate) fn area(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;

        if end > self.mapping.len() {
            return None;
        }
        // SAFETY: The offset is inside the mapping, or its end.
        Some(unsafe { self.mapping.base().add(offset) })
    }

    /// Copies bytes out; `EINVAL` when they are not all inside the buffer.
    ///
    /// The host may write them meanwhile: the copy then is some mix of old and new bytes.
    #[inline]
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result {
        // SAFETY: Bytes that are initialised may be seen as ones that may not be: what is written
        // through this is initialised again.
        let to = unsafe { &mut *(core::ptr::from_mut(to) as *mut [MaybeUninit<u8>]) };

        self.copy_out_uninit(offset, to).map(|_| ())
    }

    /// As [`Self::copy_out`], into memory that is not initialised; returns what is now.
    #[inline]
    pub(crate) fn copy_out_uninit<'a>(
        &self,
        offset: usize,
        to: &'a mut [MaybeUninit<u8>],
    ) -> Result<&'a mut [u8]> {
        let from = self.area(offset, to.len()).ok_or(EINVAL)?;
        let target = to.as_mut_ptr().cast::<u8>();

        // SAFETY: `from` is valid for the length of `to`, which is private, so the two do not
        // overlap. `memcpy` of the kernel makes no assumption that a concurrent write could break,
        // and initialises all of `to`.
        unsafe {
            bindings::memcpy(
                target.cast::<c_void>(),
                from.as_ptr().cast::<c_void>(),
                to.len(),
            );
            Ok(core::slice::from_raw_parts_mut(target, to.len()))
        }
    }

    /// Copies bytes in; `EINVAL` when they do not fit there.
    #[inline]
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) -> Result {
        let to = self.area(offset, from.len()).ok_or(EINVAL)?;

        // SAFETY: `to` is valid for the length of `from`, which is private, so the two do not
        // overlap. Concurrent reads by the host are its own affair.
        unsafe {
            bindings::memcpy(
                to.as_ptr().cast::<c_void>(),
                from.as_ptr().cast::<c_void>(),
                from.len(),
            )
        };
        Ok(())
    }
}

#[kunit_tests(vmbus_buffer)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_in_comes_out() -> Result {
        let buffer = BufferMap::new(3 * PAGE_BYTES - 1, -1)?;
        let mut out = [MaybeUninit::uninit(); 4];
        let mut more = [0xff; 4];

        assert_eq!(buffer.len(), 3 * PAGE_BYTES);
        // Over the edge of a page.
        buffer.copy_in(2 * PAGE_BYTES - 2, &[1, 2, 3, 4])?;
        assert!(buffer.copy_out_uninit(2 * PAGE_BYTES - 2, &mut out)? == [1, 2, 3, 4]);
        buffer.copy_out(0, &mut more)?;
        assert!(more == [0; 4]);
        Ok(())
    }

    #[test]
    fn nothing_outside_is_reached() -> Result {
        let buffer = BufferMap::new(PAGE_BYTES, -1)?;
        let mut out = [0; 4];

        for offset in [PAGE_BYTES - 3, PAGE_BYTES, usize::MAX, usize::MAX - 3] {
            assert!(buffer.copy_in(offset, &[0; 4]).is_err());
            assert!(buffer.copy_out(offset, &mut out).is_err());
        }
        assert!(buffer.copy_in(PAGE_BYTES - 4, &[0; 4]).is_ok());
        assert!(buffer.area(PAGE_BYTES, 0).is_some());
        Ok(())
    }
}
