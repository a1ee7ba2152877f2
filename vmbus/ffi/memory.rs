// SPDX-License-Identifier: GPL-2.0

//! The same for memory and CPUs, with both cores.

use kernel::{
    bindings,
    ffi::{c_int, c_uint, c_void},
};

// As in the other file.
#[allow(improper_ctypes)]
extern "C" {
    // vmbus/shim_memory.c; the declarations there are in shim_memory.h.
    pub(crate) fn vmbus_shim_cpu_online(cpu: u32) -> bool;
    pub(crate) fn vmbus_shim_cpu_housekeeping(cpu: u32) -> bool;
    pub(crate) fn vmbus_shim_virt_to_phys(addr: *const c_void) -> bindings::phys_addr_t;
    pub(crate) fn vmbus_shim_alloc_block(node: c_int, order: c_uint) -> *mut bindings::page;
    pub(crate) fn vmbus_shim_page_to_pfn(page: *const bindings::page) -> u64;
    pub(crate) fn vmbus_shim_noio_save() -> c_uint;
    pub(crate) fn vmbus_shim_noio_restore(flags: c_uint);
    pub(crate) fn vmbus_shim_reclaim_begin();
    pub(crate) fn vmbus_shim_reclaim_end();
    pub(crate) fn vmbus_shim_vmap(pages: *mut *mut bindings::page, count: c_uint) -> *mut c_void;

    // mm/vmalloc.c
    pub(crate) fn vunmap(addr: *const c_void);
}
