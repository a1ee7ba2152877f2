// SPDX-License-Identifier: GPL-2.0

//! The C core as a whole. One of the rooms where `unsafe` lives.

use crate::ffi;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
    time::{delay::fsleep, Delta},
};

/// How often the end looks whether the C core is still in a callback.
const LOOK_EVERY_MS: i64 = 10;

/// Calls of the C core that are under way, but for those in the interrupt.
static CALLS: Atomic<u32> = Atomic::new(0);

/// Whether it has found a host that we can work with.
pub(crate) fn runs() -> bool {
    // SAFETY: No requirements; looks at what was found out at boot.
    unsafe { ffi::vmbus_on_c_core_runs() }
}

/// A call of the C core that may sleep. To be made before it does, and dropped after.
pub(crate) struct Call(());

impl Call {
    pub(crate) fn begin() -> Self {
        let _ = CALLS.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let _ = CALLS.fetch_sub(1, Release);
    }
}

/// The C core may call back: the end of this waits until it does not any more. For when all drivers
/// are gone, and so the callbacks are out of all channels.
pub(crate) struct Callbacks(());

impl Callbacks {
    /// It may from now on.
    pub(crate) fn new() -> Self {
        // SAFETY: Called while the module is being initialized.
        if unsafe { ffi::vmbus_on_c_keep_module() } {
            pr_info!("this kernel has no CONFIG_TASKS_RCU: the module cannot be unloaded\n");
        }
        Self(())
    }
}

impl Drop for Callbacks {
    fn drop(&mut self) {
        let wait = || {
            // SAFETY: Process context; whoever has this waits here when its module goes.
            unsafe { ffi::vmbus_on_c_wait_for_callbacks() };
        };

        // Who has read the address of a callback is in it, and counted, or has been there.
        wait();
        // A driver that is called there may wait for the host, for which the C core has no bound.
        while CALLS.load(Acquire) != 0 {
            fsleep(Delta::from_millis(LOOK_EVERY_MS));
        }
        // Who is not counted any more has returned.
        wait();
    }
}
