// SPDX-License-Identifier: GPL-2.0

//! Callbacks that the built-in Hyper-V code makes into the core: the hypervisor's interrupt,
//! kexec and crash.

use crate::ffi;
use kernel::{bindings, error::to_result, prelude::*};

/// Registration of the function that runs for every callback interrupt: with interrupts off, or,
/// with PREEMPT_RT, in a thread of the CPU that was interrupted, with bottom halves off.
///
/// The vector and its entry belong to the kernel (`sysvec_hyperv_callback`).
pub(crate) struct InterruptHandler(());

impl InterruptHandler {
    /// Registers `handler`. The caller makes sure that there is one registration at a time.
    ///
    /// Process context; waits until the threads run.
    pub(crate) fn register(handler: extern "C" fn()) -> Result<Self> {
        // SAFETY: `handler` is code of this module; `drop` takes it back and waits for the last
        // run of it.
        to_result(unsafe { ffi::vmbus_shim_setup_interrupt(handler) })?;
        Ok(Self(()))
    }
}

impl Drop for InterruptHandler {
    fn drop(&mut self) {
        // SAFETY: A value is a registration, and it ends here, in process context.
        unsafe { ffi::vmbus_shim_remove_interrupt() };
    }
}

/// Tells lockdep that this interrupt takes locks that sleep with PREEMPT_RT, where it does not take
/// them. Hard interrupt context only; as `vmbus_isr` of `drivers/hv/vmbus_drv.c`.
#[inline]
pub(crate) fn allow_locks_in_interrupt() {
    if cfg!(all(CONFIG_TRACE_IRQFLAGS, not(CONFIG_PREEMPT_RT))) {
        // SAFETY: Sets a mark of the current task that the next interrupt clears.
        unsafe { ffi::vmbus_shim_hardirq_threaded() };
    }
}

/// Registration of what runs on kexec and on a crash that boots a crash kernel.
pub(crate) struct ShutdownHandlers(());

impl ShutdownHandlers {
    /// Registers both functions.
    pub(crate) fn register(
        kexec: extern "C" fn(),
        crash: extern "C" fn(*mut bindings::pt_regs),
    ) -> Self {
        // SAFETY: Both are code of this module; `drop` takes them back.
        unsafe {
            ffi::hv_setup_kexec_handler(kexec);
            ffi::hv_setup_crash_handler(crash);
        }
        Self(())
    }
}

impl Drop for ShutdownHandlers {
    fn drop(&mut self) {
        // SAFETY: No requirements.
        unsafe {
            ffi::hv_remove_kexec_handler();
            ffi::hv_remove_crash_handler();
        }
    }
}

/// Stops the synthetic timers of the running CPU before another kernel takes it over.
pub(crate) fn stop_timer_of_this_cpu() {
    // SAFETY: Acts on the given CPU's registers and clock event device; called on that CPU.
    unsafe { ffi::hv_stimer_cleanup(kernel::cpu::CpuId::current().as_u32()) };
}
