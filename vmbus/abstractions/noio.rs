// SPDX-License-Identifier: GPL-2.0

//! Allocation without waiting for disks.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use crate::ffi;
use kernel::{ffi::c_uint, types::NotThreadSafe};

/// While it exists, memory that this task allocates is not waited for in a way that needs I/O:
/// every `GFP_KERNEL` counts as `GFP_NOIO`.
///
/// For work on which a driver of a disk may be waiting. Guards are dropped in the reverse order of
/// their creation.
pub struct NoIo {
    before: c_uint,
    _task: NotThreadSafe,
}

impl NoIo {
    /// Begins the scope. Task context.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            // SAFETY: Sets a flag of this task, which `drop` puts back in the same task.
            before: unsafe { ffi::vmbus_shim_noio_save() },
            _task: NotThreadSafe,
        }
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: The value comes from `new`, in the same task because the guard is not `Send`.
        unsafe { ffi::vmbus_shim_noio_restore(self.before) };
    }
}
