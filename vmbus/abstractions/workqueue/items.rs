// SPDX-License-Identifier: GPL-2.0

//! Taking work back, waiting for it and ending it, for items that are enqueued as [`Arc`].

use core::marker::PhantomData;
use kernel::{
    bindings, container_of,
    sync::Arc,
    workqueue::{HasDelayedWork, HasWork, Work, WorkItem},
};

/// Returns the `work_struct` of field `ID`.
fn raw_work<T, const ID: u64>(this: &Arc<T>) -> *mut bindings::work_struct
where
    T: HasWork<T, ID>,
{
    // SAFETY: The pointer of an `Arc` points at a valid `T`, and the field pointer which is made
    // from it is then valid as well. Nothing is accessed here.
    unsafe { Work::raw_get(T::raw_get_work(Arc::as_ptr(this).cast_mut())) }
}

/// Returns the `delayed_work` of field `ID`.
fn raw_delayed_work<T, const ID: u64>(this: &Arc<T>) -> *mut bindings::delayed_work
where
    T: HasDelayedWork<T, ID>,
{
    let work = raw_work::<T, ID>(this);

    // SAFETY: `HasDelayedWork` says that the `work_struct` is the `work` field of a `delayed_work`.
    unsafe { container_of!(work, bindings::delayed_work, work) }
}

/// Drops the reference that was handed over when `this` was enqueued.
///
/// # Safety
///
/// Item `ID` of `this` must just have been taken from a queue, or from its timer, before it ran.
unsafe fn take_back<T, const ID: u64>(this: &Arc<T>)
where
    T: WorkItem<ID, Pointer = Arc<T>>,
{
    // SAFETY: `T::Pointer` is `Arc<T>`, so whoever enqueued the item made this very pointer with
    // `Arc::into_raw` and gave its reference away. The work function, which would have taken it,
    // will not run for it, so it is ours.
    drop(unsafe { Arc::from_raw(Arc::as_ptr(this)) });
}

/// Cancels work item `ID` of `this` and waits for the end of its work function.
///
/// Returns whether the item was pending; the reference that it held is dropped. On return the item
/// is neither pending nor running, unless somebody enqueues it again meanwhile.
///
/// May sleep, unless the item was last enqueued on a `BH` queue, when the call is possible in any
/// context but hardirq. Deadlocks in the work function of the item itself.
///
/// Not for a delayed work item, whose timer it would not stop but wait for: see
/// [`cancel_delayed_sync`].
pub fn cancel_sync<T, const ID: u64>(this: &Arc<T>) -> bool
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID>,
{
    // SAFETY: `raw_work` gives the initialised `work_struct` of an object that `this` keeps alive.
    let pending = unsafe { bindings::cancel_work_sync(raw_work::<T, ID>(this)) };
    if pending {
        // SAFETY: The item was pending, and was taken from its queue.
        unsafe { take_back::<T, ID>(this) };
    }
    pending
}

/// As [`cancel_sync`], and keeps the item from being enqueued until [`enable`] is called as often.
///
/// To enqueue a disabled item gives it back as an error.
pub fn disable_sync<T, const ID: u64>(this: &Arc<T>) -> bool
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID>,
{
    // SAFETY: As in `cancel_sync`.
    let pending = unsafe { bindings::disable_work_sync(raw_work::<T, ID>(this)) };
    if pending {
        // SAFETY: The item was pending, and was taken from its queue.
        unsafe { take_back::<T, ID>(this) };
    }
    pending
}

/// Undoes one [`disable_sync`] or [`disable_delayed_sync`]. Returns whether the item can be
/// enqueued now.
///
/// A call without a matching one of those is a bug which the kernel reports.
pub fn enable<T, const ID: u64>(this: &Arc<T>) -> bool
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID>,
{
    // SAFETY: As in `cancel_sync`. Should the item be pending in spite of what is said above, then
    // the reference that it holds is leaked.
    unsafe { bindings::enable_work(raw_work::<T, ID>(this)) }
}

/// Waits until work item `ID` of `this` has run, if it is pending or running.
///
/// Sleeps. Deadlocks in the work function of the item itself.
pub fn flush<T, const ID: u64>(this: &Arc<T>) -> bool
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID>,
{
    // SAFETY: As in `cancel_sync`.
    unsafe { bindings::flush_work(raw_work::<T, ID>(this)) }
}

/// [`cancel_sync`] for a delayed work item: its timer is stopped as well.
pub fn cancel_delayed_sync<T, const ID: u64>(this: &Arc<T>) -> bool
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID>,
{
    // SAFETY: `raw_delayed_work` gives the initialised `delayed_work` of an object that `this`
    // keeps alive.
    let pending = unsafe { bindings::cancel_delayed_work_sync(raw_delayed_work::<T, ID>(this)) };
    if pending {
        // SAFETY: The item was pending, and was taken from its queue or its timer.
        unsafe { take_back::<T, ID>(this) };
    }
    pending
}

/// [`disable_sync`] for a delayed work item: its timer is stopped as well.
pub fn disable_delayed_sync<T, const ID: u64>(this: &Arc<T>) -> bool
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID>,
{
    // SAFETY: As in `cancel_delayed_sync`.
    let pending = unsafe { bindings::disable_delayed_work_sync(raw_delayed_work::<T, ID>(this)) };
    if pending {
        // SAFETY: The item was pending, and was taken from its queue or its timer.
        unsafe { take_back::<T, ID>(this) };
    }
    pending
}

/// Marker for [`DisableOnDrop`]: an ordinary work item.
pub struct Plain;

/// Marker for [`DisableOnDrop`]: a delayed work item.
pub struct Delayed;

/// Ends a work item.
pub trait Disable<T, const ID: u64> {
    /// [`disable_sync`] or [`disable_delayed_sync`].
    fn disable(this: &Arc<T>);
}

impl<T, const ID: u64> Disable<T, ID> for Plain
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID>,
{
    fn disable(this: &Arc<T>) {
        disable_sync::<T, ID>(this);
    }
}

impl<T, const ID: u64> Disable<T, ID> for Delayed
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID>,
{
    fn disable(this: &Arc<T>) {
        disable_delayed_sync::<T, ID>(this);
    }
}

/// A reference to an object whose work item `ID` ends when the guard is dropped.
///
/// From then on the item is not pending, does not run and cannot be enqueued any more. A field of
/// this type in a driver's private data ties the work to the binding of the device.
///
/// # Examples
///
/// ```ignore
/// struct Data {
///     tick: DisableOnDrop<Ticker, Delayed>,
/// }
/// ```
pub struct DisableOnDrop<T, K: Disable<T, ID>, const ID: u64 = 0> {
    this: Arc<T>,
    _kind: PhantomData<K>,
}

impl<T, K: Disable<T, ID>, const ID: u64> DisableOnDrop<T, K, ID> {
    /// Ties work item `ID` of `this` to the new guard.
    pub fn new(this: Arc<T>) -> Self {
        Self {
            this,
            _kind: PhantomData,
        }
    }
}

impl<T, K: Disable<T, ID>, const ID: u64> core::ops::Deref for DisableOnDrop<T, K, ID> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.this
    }
}

impl<T, K: Disable<T, ID>, const ID: u64> Drop for DisableOnDrop<T, K, ID> {
    fn drop(&mut self) {
        K::disable(&self.this);
    }
}
