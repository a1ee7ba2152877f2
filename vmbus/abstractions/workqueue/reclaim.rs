// SPDX-License-Identifier: GPL-2.0

//! The queue for work that memory may have to wait for.

use super::{system_dfl_long, Queue, Workqueue, WqFlags};
use core::ptr;
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Release},
};

/// The queue while there is one.
static QUEUE: Atomic<*mut bindings::workqueue_struct> = Atomic::new(ptr::null_mut());

/// The bus's queue for drivers' work that writes to a disk wait for, on any CPU and for long:
/// something runs on it even when no memory is left for a new worker. `drivers/scsi/storvsc_drv.c`
/// has none.
///
/// Work on it ends before its driver's module does, as on a queue of the system. It must not flush
/// a queue of another kind.
pub fn reclaim() -> &'static Queue {
    let wq = QUEUE.load(Acquire);

    if wq.is_null() {
        return system_dfl_long();
    }
    // SAFETY: The queue is destroyed when this module goes, which modules that call this keep in
    // place.
    unsafe { Queue::from_raw(wq) }
}

/// Has [`reclaim`] be a queue that is destroyed when this is dropped: the last thing that happens
/// in the module.
pub(crate) struct ReclaimQueue {
    _queue: Workqueue,
}

impl ReclaimQueue {
    /// Creates it, once.
    pub(crate) fn new() -> Result<Self> {
        let flags = WqFlags::UNBOUND | WqFlags::MEM_RECLAIM;
        let queue = Workqueue::new(c"vmbus_reclaim", flags, 0)?;

        QUEUE.store(queue.wq.as_ptr(), Release);
        Ok(Self { _queue: queue })
    }
}

impl Drop for ReclaimQueue {
    fn drop(&mut self) {
        // The queue itself is destroyed after this.
        QUEUE.store(ptr::null_mut(), Release);
    }
}
