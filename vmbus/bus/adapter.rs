// SPDX-License-Identifier: GPL-2.0

//! What connects a driver with the bus.

use super::{
    attach, bus_type,
    device::{Device, RawDevice},
    driver::{DeviceId, Driver, RawDeviceId},
    dynamic_ids,
};
use core::{marker::PhantomData, mem::offset_of, pin::Pin, ptr};
use kernel::{
    bindings, device,
    device_id::RawDeviceIdIndex,
    driver,
    error::{from_result, to_result},
    ffi::c_int,
    prelude::*,
    types::{ForeignOwnable, Opaque},
};

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
    pub(super) in_order: bool,
}

impl Default for RawDriver {
    fn default() -> Self {
        Self {
            driver: bindings::device_driver::default(),
            id_table: ptr::null(),
            probe: None,
            remove: None,
            in_order: false,
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
            (*drv).in_order = T::IN_ORDER;
            (*drv).driver.name = name.as_char_ptr();
            (*drv).driver.mod_name = name.as_char_ptr();
            (*drv).driver.owner = module.as_ptr();
            (*drv).driver.bus = bus_type::bus();
            (*drv).driver.probe_type = if T::IN_ORDER {
                bindings::probe_type_PROBE_FORCE_SYNCHRONOUS
            } else {
                bindings::probe_type_PROBE_PREFER_ASYNCHRONOUS
            };
        }
        pr_info!("registering driver {}\n", name);
        // SAFETY: All fields are set, and `reg` stays where it is until `unregister`.
        let register = || to_result(unsafe { bindings::driver_register(&raw mut (*drv).driver) });

        if T::IN_ORDER {
            attach::in_order(register)
        } else {
            register()
        }
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
        // SAFETY: As above, and the borrow has ended.
        drop(unsafe { Self::take_data(dev) });
    }

    /// Takes the private data of a device.
    ///
    /// The kernel's own `post_unbind_callback` would do it later. Where the driver core fails after
    /// `probe`, the notice that makes the bus close what was left open comes before that, and then
    /// the driver would have to put its device away without a channel.
    ///
    /// # Safety
    ///
    /// The private data, if there is any, is of this driver, and nobody uses it.
    unsafe fn take_data<'bound>(
        dev: &Device<device::CoreInternal<'bound>>,
    ) -> Option<Pin<KBox<T::Data<'bound>>>> {
        let dev = ptr::from_ref::<device::Device<_>>(dev.as_ref())
            .cast_mut()
            .cast();
        // SAFETY: The device is valid.
        let data = unsafe { bindings::dev_get_drvdata(dev) };

        // SAFETY: As above.
        unsafe { bindings::dev_set_drvdata(dev, ptr::null_mut()) };
        // SAFETY: What `set_drvdata` stored is such a box, made foreign; nobody takes it a second
        // time.
        (!data.is_null()).then(|| unsafe { ForeignOwnable::from_foreign(data.cast()) })
    }
}
