// SPDX-License-Identifier: GPL-2.0

//! What tools know from the C driver: its file in debugfs, and its trace event.

use super::ffi;
use core::ptr::NonNull;
use kernel::{bindings, prelude::*};

pub(crate) use ffi::ReportedStatus;

/// The C driver's name at the top of debugfs, which leads to a file elsewhere in it, until this is
/// dropped.
pub(crate) struct Link(NonNull<bindings::dentry>);

// SAFETY: Entries of debugfs can be removed, and references to them given back, by any thread.
unsafe impl Send for Link {}

// SAFETY: Nothing can be done with a reference.
unsafe impl Sync for Link {}

impl Link {
    /// Makes `name` lead to `target`; not if the name is taken, by the C driver for example.
    pub(crate) fn new(name: &CStr, target: &CStr) -> Option<Self> {
        // SAFETY: Both are valid strings.
        let link = unsafe { ffi::hv_balloon_shim_link(name.as_char_ptr(), target.as_char_ptr()) };

        NonNull::new(link).map(Self)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // SAFETY: We have a reference to the entry, which this gives back; the entry may be gone
        // already.
        unsafe { ffi::hv_balloon_shim_unlink(self.0.as_ptr()) };
    }
}

/// Trace event `hyperv:balloon_status`.
pub(crate) fn trace_status(status: &ReportedStatus) {
    // SAFETY: The structure is valid and copied.
    unsafe { ffi::hv_balloon_shim_trace_status(status) };
}
