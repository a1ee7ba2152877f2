// SPDX-License-Identifier: GPL-2.0

//! C functions that `kernel::bindings` does not have: those of `shim.h`, and two exports whose
//! headers it does not cover.

use kernel::{
    bindings::{dentry, page},
    ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void}, //
};

/// `enum hv_balloon_shim_event`; `shim.c` asserts the numbers.
pub(super) mod event {
    pub(in super::super) const GOING_ONLINE: u32 = 0;
    pub(in super::super) const ONLINE: u32 = 1;
    pub(in super::super) const CANCEL_ONLINE: u32 = 2;
    pub(in super::super) const OFFLINE: u32 = 3;
}

/// The name is C's, by which kCFI knows the callback's type.
#[allow(non_camel_case_types)]
#[repr(C)]
pub(super) struct hv_balloon_shim_free {
    pub(super) frame: u64,
    pub(super) count: u64,
}

/// `struct hv_balloon_shim_status`.
#[repr(C)]
pub(crate) struct ReportedStatus {
    pub(crate) available: u64,
    pub(crate) committed: u64,
    pub(crate) vm_memory_committed: u64,
    pub(crate) pages_ballooned: u64,
    pub(crate) pages_added: u64,
    pub(crate) pages_onlined: u64,
}

// The C compiler lays both out with the same numbers: `shim.c` asserts them too.
vmbus::mirrored! {
    hv_balloon_shim_free, 16;
    frame: 0, 8;
    count: 8, 8;
}

vmbus::mirrored! {
    ReportedStatus, 48;
    available: 0, 8;
    committed: 8, 8;
    vm_memory_committed: 16, 8;
    pages_ballooned: 24, 8;
    pages_added: 32, 8;
    pages_onlined: 40, 8;
}

/// `hv_balloon_shim_listen_fn`.
pub(super) type Listen =
    unsafe extern "C" fn(*const c_void, *const hv_balloon_shim_free, c_uint) -> c_int;

// `struct page` has a member of a type that is empty in this configuration, which C does not have;
// only pointers to it go over.
#[allow(improper_ctypes)]
extern "C" {
    pub(super) static hv_balloon_shim_report_delay: c_uint;
    pub(super) static hv_balloon_shim_hot_add: bool;
    pub(super) static hv_balloon_shim_never_below: c_uint;
    pub(super) static hv_balloon_shim_never_above: c_uint;

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

    pub(super) fn hv_balloon_shim_hot_add_built() -> bool;
    pub(super) fn hv_balloon_shim_end_frame() -> u64;
    pub(super) fn hv_balloon_shim_max_order() -> c_uint;
    pub(super) fn hv_balloon_shim_onlines_itself() -> bool;
    pub(super) fn hv_balloon_shim_watch(watcher: *const c_void) -> c_int;
    pub(super) fn hv_balloon_shim_unwatch();
    pub(super) fn hv_balloon_shim_add_block(pfn: c_ulong) -> c_int;
    pub(super) fn hv_balloon_shim_remove_block(pfn: c_ulong) -> c_int;
    pub(super) fn hv_balloon_shim_give(pfn: c_ulong, order: c_uint);
    pub(super) fn hv_balloon_shim_pin(pin: bool) -> bool;

    pub(super) fn hv_balloon_shim_reporting_possible() -> c_int;
    pub(super) fn hv_balloon_shim_listen(listener: *const c_void, listen: Listen) -> c_int;
    pub(super) fn hv_balloon_shim_unlisten();
    pub(super) fn hv_balloon_shim_reporting_order() -> c_uint;
    pub(super) fn hv_balloon_shim_report_large_only();
    pub(super) fn hv_balloon_shim_hint(words: *const u64, nr: c_uint) -> u16;

    pub(super) fn hv_balloon_shim_trace_status(status: *const ReportedStatus);
    pub(super) fn hv_balloon_shim_link(name: *const c_char, target: *const c_char) -> *mut dentry;
    pub(super) fn hv_balloon_shim_unlink(link: *mut dentry);

    pub(super) fn vm_memory_committed() -> c_ulong;
    pub(super) fn hv_is_hibernation_supported() -> bool;
}
