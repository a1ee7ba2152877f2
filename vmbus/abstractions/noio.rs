// SPDX-License-Identifier: GPL-2.0

//! Allocation without waiting for disks, and what disks wait for.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use crate::{ffi, CLOSES_WITHOUT_MEMORY};
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

/// While it exists, whoever waits for memory may be waiting for this task.
///
/// It tells lockdep, and does nothing else: where memory is asked for meanwhile that may be waited
/// for, or in work or with a lock that this task waits for, lockdep reports a deadlock, whether it
/// comes about or not. [`NoIo`] is the way out. Not to be nested. On the C core it says nothing,
/// since it would not be so.
pub struct Reclaim {
    _task: NotThreadSafe,
}

impl Reclaim {
    /// Begins the scope. Task context, outside of a [`NoIo`] scope.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        if CLOSES_WITHOUT_MEMORY {
            // SAFETY: Notes down a lock of lockdep for this task, which `drop` takes back in the
            // same task because the guard is not `Send`.
            unsafe { ffi::vmbus_shim_reclaim_begin() };
        }
        Self {
            _task: NotThreadSafe,
        }
    }
}

impl Drop for Reclaim {
    fn drop(&mut self) {
        if CLOSES_WITHOUT_MEMORY {
            // SAFETY: `new` noted it down in this task.
            unsafe { ffi::vmbus_shim_reclaim_end() };
        }
    }
}
