// SPDX-License-Identifier: GPL-2.0

//! What connects a driver with the C core's bus.

use super::{
    device::{Device, RawDevice},
    driver::{DeviceId, Driver, RawDeviceId},
};
use crate::{channel::bound::Binding, ffi};
use core::{marker::PhantomData, mem::MaybeUninit, pin::Pin, ptr};
use kernel::{
    bindings, device,
    device_id::RawDeviceIdIndex,
    driver,
    error::{from_result, to_result},
    ffi::c_int,
    prelude::*,
    types::{ForeignOwnable, Opaque},
};

/// `struct hv_driver`, of which only the place of its `struct device_driver` is known.
#[repr(C, align(64))]
pub struct RawDriver(MaybeUninit<[u8; hv_layout::HV_DRIVER_BYTES]>);

const _: () = assert!(hv_layout::HV_DRIVER_ALIGN <= align_of::<RawDriver>());

impl Default for RawDriver {
    fn default() -> Self {
        Self(MaybeUninit::zeroed())
    }
}

/// Registers a driver. Not part of what is compiled in drivers: the shim is this module's own.
///
/// # Safety
///
/// The driver is not registered, and stays where it is until it is unregistered. `ids` ends with an
/// entry of zeroes, and the callbacks accept any device of the bus that is being bound or unbound.
unsafe fn register(
    driver: &Opaque<RawDriver>,
    name: &'static CStr,
    module: &'static ThisModule,
    ids: *const RawDeviceId,
    in_order: bool,
    probe: ffi::ProbeCallback,
    remove: ffi::RemoveCallback,
) -> Result {
    if !crate::is_up() {
        // It is built in and found nothing to do on this machine.
        return Err(ENODEV);
    }
    // SAFETY: By the requirements of this function.
    to_result(unsafe {
        ffi::vmbus_on_c_register(
            driver.get(),
            name.as_char_ptr(),
            module.as_ptr(),
            ids,
            in_order,
            probe,
            remove,
        )
    })
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
    const DEVICE_DRIVER_OFFSET: usize = hv_layout::HV_DRIVER_DRIVER;
}

// SAFETY: `unregister` is valid after a successful `register`.
unsafe impl<T: Driver> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        reg: &Opaque<RawDriver>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // SAFETY: The driver is not registered yet, so nobody else looks at it; `reg` stays where
        // it is until `unregister`. The callbacks accept what the C core passes.
        unsafe {
            register(
                reg,
                name,
                module,
                T::ID_TABLE.as_ptr(),
                T::IN_ORDER,
                Self::probe_callback,
                Self::remove_callback,
            )
        }
    }

    unsafe fn unregister(reg: &Opaque<RawDriver>) {
        // SAFETY: Registered before, by the requirements of this function.
        unsafe { ffi::vmbus_driver_unregister(reg.get()) };
    }
}

impl<T: Driver> Adapter<T> {
    extern "C" fn probe_callback(dev: *mut RawDevice, id: *const RawDeviceId) -> c_int {
        // SAFETY: The C core calls this with a valid device that is being bound.
        //
        // INVARIANT: `dev` is valid for the duration of the callback.
        let dev = unsafe { &*dev.cast::<Device<device::CoreInternal<'_>>>() };
        // SAFETY: `id` is an entry of `T::ID_TABLE`, or one without data of the C core's: for an id
        // that was added at run time, and for `driver_override`. `DeviceId` wraps it transparently.
        let info = unsafe { (*id.cast::<DeviceId>()).info_unchecked_opt::<T::IdInfo>() };

        from_result(|| {
            // Dropping it closes what the driver left open.
            let binding = Binding::new(dev.raw_channel()?)?;
            let data = T::probe(dev, info);

            dev.as_ref().set_drvdata(data)?;
            binding.keep();
            Ok(0)
        })
    }

    extern "C" fn remove_callback(dev: *mut RawDevice) {
        // SAFETY: The C core calls this with a valid device that is being unbound.
        //
        // INVARIANT: `dev` is valid for the duration of the callback.
        let dev = unsafe { &*dev.cast::<Device<device::CoreInternal<'_>>>() };
        let binding = Binding::of(dev.channel_identity());

        binding.tell_rescind();
        // SAFETY: The device was bound, so `probe_callback` stored data of this type.
        let data = unsafe { dev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        T::unbind(dev, data);
        // SAFETY: As above, and the borrow has ended.
        drop(unsafe { Self::take_data(dev) });
        drop(binding);
    }

    /// Takes the private data of a device.
    ///
    /// The kernel's own `post_unbind_callback` would do it later, when what was left open is
    /// closed.
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
