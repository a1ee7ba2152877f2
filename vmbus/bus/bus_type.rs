// SPDX-License-Identifier: GPL-2.0

//! `struct bus_type` of the VMBus: matching, probing, removal and uevents.

use super::{
    adapter::RawDriver, attach, attributes, device::RawDevice, driver::RawDeviceId, dynamic_ids,
};
use crate::{abstractions::Shown, channel, ffi};
use core::{mem::MaybeUninit, ptr};
use kernel::{
    bindings, container_of,
    error::to_result,
    ffi::{c_int, c_ulong, c_void},
    prelude::*,
    str::{as_char_ptr_in_const_context, CString},
    types::Opaque,
};
use vmbus_protocol::Guid;

/// A static of a C type that holds pointers to other statics.
#[repr(transparent)]
pub(super) struct Static<T>(pub(super) T);

// SAFETY: Only constructed for statics that nobody writes, whose pointers lead to other statics.
unsafe impl<T> Sync for Static<T> {}

impl<T> Static<T> {
    /// The address that C functions want; they take `const` data as `*mut` in places.
    pub(super) const fn as_ptr(&'static self) -> *mut T {
        ptr::from_ref(&self.0).cast_mut()
    }
}

/// The bus. `bus_register()` keeps its own state elsewhere and only reads this.
static BUS: Static<bindings::bus_type> = Static(bindings::bus_type {
    name: as_char_ptr_in_const_context(c"vmbus"),
    match_: Some(match_callback),
    uevent: Some(uevent_callback),
    probe: Some(probe_callback),
    remove: Some(remove_callback),
    bus_groups: attributes::BUS_GROUPS.as_ptr().cast(),
    dev_groups: attributes::DEVICE_GROUPS.as_ptr().cast(),
    drv_groups: dynamic_ids::DRIVER_GROUPS.as_ptr().cast(),
    driver_override: true,
    // SAFETY: All other fields are pointers, options of function pointers and integers, for which
    // zero means "not there".
    ..unsafe { MaybeUninit::<bindings::bus_type>::zeroed().assume_init() }
});

/// The bus, for devices and drivers that are registered on it.
pub(super) fn bus() -> *const bindings::bus_type {
    BUS.as_ptr()
}

/// Registration of the bus, undone on drop.
///
/// Devices and drivers must be gone by then; drivers are, because their modules depend on this
/// one.
pub(crate) struct BusRegistration(());

impl BusRegistration {
    /// Registers the bus. `EEXIST` when a bus of that name, the C core's, is there already.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: `BUS` is valid for ever; its callbacks accept what the driver core passes.
        to_result(unsafe { bindings::bus_register(bus()) })?;
        // From here on dropping it undoes whatever was done.
        let this = Self(());

        // SAFETY: The bus is registered, and the block is there for ever.
        to_result(unsafe { bindings::bus_register_notifier(bus(), NOTIFIER.0.get()) })?;
        Ok(this)
    }
}

impl Drop for BusRegistration {
    fn drop(&mut self) {
        // SAFETY: The bus was registered by `new`; a block that is not in its list is ignored.
        unsafe {
            bindings::bus_unregister_notifier(bus(), NOTIFIER.0.get());
            bindings::bus_unregister(bus());
        };
    }
}

/// Tells when a driver is done with a device.
struct Notifier(Opaque<bindings::notifier_block>);

// SAFETY: Only the bus writes it, under the lock of its list of notifiers.
unsafe impl Sync for Notifier {}

static NOTIFIER: Notifier = Notifier(Opaque::new(bindings::notifier_block {
    notifier_call: Some(notifier_callback),
    next: ptr::null_mut(),
    priority: 0,
}));

/// Closes what a driver left open. Runs when its private data of the device is gone, and before its
/// module can go.
extern "C" fn notifier_callback(
    _block: *mut bindings::notifier_block,
    event: c_ulong,
    dev: *mut c_void,
) -> c_int {
    const UNBOUND: c_ulong = bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER as c_ulong;
    const NOT_BOUND: c_ulong = bindings::bus_notifier_event_BUS_NOTIFY_DRIVER_NOT_BOUND as c_ulong;

    if event == UNBOUND || event == NOT_BOUND {
        // SAFETY: The bus passes a device of its own, which lives as long as this call; the field
        // is never written after creation.
        let channel = unsafe { &(*raw_device(dev.cast())).channel };

        channel::forbid_open(channel);
    }
    bindings::NOTIFY_DONE as c_int
}

/// How a driver fits a device.
pub(super) enum Match {
    /// The driver is not for this device.
    No,
    /// By an entry of the driver's table.
    Id(*const RawDeviceId),
    /// By an id that was added at run time, or by `driver_override`: without an entry.
    Bare,
}

/// Matches as the C core does: an override excludes every other driver, dynamic ids come before
/// the table.
///
/// # Safety
///
/// `dev` and `drv` must be a device and a driver of this bus.
pub(super) unsafe fn match_driver(dev: *mut RawDevice, drv: *const RawDriver) -> Match {
    // SAFETY: By the requirements of this function.
    let (forced, class) = unsafe {
        (
            ffi::vmbus_shim_driver_override(&raw mut (*dev).dev, &raw const (*drv).driver),
            (*dev).class(),
        )
    };

    if forced == 0 {
        return Match::No;
    }
    if dynamic_ids::contains(drv, &class) {
        return Match::Bare;
    }
    // SAFETY: By the requirements of this function; tables are static and end with a zero entry.
    match unsafe { find_id((*drv).id_table, &class) } {
        Some(id) => Match::Id(id),
        None if forced > 0 => Match::Bare,
        None => Match::No,
    }
}

/// Finds `class` in a table that ends with an entry of zeroes.
///
/// # Safety
///
/// `id` must be null or point to such a table.
unsafe fn find_id(mut id: *const RawDeviceId, class: &Guid) -> Option<*const RawDeviceId> {
    if id.is_null() {
        return None;
    }
    loop {
        // SAFETY: The terminating entry was not reached yet.
        let guid = Guid(unsafe { (*id).guid });

        if guid == Guid::NULL {
            return None;
        }
        if guid == *class {
            return Some(id);
        }
        // SAFETY: As above: there is another entry.
        id = unsafe { id.add(1) };
    }
}

/// Finds the device structure around a `struct device` of this bus.
///
/// # Safety
///
/// `dev` must be the device of a [`RawDevice`].
pub(super) unsafe fn raw_device(dev: *const bindings::device) -> *mut RawDevice {
    // SAFETY: By the requirements of this function.
    unsafe { container_of!(dev.cast_mut(), RawDevice, dev) }
}

/// Finds the driver structure around a `struct device_driver` of this bus.
///
/// # Safety
///
/// `drv` must be the driver of a [`RawDriver`].
pub(super) unsafe fn raw_driver(drv: *const bindings::device_driver) -> *mut RawDriver {
    // SAFETY: By the requirements of this function.
    unsafe { container_of!(drv.cast_mut(), RawDriver, driver) }
}

extern "C" fn match_callback(
    dev: *mut bindings::device,
    drv: *const bindings::device_driver,
) -> c_int {
    // SAFETY: The driver core calls this for devices and drivers of this bus, all of which are
    // registered by this folder as parts of `RawDevice` and `RawDriver`.
    let found = unsafe { match_driver(raw_device(dev), raw_driver(drv)) };

    c_int::from(!matches!(found, Match::No))
}

extern "C" fn uevent_callback(
    dev: *const bindings::device,
    env: *mut bindings::kobj_uevent_env,
) -> c_int {
    // SAFETY: The driver core calls this for devices of this bus.
    let class = unsafe { (*raw_device(dev)).class() };
    let Ok(alias) = CString::try_from_fmt(fmt!("{}", Shown(&class.modalias()))) else {
        return ENOMEM.to_errno();
    };

    // SAFETY: `env` is valid for the call, and the arguments fit the format.
    unsafe {
        bindings::add_uevent_var(env, c"MODALIAS=vmbus:%s".as_char_ptr(), alias.as_char_ptr())
    }
}

extern "C" fn probe_callback(dev: *mut bindings::device) -> c_int {
    // SAFETY: The driver core calls this for a device of this bus with its driver set.
    let (raw, drv) = unsafe {
        let raw = raw_device(dev);
        (raw, raw_driver((*dev).driver))
    };
    // SAFETY: As above.
    let id = match unsafe { match_driver(raw, drv) } {
        Match::No => return ENODEV.to_errno(),
        Match::Id(id) => id,
        Match::Bare => ptr::null(),
    };

    // SAFETY: As above; the field is never written after creation.
    let channel = unsafe { &(*raw).channel };

    // SAFETY: As above.
    let in_order = unsafe { (*drv).in_order };

    if in_order && attach::postpone(channel) {
        return ENODEV.to_errno();
    }
    attach::begin(channel, in_order);
    channel::allow_open(channel);
    // SAFETY: As above.
    let result = match unsafe { (*drv).probe } {
        // SAFETY: As above; `id` is null or from the driver's own table.
        Some(probe) => unsafe { probe(raw, id) },
        None => ENODEV.to_errno(),
    };

    attach::end(channel, in_order, result);
    result
}

extern "C" fn remove_callback(dev: *mut bindings::device) {
    // SAFETY: The driver core calls this for a device of this bus that its driver had bound.
    unsafe {
        if let Some(remove) = (*raw_driver((*dev).driver)).remove {
            remove(raw_device(dev));
        }
    }
}
