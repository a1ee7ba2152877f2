// SPDX-License-Identifier: GPL-2.0

//! C functions that `kernel::bindings` does not have: those of `shim.h`, and two exports whose
//! headers it does not cover.

use kernel::{
    bindings::page,
    ffi::{c_long, c_uint, c_ulong}, //
};

// `struct page` has a member of a type that is empty in this configuration, which C does not have;
// only pointers to it go over.
#[allow(improper_ctypes)]
extern "C" {
    pub(super) static hv_balloon_shim_report_delay: c_uint;

    pub(super) fn hv_balloon_shim_alloc(order: c_uint) -> *mut page;
    pub(super) fn hv_balloon_shim_pfn(page: *const page) -> c_ulong;
    pub(super) fn hv_balloon_shim_page(pfn: c_ulong) -> *mut page;
    pub(super) fn hv_balloon_shim_set_offline(page: *mut page, nr: c_uint);
    pub(super) fn hv_balloon_shim_clear_offline(page: *mut page, nr: c_uint);
    pub(super) fn hv_balloon_shim_account(page: *mut page, nr: c_long);
    pub(super) fn hv_balloon_shim_same_zone(a: *const page, b: *const page) -> bool;
    pub(super) fn hv_balloon_shim_totalram() -> c_ulong;
    pub(super) fn hv_balloon_shim_block_bytes() -> c_ulong;
    pub(super) fn hv_balloon_shim_cond_resched();

    pub(super) fn vm_memory_committed() -> c_ulong;
    pub(super) fn hv_is_hibernation_supported() -> bool;
}
