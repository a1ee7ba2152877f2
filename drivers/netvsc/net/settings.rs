// SPDX-License-Identifier: GPL-2.0

//! The stack's callbacks that change how a device is set up, or show it: all under RTNL.

use super::{
    device::Rtnl,
    ffi::{RawLimits, RawSections},
    ops::{driver, Driver, Operations},
};
use kernel::{
    error::from_result,
    ffi::{c_int, c_void},
    prelude::*,
    sync::ArcBorrow,
};
use netvsc_protocol::rss::KEY_LEN;

/// Runs `f` with the driver of a registered device, and the proof that RTNL is held.
///
/// # Safety
///
/// `data` is the data of a registered device, and the caller holds RTNL until this returns.
unsafe fn under_rtnl(
    data: *mut c_void,
    f: impl FnOnce(ArcBorrow<'_, Driver>, &Rtnl<'_>) -> Result,
) -> c_int {
    // SAFETY: By the requirements of this function.
    let driver = unsafe { driver(data) };
    // SAFETY: RTNL is held, and the device is registered: so its parent is bound.
    let rtnl = unsafe { driver.parent().rtnl() };

    from_result(|| f(driver, &rtnl).map(|()| 0))
}

/// # Safety
///
/// The shim calls this with the data of a registered device, under RTNL.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_recover(data: *mut c_void) -> c_int {
    // SAFETY: By the requirements of this function.
    unsafe { under_rtnl(data, Driver::recover) }
}

/// # Safety
///
/// The shim calls this with the data of a registered device, under RTNL.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_change_mtu(
    data: *mut c_void,
    mtu: u32,
    agreed: &mut u32,
) -> c_int {
    // SAFETY: By the requirements of this function.
    unsafe {
        under_rtnl(data, |driver, rtnl| {
            *agreed = Driver::change_mtu(driver, rtnl, mtu)?;
            Ok(())
        })
    }
}

/// # Safety
///
/// The shim calls this with the data of a registered device, under RTNL.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_channels(data: *mut c_void, to: &mut RawLimits) {
    // SAFETY: By the requirements of this function.
    let limits = unsafe { driver(data) }.channels();

    to.now = limits.now;
    to.most = limits.most;
}

/// # Safety
///
/// The shim calls this with the data of a registered device, under RTNL.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_set_channels(data: *mut c_void, channels: u32) -> c_int {
    // SAFETY: By the requirements of this function.
    unsafe {
        under_rtnl(data, |driver, rtnl| {
            Driver::set_channels(driver, rtnl, channels)
        })
    }
}

/// # Safety
///
/// The shim calls this with the data of a registered device, under RTNL.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_sections(data: *mut c_void, to: &mut RawSections) {
    // SAFETY: By the requirements of this function.
    let sections = unsafe { driver(data) }.sections();

    to.receive = sections.receive;
    to.receive_most = sections.receive_most;
    to.send = sections.send;
    to.send_most = sections.send_most;
}

/// # Safety
///
/// The shim calls this with the data of a registered device, under RTNL.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_set_sections(
    data: *mut c_void,
    receive: u32,
    send: u32,
) -> c_int {
    // SAFETY: By the requirements of this function.
    unsafe {
        under_rtnl(data, |driver, rtnl| {
            Driver::set_sections(driver, rtnl, receive, send)
        })
    }
}

/// # Safety
///
/// The shim calls this with the data of a registered device, under RTNL.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_table_len(data: *mut c_void) -> u32 {
    // SAFETY: By the requirements of this function.
    unsafe { driver(data) }.table_len()
}

/// # Safety
///
/// The shim calls this with the data of a registered device, under RTNL, with `len` entries at
/// `table` and a key.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_spread(
    data: *mut c_void,
    table: *mut u32,
    len: u32,
    key: &mut [u8; KEY_LEN],
) {
    // SAFETY: By the requirements of this function.
    let (driver, table) = unsafe {
        (
            driver(data),
            core::slice::from_raw_parts_mut(table, len as usize),
        )
    };

    driver.spread(table, key);
}

/// # Safety
///
/// The shim calls this with the data of a registered device, under RTNL, with `len` entries at
/// `table`, unless that is null, and a key, unless that is null.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_set_spread(
    data: *mut c_void,
    table: *const u32,
    len: u32,
    key: Option<&[u8; KEY_LEN]>,
) -> c_int {
    let table = match table.is_null() {
        true => None,
        // SAFETY: By the requirements of this function.
        false => Some(unsafe { core::slice::from_raw_parts(table, len as usize) }),
    };

    // SAFETY: By the requirements of this function.
    unsafe {
        under_rtnl(data, |driver, rtnl| {
            Driver::set_spread(driver, rtnl, table, key)
        })
    }
}
