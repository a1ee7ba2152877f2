// SPDX-License-Identifier: GPL-2.0

//! The queues of the system.

use super::{enqueue_raw, possible_cpu};
use kernel::{
    bindings,
    cpu::CpuId,
    time::{msecs_to_jiffies, Msecs},
    workqueue::{RawDelayedWorkItem, RawWorkItem},
};

/// A queue of the system, for [`enqueue_delayed`].
pub use kernel::workqueue::{system_freezable, system_long, Queue};

/// Returns the system's queue for work that may run on any CPU.
///
/// It takes the place of `system_unbound`, at whose use the kernel warns.
pub fn system_dfl() -> &'static Queue {
    // SAFETY: `system_dfl_wq` is a C global, set up before modules are and there for ever.
    unsafe { Queue::from_raw(bindings::system_dfl_wq) }
}

/// Returns the system's queue for work that may run on any CPU and may take long.
pub fn system_dfl_long() -> &'static Queue {
    // SAFETY: `system_dfl_long_wq` is a C global, set up before modules are and there for ever.
    unsafe { Queue::from_raw(bindings::system_dfl_long_wq) }
}

/// Returns the system's queue for work that runs on the CPU that enqueues it.
///
/// It takes the place of `system`, at whose use the kernel warns.
pub fn system_percpu() -> &'static Queue {
    // SAFETY: `system_percpu_wq` is a C global, set up before modules are and there for ever.
    unsafe { Queue::from_raw(bindings::system_percpu_wq) }
}

/// Enqueues a delayed work item on a queue of the system, to run in `ms` milliseconds.
#[inline]
pub fn enqueue_delayed<W, const ID: u64>(queue: &'static Queue, w: W, ms: Msecs) -> W::EnqueueOutput
where
    W: RawDelayedWorkItem<ID> + Send + 'static,
{
    queue.enqueue_delayed(w, msecs_to_jiffies(ms))
}

/// Enqueues a work item to run in softirq context on `cpu`, which must be online.
///
/// Can be called from hardirq context. If `cpu` is offline, the work waits until it comes back.
#[inline]
pub fn system_bh_enqueue_on<W, const ID: u64>(cpu: CpuId, w: W) -> W::EnqueueOutput
where
    W: RawWorkItem<ID> + Send + 'static,
{
    // SAFETY: `system_bh_wq` is a queue of the system, which is always there. `possible_cpu` only
    // gives numbers of possible CPUs.
    unsafe { enqueue_raw(bindings::system_bh_wq, possible_cpu(cpu), w) }
}
