// SPDX-License-Identifier: GPL-2.0

//! Completions with the operations that `kernel::sync::Completion` lacks: in 7.3 that has
//! `complete_all` and a wait without a bound, and nothing here may wait for the host without one.
//!
//! Reference: <https://docs.kernel.org/scheduler/completion.html>
//!
//! C header: [`include/linux/completion.h`](srctree/include/linux/completion.h)

use kernel::{
    bindings,
    prelude::*,
    time::{msecs_to_jiffies, Msecs},
    types::Opaque, //
};

/// Lets tasks wait, for a bounded time, until somebody signals.
///
/// Wraps the kernel's C `struct completion`. It counts: each [`complete`](Self::complete) lets one
/// waiter pass, also one that comes later; after [`complete_all`](Self::complete_all) every waiter
/// passes until the completion is started again.
///
/// There is deliberately no wait without a bound: what the VMBus modules wait for is an answer of
/// the host, and the host may never give it.
///
/// # Examples
///
/// ```ignore
/// let done = KBox::pin_init(Completion::new(), GFP_KERNEL)?;
///
/// // Some other task calls `done.complete()`.
/// if !done.wait_timeout(5_000) {
///     return Err(ETIMEDOUT);
/// }
/// ```
#[pin_data]
pub struct Completion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: A `struct completion` is not bound to a task and may be used from any of them.
unsafe impl Send for Completion {}

// SAFETY: Every operation that takes `&Completion` is serialised by the lock of the C structure.
unsafe impl Sync for Completion {}

impl Completion {
    /// Returns an initialiser for a completion that nobody has signalled.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot: *mut bindings::completion| {
                // SAFETY: `slot` points at memory for a `struct completion` that is not in use.
                unsafe { bindings::init_completion(slot) };
            }),
        })
    }

    #[inline]
    fn as_raw(&self) -> *mut bindings::completion {
        self.inner.get()
    }

    /// Lets one waiter pass, now or later. Can be called from any context except NMI.
    #[inline]
    pub fn complete(&self) {
        // SAFETY: By the type's construction, `as_raw()` points at an initialised completion,
        // which lives at least as long as `&self`.
        unsafe { bindings::complete(self.as_raw()) };
    }

    /// Lets every present and future waiter pass. Can be called from any context except NMI.
    #[inline]
    pub fn complete_all(&self) {
        // SAFETY: As in `complete`.
        unsafe { bindings::complete_all(self.as_raw()) };
    }

    /// Waits at most `ms` milliseconds and returns whether the completion was signalled.
    ///
    /// The wait is not interruptible. Must be called from a context that may sleep.
    #[inline]
    pub fn wait_timeout(&self, ms: Msecs) -> bool {
        // SAFETY: As in `complete`.
        unsafe { bindings::wait_for_completion_timeout(self.as_raw(), msecs_to_jiffies(ms)) != 0 }
    }

    /// Takes one signal without waiting and returns whether there was one.
    #[inline]
    pub fn try_wait(&self) -> bool {
        // SAFETY: As in `complete`.
        unsafe { bindings::try_wait_for_completion(self.as_raw()) }
    }

    /// Returns whether the next waiter would pass without sleeping. Takes nothing.
    #[inline]
    pub fn is_done(&self) -> bool {
        // SAFETY: As in `complete`.
        unsafe { bindings::completion_done(self.as_raw()) }
    }

    /// Starts the completion again: what was signalled before no longer counts.
    #[inline]
    pub fn reset(self: Pin<&mut Self>) {
        // SAFETY: The exclusive reference excludes waiters and signallers.
        unsafe { self.reinit() };
    }

    /// As [`reset`](Self::reset), for a completion that is already shared.
    ///
    /// # Safety
    ///
    /// Nobody may wait for the completion or signal it during the call.
    #[inline]
    pub unsafe fn reinit(&self) {
        // SAFETY: `as_raw()` points at an initialised completion. The caller promises that no one
        // else accesses it now, so that the store does not race with the C code, which holds
        // `wait.lock` here.
        unsafe { (&raw mut (*self.as_raw()).done).write(0) };
    }
}

#[kunit_tests(vmbus_completion)]
mod tests {
    use super::*;
    use crate::abstractions::workqueue;
    use kernel::{
        impl_has_work, new_work,
        sync::Arc,
        workqueue::{Work, WorkItem},
    };

    #[test]
    fn signals_are_counted() -> Result {
        let done = KBox::pin_init(Completion::new(), GFP_KERNEL)?;

        assert!(!done.is_done());
        assert!(!done.try_wait());
        assert!(!done.wait_timeout(1));
        done.complete();
        done.complete();
        assert!(done.is_done());
        assert!(done.try_wait());
        assert!(done.wait_timeout(1));
        assert!(!done.try_wait());
        Ok(())
    }

    #[test]
    fn all_pass_until_it_starts_again() -> Result {
        let mut done = KBox::pin_init(Completion::new(), GFP_KERNEL)?;

        done.complete_all();
        assert!(done.wait_timeout(1));
        assert!(done.try_wait());
        assert!(done.is_done());
        done.as_mut().reset();
        assert!(!done.is_done());
        Ok(())
    }

    #[pin_data]
    struct Signal {
        #[pin]
        done: Completion,
        #[pin]
        work: Work<Signal>,
    }

    impl_has_work! {
        impl HasWork<Self> for Signal { self.work }
    }

    impl WorkItem for Signal {
        type Pointer = Arc<Signal>;

        fn run(this: Arc<Signal>) {
            this.done.complete();
        }
    }

    #[test]
    fn a_waiter_is_woken() -> Result {
        let signal = Arc::pin_init(
            pin_init!(Signal {
                done <- Completion::new(),
                work <- new_work!("vmbus_kunit"),
            }),
            GFP_KERNEL,
        )?;

        assert!(workqueue::system_dfl().enqueue(signal.clone()).is_ok());
        assert!(signal.done.wait_timeout(10_000));
        workqueue::disable_sync::<Signal, 0>(&signal);
        Ok(())
    }
}
