// SPDX-License-Identifier: GPL-2.0

//! Symbols of the kernel and of `shim.c` that the generated bindings lack.

use kernel::{
    bindings,
    ffi::{c_int, c_uint, c_void},
};

mod memory;

pub(crate) use memory::*;

// The generated types have lock debugging fields without members in some configurations; they are
// passed by pointer only, as in the generated bindings themselves.
#[allow(improper_ctypes)]
extern "C" {
    // vmbus/shim.c; the declarations there are in shim.h.
    pub(crate) fn vmbus_shim_max_version() -> u32;
    pub(crate) fn vmbus_shim_post_message(input: *const c_void, len: u32) -> u64;
    pub(crate) fn vmbus_shim_signal_event(connection: u32) -> u64;
    pub(crate) fn vmbus_shim_setup_interrupt(handler: extern "C" fn()) -> c_int;
    pub(crate) fn vmbus_shim_remove_interrupt();
    pub(crate) fn vmbus_shim_hardirq_threaded();
    pub(crate) fn vmbus_shim_callback_vector() -> u32;
    pub(crate) fn vmbus_shim_auto_eoi() -> bool;
    pub(crate) fn vmbus_shim_c_core_active() -> bool;
    pub(crate) fn vmbus_shim_is_root_partition() -> bool;
    pub(crate) fn vmbus_shim_vp_number(cpu: u32) -> u32;
    pub(crate) fn vmbus_shim_cpu_present(cpu: u32) -> bool;
    pub(crate) fn vmbus_shim_cpu_to_node(cpu: u32) -> c_int;
    pub(crate) fn vmbus_shim_acpi_companion(dev: *mut bindings::device) -> *mut bindings::device;
    pub(crate) fn vmbus_shim_driver_override(
        dev: *mut bindings::device,
        drv: *const bindings::device_driver,
    ) -> c_int;

    // arch/x86/kernel/cpu/mshyperv.c, drivers/hv/hv_common.c
    pub(crate) fn hv_is_hyperv_initialized() -> bool;
    pub(crate) fn hv_is_isolation_supported() -> bool;
    pub(crate) fn hv_get_msr(reg: c_uint) -> u64;
    pub(crate) fn hv_set_msr(reg: c_uint, value: u64);
    pub(crate) fn hv_setup_kexec_handler(handler: extern "C" fn());
    pub(crate) fn hv_remove_kexec_handler();
    pub(crate) fn hv_setup_crash_handler(handler: extern "C" fn(*mut bindings::pt_regs));
    pub(crate) fn hv_remove_crash_handler();
    pub(crate) fn hv_is_hibernation_supported() -> bool;
    pub(crate) fn hv_setup_dma_ops(dev: *mut bindings::device, coherent: bool);
    pub(crate) fn hv_stimer_cleanup(cpu: c_uint) -> c_int;
}
