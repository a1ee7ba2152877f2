// SPDX-License-Identifier: GPL-2.0

//! Polling: the softirq that takes what the host has sent.

use super::{device::NetDevice, ffi, rx::RxFrame, tx::SkBuff};
use core::{cell::UnsafeCell, marker::PhantomData, ptr::NonNull};
use kernel::{
    ffi::{c_int, c_void},
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        Arc, Mutex,
    },
};

/// Somebody who takes what the host has sent.
pub(crate) trait Poll: Send + 'static {
    /// Takes up to [`PollContext::budget`] frames. Softirq context; one call at a time.
    fn poll(&mut self, context: PollContext<'_>) -> Polled;

    /// Takes back frames that the host is done with, and receives nothing: for netpoll, which sends
    /// with interrupts off and makes room for that. Any context but NMI; one call at a time, of
    /// this or [`Self::poll`].
    fn reclaim(&mut self, context: &PollContext<'_>);
}

/// What a poll left.
pub(crate) enum Polled {
    /// Nothing, or so it was: whoever sends more schedules the poll again. So many frames were
    /// taken.
    Idle(u32),
    /// More, for another poll.
    More,
}

/// Who is polled.
pub(super) type Poller = crate::poll::Poller;

/// What one at a time works with, who does not wait for it: a poll may be interrupted by netpoll,
/// on the same CPU too, and netpoll's lock is no help to a poll that began before netpoll was set
/// up.
///
/// # Invariants
///
/// `value` is accessed by whoever has turned `taken` from false to true, until that is false again.
struct OneAtATime<T> {
    taken: Atomic<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: By the type invariant one thread at a time accesses the value, and that is `Send`.
unsafe impl<T: Send> Sync for OneAtATime<T> {}

impl<T> OneAtATime<T> {
    fn new(value: T) -> Self {
        Self {
            taken: Atomic::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Works with it; `None` if somebody else does. Any context.
    #[inline]
    fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.taken.xchg(true, Acquire) {
            return None;
        }
        // SAFETY: By the type invariant it is ours.
        let result = f(unsafe { &mut *self.value.get() });

        // INVARIANT: The reference is gone.
        self.taken.store(false, Release);
        Some(result)
    }
}

/// A NAPI of a device, and what it works with.
///
/// # Invariants
///
/// `ptr` is a NAPI of the shim for `netdev`, whose data is the address of `poller`. It is enabled
/// if and only if the value in `enabled` is true.
#[pin_data(PinnedDrop)]
pub(crate) struct Napi {
    ptr: NonNull<ffi::napi_struct>,
    netdev: Arc<NetDevice>,
    poller: KBox<OneAtATime<Poller>>,
    #[pin]
    enabled: Mutex<bool>,
}

// SAFETY: A NAPI is not bound to a thread, nor is the poller.
unsafe impl Send for Napi {}
// SAFETY: What is called with it may be called by several threads.
unsafe impl Sync for Napi {}

impl Napi {
    /// A NAPI of the device for queue `index`, disabled, with memory for received frames. May
    /// sleep.
    pub(crate) fn new(netdev: &Arc<NetDevice>, index: u32, poller: Poller) -> Result<Arc<Self>> {
        let poller = KBox::new(OneAtATime::new(poller), GFP_KERNEL)?;
        let data: *mut c_void = core::ptr::from_ref(&*poller).cast_mut().cast();
        // SAFETY: The device is valid. The NAPI is deleted before the poller is freed.
        let napi = unsafe { ffi::hv_netvsc_shim_napi_add(netdev.as_ptr(), index, data) };
        let ptr = NonNull::new(napi).ok_or(ENOMEM)?;
        let netdev = netdev.clone();

        // INVARIANT: It is new, and disabled.
        let result = Arc::pin_init(
            try_pin_init!(Self {
                ptr,
                netdev,
                poller,
                enabled <- new_mutex!(false),
            }),
            GFP_KERNEL,
        );

        if result.is_err() {
            // SAFETY: It is ours and disabled; nobody else knows it. Its memory is accessed by this
            // call only: the poller that it points at is not.
            unsafe { ffi::hv_netvsc_shim_napi_del(napi) };
        }
        result
    }

    /// Lets it be scheduled. May sleep.
    pub(crate) fn enable(&self) {
        let mut enabled = self.enabled.lock();

        if !*enabled {
            // SAFETY: It is valid and disabled.
            unsafe { ffi::napi_enable(self.ptr.as_ptr()) };
            *enabled = true;
        }
    }

    /// Waits for the poll to end, and keeps it from being scheduled. May sleep.
    pub(crate) fn disable(&self) {
        let mut enabled = self.enabled.lock();

        if *enabled {
            // SAFETY: It is valid and enabled.
            unsafe { ffi::napi_disable(self.ptr.as_ptr()) };
            *enabled = false;
        }
    }

    /// Works with what the poll works with, while it is disabled; `None` if it is not. May sleep.
    pub(crate) fn with_disabled<R>(&self, f: impl FnOnce(&mut Poller) -> R) -> Option<R> {
        let enabled = self.enabled.lock();

        if *enabled {
            return None;
        }
        // No poll runs, and nobody else is here.
        self.poller.try_with(f)
    }

    /// Has it polled now, on this CPU. Process context. Without effect while it is disabled.
    pub(crate) fn kick(&self) {
        // SAFETY: It is valid.
        unsafe { ffi::hv_netvsc_shim_napi_kick(self.ptr.as_ptr()) };
    }

    /// Has it polled soon, on this CPU. Interrupt or softirq. Without effect while it is disabled.
    #[inline]
    pub(crate) fn schedule(&self) {
        // SAFETY: It is valid.
        unsafe { ffi::hv_netvsc_shim_napi_schedule(self.ptr.as_ptr()) };
    }
}

#[pinned_drop]
impl PinnedDrop for Napi {
    fn drop(self: Pin<&mut Self>) {
        self.disable();
        // SAFETY: It is ours and disabled. The poller is freed afterwards, the device too.
        unsafe { ffi::hv_netvsc_shim_napi_del(self.ptr.as_ptr()) };
        let _ = &self.netdev;
    }
}

/// The poll that runs now.
///
/// # Invariants
///
/// `napi` is being polled during `'a` by this thread.
pub(crate) struct PollContext<'a> {
    napi: NonNull<ffi::napi_struct>,
    budget: u32,
    _poll: PhantomData<(&'a (), *mut ())>,
}

impl PollContext<'_> {
    /// Most frames to take.
    #[inline]
    pub(crate) fn budget(&self) -> u32 {
        self.budget
    }

    /// Memory for a frame of `len` bytes.
    #[inline]
    pub(crate) fn begin(&mut self, len: u32) -> Option<RxFrame<'_>> {
        // SAFETY: By the type invariant the NAPI is being polled. Another frame would borrow
        // `self`.
        unsafe { RxFrame::new(self.napi, len) }
    }

    /// Frees a frame that was sent.
    #[inline]
    pub(crate) fn consume(&self, skb: SkBuff) {
        // SAFETY: The frame is ours; the call takes it. The budget is that of this poll.
        unsafe { ffi::hv_netvsc_shim_consume(skb.into_raw(), self.budget as c_int) };
    }

    /// So many frames and bytes that were sent on a queue are done: the queue of this poll. False,
    /// and nothing happens, when fewer were sent.
    #[inline]
    pub(crate) fn completed(
        &self,
        netdev: &NetDevice,
        queue: u32,
        packets: u32,
        bytes: u32,
    ) -> bool {
        netdev.completed(queue, packets, bytes)
    }
}

/// Returns how many frames were taken, or `budget` when there is more to do.
///
/// # Safety
///
/// The shim calls this with the data of a NAPI of ours that is being polled, and with its budget.
/// Unless that is 0, it ends the poll afterwards.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_poll(
    data: *mut c_void,
    napi: NonNull<ffi::napi_struct>,
    budget: c_int,
) -> c_int {
    // SAFETY: By the requirements of this function, and the invariants of `Napi`.
    let poller = unsafe { &*data.cast_const().cast::<OneAtATime<Poller>>() };
    // INVARIANT: By the requirements of this function.
    let context = PollContext {
        napi,
        budget: u32::try_from(budget).unwrap_or(0),
        _poll: PhantomData,
    };

    if budget == 0 {
        // Netpoll is content with what a poll does that runs already.
        let _ = poller.try_with(|poller| poller.reclaim(&context));
        return 0;
    }
    match poller.try_with(|poller| poller.poll(context)) {
        Some(Polled::Idle(work)) => c_int::try_from(work).unwrap_or(budget),
        // Or netpoll is at it, which takes nothing but sent frames.
        Some(Polled::More) | None => budget,
    }
}
