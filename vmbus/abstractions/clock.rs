// SPDX-License-Identifier: GPL-2.0

//! The time since the boot.

use kernel::{bindings, time::Delta};

/// How long ago the kernel was booted, without the time that it was suspended. Any context but NMI.
///
/// `kernel::time::Instant` tells how long ago another one was, but none can be made in a `static`.
pub fn since_boot() -> Delta {
    // SAFETY: No requirements.
    Delta::from_nanos(unsafe { bindings::ktime_get() })
}
