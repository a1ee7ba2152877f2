// SPDX-License-Identifier: GPL-2.0

//! Device classes that an administrator gives to a driver at run time, through the driver's
//! `new_id` and `remove_id` files.

use super::{
    adapter::RawDriver,
    bus_type::{raw_driver, Static},
    sysfs::{attribute, group},
};
use core::ptr;
use kernel::{bindings, ffi::c_char, prelude::*, sync::global_lock};
use vmbus_protocol::Guid;

struct DynamicId {
    /// Address of the driver, only ever compared.
    driver: usize,
    class: Guid,
}

global_lock! {
    // SAFETY: Initialized by `init` before the bus, the only user, is registered.
    unsafe(uninit) static IDS: Mutex<KVec<DynamicId>> = KVec::new();
}

/// Makes the list usable.
///
/// # Safety
///
/// Must be called once, before the bus is registered.
pub(crate) unsafe fn init() {
    // SAFETY: By the requirements of this function.
    unsafe { IDS.init() };
}

/// Whether `class` was added to `driver`.
pub(super) fn contains(driver: *const RawDriver, class: &Guid) -> bool {
    IDS.lock()
        .iter()
        .any(|id| id.driver == driver.addr() && id.class == *class)
}

/// Drops all ids of a driver that goes away; frees the list with the last one.
pub(super) fn forget(driver: *const RawDriver) {
    let mut ids = IDS.lock();

    ids.retain(|id| id.driver != driver.addr());
    if ids.is_empty() {
        *ids = KVec::new();
    }
}

fn add(driver: *const RawDriver, class: Guid) -> Result {
    let mut ids = IDS.lock();
    let driver = driver.addr();

    if ids
        .iter()
        .any(|id| id.driver == driver && id.class == class)
    {
        return Err(EEXIST);
    }
    ids.push(DynamicId { driver, class }, GFP_KERNEL)?;
    Ok(())
}

fn remove(driver: *const RawDriver, class: &Guid) -> Result {
    let mut ids = IDS.lock();
    let before = ids.len();

    ids.retain(|id| id.driver != driver.addr() || id.class != *class);
    if ids.len() == before {
        return Err(ENODEV);
    }
    Ok(())
}

/// Parses what was written to one of the files: a GUID in its usual text form.
///
/// # Safety
///
/// `buf` must be valid for reads of `count` bytes.
unsafe fn parse(buf: *const c_char, count: usize) -> Result<Guid> {
    // SAFETY: By the requirements of this function.
    let text = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), count) };

    Guid::try_parse(text.trim_ascii()).ok_or(EINVAL)
}

fn reply(result: Result, count: usize) -> isize {
    match result {
        Ok(()) => isize::try_from(count).unwrap_or(isize::MAX),
        Err(e) => e.to_errno() as isize,
    }
}

extern "C" fn new_id_store(
    drv: *mut bindings::device_driver,
    buf: *const c_char,
    count: usize,
) -> isize {
    // SAFETY: sysfs passes a driver of this bus and a buffer of `count` bytes.
    let result = unsafe { parse(buf, count).and_then(|class| add(raw_driver(drv), class)) };

    reply(
        result.and_then(|()| {
            // Devices that found no driver so far may have one now.
            //
            // SAFETY: The driver is registered for as long as its file can be written.
            kernel::error::to_result(unsafe { bindings::driver_attach(drv) })
        }),
        count,
    )
}

extern "C" fn remove_id_store(
    drv: *mut bindings::device_driver,
    buf: *const c_char,
    count: usize,
) -> isize {
    // SAFETY: sysfs passes a driver of this bus and a buffer of `count` bytes.
    let result = unsafe { parse(buf, count).and_then(|class| remove(raw_driver(drv), &class)) };

    reply(result, count)
}

const fn write_only(
    name: &'static CStr,
    store: unsafe extern "C" fn(*mut bindings::device_driver, *const c_char, usize) -> isize,
) -> Static<bindings::driver_attribute> {
    Static(bindings::driver_attribute {
        attr: attribute(name, 0o200),
        show: None,
        store: Some(store),
    })
}

static NEW_ID: Static<bindings::driver_attribute> = write_only(c"new_id", new_id_store);
static REMOVE_ID: Static<bindings::driver_attribute> = write_only(c"remove_id", remove_id_store);

static ATTRIBUTES: Static<[*mut bindings::attribute; 3]> = Static([
    NEW_ID.as_ptr().cast(),
    REMOVE_ID.as_ptr().cast(),
    ptr::null_mut(),
]);

static GROUP: Static<bindings::attribute_group> = group(None, ATTRIBUTES.as_ptr().cast());

/// The attribute groups of every driver on the bus.
pub(super) static DRIVER_GROUPS: Static<[*const bindings::attribute_group; 2]> =
    Static([GROUP.as_ptr(), ptr::null()]);
