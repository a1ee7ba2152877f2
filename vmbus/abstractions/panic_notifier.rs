// SPDX-License-Identifier: GPL-2.0

//! Calls on panic.
//!
//! C headers: [`include/linux/notifier.h`](srctree/include/linux/notifier.h),
//! [`include/linux/panic_notifier.h`](srctree/include/linux/panic_notifier.h)

use kernel::{
    bindings,
    error::to_result,
    ffi::{c_int, c_ulong, c_void},
    prelude::*,
    types::Opaque, //
};

extern "C" {
    /// The chain that `panic()` walks. Its header is not among those that `bindings` covers.
    static mut panic_notifier_list: bindings::atomic_notifier_head;
}

/// `NOTIFY_DONE`: not interested in how the chain goes on.
const NOTIFY_DONE: c_int = 0;

#[repr(C)]
struct Block {
    /// The first field, so that a pointer to it is a pointer to the whole.
    nb: bindings::notifier_block,
    callback: fn(),
}

/// Registration of a function that is called when the kernel panics.
///
/// The function runs with interrupts disabled, possibly in NMI context, while the other CPUs may
/// be stopped at any instruction. It must not sleep, allocate, wait for a lock (a stopped CPU may
/// hold it) or panic itself, and it gets no argument: what it needs is in statics that are valid
/// as long as the registration lives.
///
/// Dropping the guard takes the function out of the chain and waits until no call of it runs.
///
/// # Invariants
///
/// `block` is on `panic_notifier_list`, and is not written while it is there.
///
/// # Examples
///
/// ```ignore
/// fn at_panic() {
///     // Tell the host, without locks and allocations.
/// }
///
/// let guard = KBox::try_pin_init(PanicNotifier::new(at_panic, 0), GFP_KERNEL)?;
/// ```
#[pin_data(PinnedDrop)]
pub struct PanicNotifier {
    #[pin]
    block: Opaque<Block>,
}

// SAFETY: Taking a block out of the chain is allowed from any task, and the callback is a plain
// function.
unsafe impl Send for PanicNotifier {}

// SAFETY: Nothing can be done with a `&PanicNotifier`.
unsafe impl Sync for PanicNotifier {}

impl PanicNotifier {
    /// Registers `callback`. Callbacks of a higher `priority` are called earlier.
    ///
    /// Fails with `EEXIST` if the same guard is registered already, which cannot happen from safe
    /// code.
    pub fn new(callback: fn(), priority: i32) -> impl PinInit<Self, Error> {
        // INVARIANT: `try_ffi_init` gives an object only if registering succeeded; `block` is
        // private and no method writes it.
        try_pin_init!(Self {
            block <- Opaque::try_ffi_init(|slot: *mut Block| {
                // SAFETY: `slot` points at memory for a `Block` that is not in use.
                unsafe {
                    slot.write(Block {
                        nb: bindings::notifier_block {
                            notifier_call: Some(Self::call),
                            next: core::ptr::null_mut(),
                            priority,
                        },
                        callback,
                    })
                };

                // SAFETY: `panic_notifier_list` is a statically initialised chain of the kernel.
                // The block was just initialised; it stays where it is until it is dropped because
                // the guard is pinned, and `drop` takes it out of the chain.
                to_result(unsafe {
                    bindings::atomic_notifier_chain_register(
                        &raw mut panic_notifier_list,
                        &raw mut (*slot).nb,
                    )
                })
            }),
        }? Error)
    }

    /// # Safety
    ///
    /// Only to be called by the notifier chain, for the `nb` field of a registered [`Block`].
    unsafe extern "C" fn call(
        nb: *mut bindings::notifier_block,
        _action: c_ulong,
        _data: *mut c_void,
    ) -> c_int {
        // SAFETY: The caller passes the `nb` of a registered `Block`, whose first field it is.
        // By the type invariant the block is initialised and not written; the chain holds the RCU
        // read lock, for whose end `drop` waits before the memory is freed.
        let callback = unsafe { (*nb.cast::<Block>()).callback };

        callback();
        NOTIFY_DONE
    }
}

#[pinned_drop]
impl PinnedDrop for PanicNotifier {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant the block is on the chain. The call takes it out under the
        // lock of the chain and waits for an RCU grace period, so that no call runs when it
        // returns. Its only error says that the block is not there, which leaves nothing to do.
        unsafe {
            bindings::atomic_notifier_chain_unregister(
                &raw mut panic_notifier_list,
                &raw mut (*self.block.get()).nb,
            )
        };
    }
}
