// SPDX-License-Identifier: GPL-2.0

//! Symbols of the C core and of `shim.c`, which the generated bindings lack.

use crate::bus::{RawDevice, RawDeviceId, RawDriver};
use kernel::{
    bindings,
    ffi::{c_char, c_int, c_uint, c_void},
};

#[path = "../ffi/memory.rs"]
mod memory;

pub(crate) use memory::*;

/// `struct vmbus_channel`, which is never looked into.
#[repr(C)]
pub(crate) struct VmbusChannel {
    _opaque: [u8; 0],
}

/// `guid_t`.
pub(crate) type RawGuid = [u8; 16];

pub(crate) type ProbeCallback = extern "C" fn(*mut RawDevice, *const RawDeviceId) -> c_int;
pub(crate) type RemoveCallback = extern "C" fn(*mut RawDevice);
pub(crate) type EventCallback = extern "C" fn(*mut c_void);
pub(crate) type MovedCallback = extern "C" fn(*mut VmbusChannel, u32, u32);
pub(crate) type OfferedCallback = extern "C" fn(*mut VmbusChannel);

// As for the other core.
#[allow(improper_ctypes)]
extern "C" {
    // vmbus/on_c/shim.c; the declarations there are in shim.h.
    pub(crate) fn vmbus_on_c_core_runs() -> bool;
    pub(crate) fn vmbus_on_c_version() -> u32;
    pub(crate) fn vmbus_on_c_wait_for_callbacks();
    pub(crate) fn vmbus_on_c_keep_module() -> bool;
    pub(crate) fn vmbus_on_c_register(
        drv: *mut RawDriver,
        name: *const c_char,
        owner: *mut bindings::module,
        ids: *const RawDeviceId,
        in_order: bool,
        probe: ProbeCallback,
        remove: RemoveCallback,
    ) -> c_int;
    pub(crate) fn vmbus_on_c_class(dev: *const RawDevice, guid: *mut RawGuid);
    pub(crate) fn vmbus_on_c_channel_of(dev: *const RawDevice) -> *mut VmbusChannel;
    pub(crate) fn vmbus_on_c_get(channel: *mut VmbusChannel);
    pub(crate) fn vmbus_on_c_put(channel: *mut VmbusChannel);
    pub(crate) fn vmbus_on_c_primary(channel: *const VmbusChannel) -> *mut VmbusChannel;
    pub(crate) fn vmbus_on_c_instance(channel: *const VmbusChannel, guid: *mut RawGuid);
    pub(crate) fn vmbus_on_c_relid(channel: *const VmbusChannel) -> u32;
    pub(crate) fn vmbus_on_c_index(channel: *const VmbusChannel) -> u16;
    pub(crate) fn vmbus_on_c_target_cpu(channel: *const VmbusChannel) -> u32;
    pub(crate) fn vmbus_on_c_node(channel: *const VmbusChannel) -> c_int;
    pub(crate) fn vmbus_on_c_rescinded(channel: *const VmbusChannel) -> bool;
    pub(crate) fn vmbus_on_c_signal(channel: *mut VmbusChannel);
    pub(crate) fn vmbus_on_c_signal_room(channel: *mut VmbusChannel);
    pub(crate) fn vmbus_on_c_count_full(channel: *mut VmbusChannel, first: bool);
    pub(crate) fn vmbus_on_c_alloc_ring(
        channel: *const VmbusChannel,
        bytes: u32,
        order: *mut c_uint,
    ) -> *mut bindings::page;
    pub(crate) fn vmbus_on_c_connect(
        channel: *mut VmbusChannel,
        ring: *mut bindings::page,
        pages: u32,
        send_pages: u32,
        event: EventCallback,
        context: *mut c_void,
        moved: MovedCallback,
        with_host: *mut bool,
    ) -> c_int;
    pub(crate) fn vmbus_on_c_silence(channel: *mut VmbusChannel);
    pub(crate) fn vmbus_on_c_close(channel: *mut VmbusChannel);
    pub(crate) fn vmbus_on_c_closed(channel: *mut VmbusChannel) -> bool;
    pub(crate) fn vmbus_on_c_establish(
        channel: *mut VmbusChannel,
        buffer: *mut c_void,
        size: u32,
        handle: *mut u32,
        with_host: *mut bool,
    ) -> c_int;
    pub(crate) fn vmbus_on_c_teardown(channel: *mut VmbusChannel, handle: u32) -> bool;

    // drivers/hv/vmbus_drv.c, drivers/hv/channel_mgmt.c
    pub(crate) fn vmbus_driver_unregister(drv: *mut RawDriver);
    pub(crate) fn vmbus_set_sc_create_callback(
        channel: *mut VmbusChannel,
        callback: Option<OfferedCallback>,
    );
}
