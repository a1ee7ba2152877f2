// SPDX-License-Identifier: GPL-2.0

//! Drivers of VMBus devices.

use super::{
    bus_type,
    device::{Device, RawDevice},
    dynamic_ids,
};
use core::{marker::PhantomData, mem::offset_of, pin::Pin, ptr};
use kernel::{
    bindings, device,
    device_id::{RawDeviceId as RawDeviceIdTrait, RawDeviceIdIndex},
    driver,
    error::{from_result, to_result},
    ffi::c_int,
    prelude::*,
    types::Opaque,
};
use vmbus_protocol::Guid;

/// The kernel's `struct hv_vmbus_device_id`, which the generated bindings lack.
///
/// modpost reads it from the object file to make the `vmbus:` module alias.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawDeviceId {
    pub(super) guid: [u8; 16],
    driver_data: usize,
}

/// An entry of a driver's table of device classes.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct DeviceId(RawDeviceId);

impl DeviceId {
    /// Devices of class `class`.
    pub const fn new(class: Guid) -> Self {
        Self(RawDeviceId {
            guid: class.to_bytes(),
            driver_data: 0,
        })
    }
}

// SAFETY: `DeviceId` is a transparent wrapper of the raw type.
unsafe impl RawDeviceIdTrait for DeviceId {
    type RawType = RawDeviceId;
}

// SAFETY: The offset is that of the field that holds the driver's data.
unsafe impl RawDeviceIdIndex for DeviceId {
    const DRIVER_DATA_OFFSET: usize = offset_of!(RawDeviceId, driver_data);
}

/// Table of device classes of a driver.
pub type IdTable<T> = &'static dyn kernel::device_id::IdTable<DeviceId, T>;

/// Declares a table of device classes and its module alias.
#[macro_export]
macro_rules! vmbus_device_table {
    ($($tt:tt)*) => {
        ::kernel::module_device_table!("vmbus", $crate::DeviceId, $($tt)*);
    };
}

/// Declares a kernel module that is one VMBus driver.
#[macro_export]
macro_rules! module_vmbus_driver {
    ($($f:tt)*) => {
        ::kernel::module_driver!(<T>, $crate::Adapter<T>, { $($f)* });
    };
}

/// A VMBus driver.
pub trait Driver {
    /// What the driver wants to know about each entry of its table.
    type IdInfo: 'static;

    /// The private data of a bound device.
    type Data<'bound>: Send + 'bound;

    /// The classes that the driver is for.
    const ID_TABLE: IdTable<Self::IdInfo>;

    /// Takes a device over.
    ///
    /// Process context, with the device lock held. `info` is `None` for a device that was bound by
    /// an id added at run time or by `driver_override`.
    fn probe<'bound>(
        dev: &'bound Device<device::Core<'_>>,
        info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound;

    /// Gives a device up; called before the private data is dropped.
    ///
    /// Process context, with the device lock held. A channel that was rescinded is still open
    /// here, but nothing more comes through it.
    fn unbind<'bound>(dev: &'bound Device<device::Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        let _ = (dev, this);
    }
}

/// A driver as the bus sees it.
///
/// # Invariants
///
/// After registration `id_table` is null or ends with an entry of zeroes, and the callbacks accept
/// any device of this bus that is being bound or unbound.
#[repr(C)]
pub struct RawDriver {
    pub(super) driver: bindings::device_driver,
    pub(super) id_table: *const RawDeviceId,
    pub(super) probe: Option<unsafe extern "C" fn(*mut RawDevice, *const RawDeviceId) -> c_int>,
    pub(super) remove: Option<unsafe extern "C" fn(*mut RawDevice)>,
}

impl Default for RawDriver {
    fn default() -> Self {
        Self {
            driver: bindings::device_driver::default(),
            id_table: ptr::null(),
            probe: None,
            remove: None,
        }
    }
}

/// Connects a [`Driver`] with the bus.
pub struct Adapter<T: Driver>(PhantomData<T>);

// SAFETY:
// - `RawDriver` is `repr(C)`,
// - `T::Data` is the type of the driver's device private data,
// - `RawDriver` embeds a `struct device_driver` at the given offset.
unsafe impl<T: Driver> driver::DriverLayout for Adapter<T> {
    type DriverType = RawDriver;
    type DriverData<'bound> = T::Data<'bound>;
    const DEVICE_DRIVER_OFFSET: usize = offset_of!(RawDriver, driver);
}

// SAFETY: `unregister` is valid after a successful `register`.
unsafe impl<T: Driver> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        reg: &Opaque<RawDriver>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        let drv = reg.get();

        if !crate::is_up() {
            // The core is built in and found nothing to do on this machine.
            return Err(ENODEV);
        }
        // SAFETY: The driver is not registered yet, so nobody else looks at it.
        unsafe {
            (*drv).id_table = T::ID_TABLE.as_ptr();
            (*drv).probe = Some(Self::probe_callback);
            (*drv).remove = Some(Self::remove_callback);
            (*drv).driver.name = name.as_char_ptr();
            (*drv).driver.mod_name = name.as_char_ptr();
            (*drv).driver.owner = module.as_ptr();
            (*drv).driver.bus = bus_type::bus();
            (*drv).driver.probe_type = bindings::probe_type_PROBE_PREFER_ASYNCHRONOUS;
        }
        pr_info!("registering driver {}\n", name);
        // SAFETY: All fields are set, and `reg` stays where it is until `unregister`.
        to_result(unsafe { bindings::driver_register(&raw mut (*drv).driver) })
    }

    unsafe fn unregister(reg: &Opaque<RawDriver>) {
        // SAFETY: Registered before, by the requirements of this function; so its name is a string.
        let name = unsafe { CStr::from_char_ptr((*reg.get()).driver.name) };

        pr_info!("unregistering driver {}\n", name);
        // SAFETY: As above.
        unsafe { bindings::driver_unregister(&raw mut (*reg.get()).driver) };
        dynamic_ids::forget(reg.get());
    }
}

impl<T: Driver> Adapter<T> {
    extern "C" fn probe_callback(dev: *mut RawDevice, id: *const RawDeviceId) -> c_int {
        // SAFETY: The bus calls this with a valid device that is being bound.
        //
        // INVARIANT: `dev` is valid for the duration of the callback.
        let dev = unsafe { &*dev.cast::<Device<device::CoreInternal<'_>>>() };
        let info = if id.is_null() {
            None
        } else {
            // SAFETY: `id` is an entry of `T::ID_TABLE`; `DeviceId` wraps it transparently.
            Some(unsafe { (*id.cast::<DeviceId>()).info_unchecked::<T::IdInfo>() })
        };

        from_result(|| {
            let data = T::probe(dev, info);

            dev.as_ref().set_drvdata(data)?;
            Ok(0)
        })
    }

    extern "C" fn remove_callback(dev: *mut RawDevice) {
        // SAFETY: The bus calls this with a valid device that is being unbound.
        //
        // INVARIANT: `dev` is valid for the duration of the callback.
        let dev = unsafe { &*dev.cast::<Device<device::CoreInternal<'_>>>() };
        // SAFETY: The device was bound, so `probe_callback` stored data of this type.
        let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        T::unbind(dev, data);
    }
}
