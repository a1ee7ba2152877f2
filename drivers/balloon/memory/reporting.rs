// SPDX-License-Identifier: GPL-2.0

//! Free page reporting: the kernel says which memory is free, and the host is told.
//!
//! The kernel keeps what it reports off its free lists until the callback returns. It may give it
//! to somebody right afterwards, so the host has to be done with it by then: a hypercall is.

use super::ffi;
use core::slice;
use kernel::{
    error::to_result,
    ffi::{c_int, c_uint, c_void},
    prelude::*,
    sync::{Arc, ArcBorrow},
};

/// Free memory that the kernel reports: it is nobody's as long as this is borrowed.
pub(crate) struct FreeMemory<'a>(&'a [ffi::hv_balloon_shim_free]);

impl FreeMemory<'_> {
    /// First frames and numbers of frames of 4 KiB.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|range| (range.frame, range.count))
    }
}

/// Who hears of free memory.
pub(crate) trait Listener: Send + Sync + 'static {
    /// This memory is free. After an error it is reported again some time, and not the rest of this
    /// pass. In process context, one call at a time.
    fn on_free(this: ArcBorrow<'_, Self>, memory: &FreeMemory<'_>) -> Result;
}

/// Hearing of free memory, until it is dropped, which waits for who does, and must not be done
/// there.
pub(crate) struct Listening<T: Listener> {
    _listener: Arc<T>,
}

impl<T: Listener> Listening<T> {
    /// Begins. `EOPNOTSUPP` if kernel or host have no use for it, `EBUSY` if another driver hears.
    /// May sleep.
    pub(crate) fn start(listener: Arc<T>) -> Result<Self> {
        // SAFETY: Has no requirements in process context.
        let possible = unsafe { ffi::hv_balloon_shim_reporting_possible() };

        if possible <= 0 {
            return Err(EOPNOTSUPP);
        }
        // SAFETY: `on_free` is for a `T` that an `Arc` has, which we keep until `unlisten` has
        // returned, see `drop`.
        to_result(unsafe {
            ffi::hv_balloon_shim_listen(Arc::as_ptr(&listener).cast(), on_free::<T>)
        })?;
        Ok(Self {
            _listener: listener,
        })
    }

    /// The smallest block that is reported, as a power of two of pages.
    pub(crate) fn order(&self) -> u32 {
        // SAFETY: Reads a setting; has no requirements.
        unsafe { ffi::hv_balloon_shim_reporting_order() }
    }
}

impl<T: Listener> Drop for Listening<T> {
    fn drop(&mut self) {
        // SAFETY: We are the listener, as there is one at a time, and this is not called by
        // `on_free`, which has no way to own this.
        unsafe { ffi::hv_balloon_shim_unlisten() };
    }
}

/// # Safety
///
/// The shim calls this with its listener, which is a `T` that an [`Arc`] has, and with `nr` ranges
/// of free memory.
unsafe extern "C" fn on_free<T: Listener>(
    listener: *const c_void,
    ranges: *const ffi::hv_balloon_shim_free,
    nr: c_uint,
) -> c_int {
    // SAFETY: By the requirements of this function, and by those of `hv_balloon_shim_listen`.
    let listener = unsafe { ArcBorrow::from_raw(listener.cast::<T>()) };
    // SAFETY: By the requirements of this function. They are on the caller's stack and nobody
    // changes them.
    let ranges = unsafe { slice::from_raw_parts(ranges, nr as usize) };

    match T::on_free(listener, &FreeMemory(ranges)) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Tells the host that what is in this memory is no longer needed. Returns its status, 0 if it has
/// taken that.
///
/// `words` are those of a [`balloon_protocol::hint::Hint`] that names what `memory` has, and
/// nothing else.
pub(crate) fn hint(_memory: &FreeMemory<'_>, words: &[u64]) -> u16 {
    let nr = c_uint::try_from(words.len()).unwrap_or(0);

    // SAFETY: The words are valid for reads. What they name is free, and stays so during the call.
    unsafe { ffi::hv_balloon_shim_hint(words.as_ptr(), nr) }
}

/// Has the kernel report blocks of 2 MiB and larger ones only, from now on.
pub(crate) fn report_large_only() {
    // SAFETY: Has no requirements.
    unsafe { ffi::hv_balloon_shim_report_large_only() }
}
