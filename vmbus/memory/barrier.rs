// SPDX-License-Identifier: GPL-2.0

//! Ordering towards the host.
//!
//! The other side is another machine, so these barriers must stay real on a kernel built for one
//! CPU: the counterparts of the C core's `virt_*` macros, not of `smp_*`. They are inline; a
//! call into a C helper for every ring access would cost more than the access. Those of
//! `kernel::sync::barrier` in 7.3 are such calls, and its `smp_*` forms vanish on one CPU.

use core::sync::atomic::{compiler_fence, Ordering};

/// Orders all loads and stores before it against all after it.
#[inline(always)]
pub(crate) fn full() {
    #[cfg(CONFIG_X86_64)]
    // SAFETY: A locked read-modify-write that adds zero to the word below the stack pointer; the
    // kernel has no red zone, so nothing lives there, and the value does not change.
    unsafe {
        core::arch::asm!("lock add dword ptr [rsp - 4], 0", options(nostack))
    };
    #[cfg(not(CONFIG_X86_64))]
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// A single load that later accesses are not moved before.
///
/// # Safety
///
/// `ptr` must be valid for reads and aligned.
#[inline(always)]
pub(super) unsafe fn load_acquire(ptr: *const u32) -> u32 {
    // SAFETY: As required of the caller.
    let value = unsafe { ptr.read_volatile() };

    // x86 does not reorder a load with a later access; only the compiler has to be told.
    #[cfg(CONFIG_X86_64)]
    compiler_fence(Ordering::Acquire);
    #[cfg(not(CONFIG_X86_64))]
    core::sync::atomic::fence(Ordering::Acquire);
    value
}

/// A single store that earlier accesses are not moved after.
///
/// # Safety
///
/// `ptr` must be valid for writes and aligned.
#[inline(always)]
pub(super) unsafe fn store_release(ptr: *mut u32, value: u32) {
    // x86 does not reorder a store with an earlier access; only the compiler has to be told.
    #[cfg(CONFIG_X86_64)]
    compiler_fence(Ordering::Release);
    #[cfg(not(CONFIG_X86_64))]
    core::sync::atomic::fence(Ordering::Release);
    // SAFETY: As required of the caller.
    unsafe { ptr.write_volatile(value) };
}
