// SPDX-License-Identifier: GPL-2.0

//! Work queues of one's own, work on a given CPU, and taking work back.
//!
//! [`kernel::workqueue`] has the work items and the system's queues. This module adds
//!
//!  * [`reclaim`], the bus's queue for work that memory may have to wait for;
//!  * [`Workqueue`], a queue that is drained and destroyed when it is dropped;
//!  * [`system_bh_enqueue_on`], for the hand-over from an interrupt to a softirq on a given CPU;
//!  * [`cancel_sync`], [`disable_sync`], [`enable`], [`flush`] and their `delayed` forms, which
//!    work on items that are enqueued as `Arc`;
//!  * [`DisableOnDrop`], a guard that ends a work item for good.
//!
//! # What keeps the module's text alive
//!
//! A work function is part of its module. The kernel does not wait for pending work when a module
//! is unloaded, so each module ends its work first: by dropping the [`Workqueue`] on which it runs,
//! or, for work on the queues of the system, by one of the functions above. All of them return only
//! when the work function has returned.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::ptr::NonNull;
use kernel::{
    bindings, container_of,
    cpu::CpuId,
    ffi::{c_int, c_uint},
    prelude::*,
    time::{msecs_to_jiffies, Msecs},
    workqueue::{RawDelayedWorkItem, RawWorkItem},
};

mod items;
mod reclaim;
mod system;

pub use self::items::{
    cancel_delayed_sync, cancel_sync, disable_delayed_sync, disable_sync, enable, flush, Delayed,
    Disable, DisableOnDrop, Plain,
};
pub use self::reclaim::reclaim;
pub(crate) use self::reclaim::ReclaimQueue;
pub use self::system::{
    enqueue_delayed,
    system_bh_enqueue_on,
    system_dfl,
    system_dfl_long,
    system_freezable,
    system_long,
    system_percpu,
    Queue, //
};

/// How a [`Workqueue`] runs its work. Flags are combined with `|`.
///
/// Exactly one of [`PERCPU`](Self::PERCPU) and [`UNBOUND`](Self::UNBOUND) must be among them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WqFlags(c_uint);

impl WqFlags {
    /// Work runs on the CPU that it was enqueued on.
    pub const PERCPU: Self = Self(bindings::wq_flags_WQ_PERCPU);
    /// Work runs on any CPU.
    pub const UNBOUND: Self = Self(bindings::wq_flags_WQ_UNBOUND);
    /// Work runs in softirq context: it must not sleep. Goes with `PERCPU` and `HIGHPRI` only.
    pub const BH: Self = Self(bindings::wq_flags_WQ_BH);
    /// The queue takes part in the freezing of a suspend.
    pub const FREEZABLE: Self = Self(bindings::wq_flags_WQ_FREEZABLE);
    /// One item makes progress even when no memory is left for a new worker.
    pub const MEM_RECLAIM: Self = Self(bindings::wq_flags_WQ_MEM_RECLAIM);
    /// Work runs on workers of elevated priority.
    pub const HIGHPRI: Self = Self(bindings::wq_flags_WQ_HIGHPRI);
    /// The queue is visible under `/sys/devices/virtual/workqueue`.
    pub const SYSFS: Self = Self(bindings::wq_flags_WQ_SYSFS);

    /// No flag.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Returns whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::ops::BitOr for WqFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A work queue of one's own.
///
/// Dropping it runs all work that is pending, including work which that work enqueues, waits for
/// the end, and destroys the queue. This sleeps, and deadlocks in a work item of the same queue.
///
/// # Invariants
///
/// `wq` points at a work queue that this object owns and that is destroyed by `drop` only.
///
/// # Examples
///
/// ```ignore
/// let wq = Workqueue::new(c"hv_offers", WqFlags::UNBOUND | WqFlags::MEM_RECLAIM, 0)?;
///
/// let _ = wq.enqueue(item.clone());
/// wq.flush();
/// ```
pub struct Workqueue {
    wq: NonNull<bindings::workqueue_struct>,
}

// SAFETY: A work queue is not bound to a task; it may be destroyed from any.
unsafe impl Send for Workqueue {}

// SAFETY: Enqueueing and flushing are thread-safe.
unsafe impl Sync for Workqueue {}

impl Workqueue {
    /// Creates a work queue.
    ///
    /// `name` names its workers; 31 bytes of it count. `max_active` bounds how many items run at
    /// the same time, on each CPU for `PERCPU`; 0 is the default, and the only value for `BH`.
    ///
    /// Fails with `EINVAL` for flags that do not go together.
    pub fn new(name: &CStr, flags: WqFlags, max_active: u32) -> Result<Self> {
        if flags.contains(WqFlags::PERCPU) == flags.contains(WqFlags::UNBOUND)
            || max_active > bindings::wq_consts_WQ_MAX_ACTIVE
        {
            return Err(EINVAL);
        }
        let bh_allows = bindings::wq_flags___WQ_BH_ALLOWS;
        if flags.contains(WqFlags::BH) && (flags.0 & !bh_allows != 0 || max_active != 0) {
            return Err(EINVAL);
        }

        Self::alloc(name, flags.0, max_active)
    }

    /// Creates a work queue that runs one item at a time, in the order in which they came.
    ///
    /// Of the flags, `FREEZABLE`, `MEM_RECLAIM`, `HIGHPRI` and `SYSFS` have a meaning; `PERCPU` and
    /// `BH` give `EINVAL`.
    pub fn new_ordered(name: &CStr, flags: WqFlags) -> Result<Self> {
        if flags.contains(WqFlags::PERCPU) || flags.contains(WqFlags::BH) {
            return Err(EINVAL);
        }
        let ordered = bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags___WQ_ORDERED;

        Self::alloc(name, flags.0 | ordered, 1)
    }

    fn alloc(name: &CStr, flags: c_uint, max_active: u32) -> Result<Self> {
        let max_active = c_int::try_from(max_active).map_err(|_| EINVAL)?;

        // SAFETY: The format takes exactly one string, and `name` is NUL-terminated. The function
        // copies it. The callers have checked that the flags go together.
        let wq = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                flags,
                max_active,
                name.as_char_ptr(),
            )
        };

        // INVARIANT: The queue is new, and nothing but `drop` destroys it.
        Ok(Self {
            wq: NonNull::new(wq).ok_or(ENOMEM)?,
        })
    }

    /// Enqueues a work item, to run on the local CPU or, for `UNBOUND`, anywhere.
    ///
    /// For an `Arc` the item is handed back as an error if it is pending already or disabled.
    #[inline]
    pub fn enqueue<W, const ID: u64>(&self, w: W) -> W::EnqueueOutput
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        // SAFETY: By the type invariant the queue is valid during the call. It is not destroyed
        // before its work has run, since `drop` drains it.
        unsafe { enqueue_raw(self.wq.as_ptr(), CPU_ANY, w) }
    }

    /// Enqueues a work item to run on `cpu`.
    ///
    /// An `UNBOUND` queue takes this as a hint. So does a `PERCPU` queue while `cpu` is offline:
    /// whoever needs that CPU keeps it from going offline. A CPU that cannot exist counts as any.
    #[inline]
    pub fn enqueue_on<W, const ID: u64>(&self, cpu: CpuId, w: W) -> W::EnqueueOutput
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        // SAFETY: As in `enqueue`. `possible_cpu` only gives numbers of possible CPUs.
        unsafe { enqueue_raw(self.wq.as_ptr(), possible_cpu(cpu), w) }
    }

    /// Enqueues a delayed work item to run in `ms` milliseconds.
    ///
    /// This needs a queue that is never destroyed: destroying one does not wait for work whose
    /// timer still runs. Work of something that comes and goes takes a queue of the system instead,
    /// see [`enqueue_delayed`], and is ended by [`cancel_delayed_sync`].
    #[inline]
    pub fn enqueue_delayed<W, const ID: u64>(&'static self, w: W, ms: Msecs) -> W::EnqueueOutput
    where
        W: RawDelayedWorkItem<ID> + Send + 'static,
    {
        // SAFETY: By the type invariant the queue is valid, and `&'static self` says that it always
        // will be.
        unsafe { enqueue_delayed_raw(self.wq.as_ptr(), w, ms) }
    }

    /// Waits until all work that is pending now has run. Work that it enqueues is not waited for.
    ///
    /// Deadlocks in a work item of the same queue.
    pub fn flush(&self) {
        // SAFETY: By the type invariant the queue is valid.
        unsafe { bindings::__flush_workqueue(self.wq.as_ptr()) };
    }
}

impl Drop for Workqueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the queue is valid and ours. Nobody enqueues any more,
        // except the work itself, for which the function waits. No timer points at the queue,
        // because `enqueue_delayed` takes queues that are never dropped.
        unsafe { bindings::destroy_workqueue(self.wq.as_ptr()) };
    }
}

const CPU_ANY: c_int = bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int;

/// Returns the number of `cpu` for `queue_work_on`, or `CPU_ANY` if there cannot be such a CPU.
///
/// The queue has per-CPU data for possible CPUs only. [`CpuId`] promises no more than a number
/// below `nr_cpu_ids`, and there may be holes.
#[inline]
fn possible_cpu(cpu: CpuId) -> c_int {
    const BITS: u32 = usize::BITS;
    let nr = cpu.as_u32();

    // SAFETY: The mask has a bit for each number below `nr_cpu_ids`, which `CpuId` is. It is set up
    // during boot and not written afterwards.
    let word = unsafe {
        (&raw const bindings::__cpu_possible_mask)
            .cast::<usize>()
            .add((nr / BITS) as usize)
            .read()
    };

    if word & (1 << (nr % BITS)) != 0 {
        nr as c_int
    } else {
        CPU_ANY
    }
}

/// # Safety
///
/// `wq` must be valid until the work has run, and `cpu` a possible CPU or `CPU_ANY`.
#[inline]
unsafe fn enqueue_raw<W, const ID: u64>(
    wq: *mut bindings::workqueue_struct,
    cpu: c_int,
    w: W,
) -> W::EnqueueOutput
where
    W: RawWorkItem<ID> + Send + 'static,
{
    // SAFETY: `W` is `Send` and 'static, so there is no requirement about threads and lifetimes.
    // `queue_work_on` returns false for an item that is pending, or that is disabled; the latter
    // is possible for `Arc` only, whose `__enqueue` then just takes the reference back. It accesses
    // the item during the call, or until the work function is called if it returned true, and
    // `__enqueue` guarantees that the item is valid for that long.
    unsafe { w.__enqueue(move |work| bindings::queue_work_on(cpu, wq, work)) }
}

/// # Safety
///
/// `wq` must be valid until the work has run.
#[inline]
unsafe fn enqueue_delayed_raw<W, const ID: u64>(
    wq: *mut bindings::workqueue_struct,
    w: W,
    ms: Msecs,
) -> W::EnqueueOutput
where
    W: RawDelayedWorkItem<ID> + Send + 'static,
{
    // SAFETY: As in `enqueue_raw`. `RawDelayedWorkItem` says that the `work_struct` is the `work`
    // field of a `delayed_work`, and that the guarantees hold for all of it.
    unsafe {
        w.__enqueue(move |work| {
            bindings::queue_delayed_work_on(
                CPU_ANY,
                wq,
                container_of!(work, bindings::delayed_work, work),
                msecs_to_jiffies(ms),
            )
        })
    }
}

#[kunit_tests(vmbus_workqueue)]
mod tests {
    use super::*;
    use kernel::{
        impl_has_work, new_work,
        sync::{
            atomic::{Atomic, Relaxed},
            Arc,
        },
        workqueue::{Work, WorkItem},
    };

    #[pin_data]
    struct Counted {
        runs: Atomic<u32>,
        cpu: Atomic<u32>,
        #[pin]
        work: Work<Counted>,
    }

    impl_has_work! {
        impl HasWork<Self> for Counted { self.work }
    }

    impl WorkItem for Counted {
        type Pointer = Arc<Counted>;

        fn run(this: Arc<Counted>) {
            this.cpu.store(CpuId::current().as_u32(), Relaxed);
            this.runs.fetch_add(1u32, Relaxed);
        }
    }

    impl Counted {
        fn new() -> Result<Arc<Self>> {
            Arc::pin_init(
                pin_init!(Self {
                    runs: Atomic::new(0),
                    cpu: Atomic::new(u32::MAX),
                    work <- new_work!("vmbus_kunit"),
                }),
                GFP_KERNEL,
            )
        }

        fn runs(&self) -> u32 {
            self.runs.load(Relaxed)
        }
    }

    #[test]
    fn flags_that_do_not_go_together() {
        let both = WqFlags::PERCPU | WqFlags::UNBOUND;
        let bh_unbound = WqFlags::BH | WqFlags::UNBOUND;
        let refused = |flags, max_active| {
            Workqueue::new(c"vmbus_kunit", flags, max_active).err() == Some(EINVAL)
        };

        assert!(refused(WqFlags::empty(), 0));
        assert!(refused(both, 0));
        assert!(refused(bh_unbound, 0));
        assert!(refused(WqFlags::BH | WqFlags::PERCPU, 1));
        assert!(refused(WqFlags::UNBOUND, u32::MAX));
        let ordered = Workqueue::new_ordered(c"vmbus_kunit", WqFlags::PERCPU);
        assert!(ordered.err() == Some(EINVAL));
    }

    #[test]
    fn work_runs_where_it_was_sent() -> Result {
        let queue = Workqueue::new(c"vmbus_kunit", WqFlags::PERCPU, 0)?;
        let item = Counted::new()?;

        for cpu in 0..kernel::cpu::nr_cpu_ids() {
            let Some(cpu) = CpuId::from_u32(cpu) else {
                continue;
            };
            if !crate::abstractions::cpus::takes_device_interrupts(cpu) {
                continue;
            }
            assert!(queue.enqueue_on(cpu, item.clone()).is_ok());
            queue.flush();
            assert_eq!(item.cpu.load(Relaxed), cpu.as_u32());
        }
        assert!(item.runs() > 0);
        Ok(())
    }

    #[test]
    fn dropping_a_queue_runs_what_is_pending() -> Result {
        let queue = Workqueue::new_ordered(c"vmbus_kunit", WqFlags::empty())?;
        let items = [Counted::new()?, Counted::new()?, Counted::new()?];

        for item in &items {
            assert!(queue.enqueue(item.clone()).is_ok());
        }
        drop(queue);
        assert!(items.iter().all(|item| item.runs() == 1));
        Ok(())
    }

    #[test]
    fn disabled_work_does_not_run() -> Result {
        let queue = Workqueue::new(c"vmbus_kunit", WqFlags::UNBOUND, 0)?;
        let item = Counted::new()?;

        disable_sync::<Counted, 0>(&item);
        assert!(queue.enqueue(item.clone()).is_err());
        queue.flush();
        assert_eq!(item.runs(), 0);
        enable::<Counted, 0>(&item);
        assert!(queue.enqueue(item.clone()).is_ok());
        queue.flush();
        assert_eq!(item.runs(), 1);
        Ok(())
    }
}
