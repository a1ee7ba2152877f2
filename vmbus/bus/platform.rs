// SPDX-License-Identifier: GPL-2.0

//! The ACPI device that says "there is a VMBus", bound as a platform driver.
//!
//! `kernel::platform` is not used because it cannot force the probe to happen inside the
//! registration, and the module wants to know at once whether the device is there.

use super::bus_type::Static;
use crate::ffi;
use core::mem::MaybeUninit;
use kernel::{
    acpi, bindings,
    device::Device,
    device_id::IdTable as _,
    error::to_result,
    ffi::c_int,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Full, Relaxed},
    },
    types::Opaque,
};

kernel::acpi_device_table!(
    ACPI_TABLE,
    (),
    [
        (acpi::DeviceId::new(c"VMBUS"), ()),
        (acpi::DeviceId::new(c"VMBus"), ()),
    ]
);

/// The ACPI device below which all VMBus devices hang, once it was found.
static ROOT: Atomic<*mut bindings::device> = Atomic::new(core::ptr::null_mut());

/// What is told that the machine is shut down or restarted.
pub(crate) trait Shutdown {
    /// Process context, after all VMBus devices were shut down.
    fn shutdown();
}

/// Hibernation is refused: a resumed guest would have to bring all channels up again. Suspend to
/// idle is none of the bus's business: the host's messages and interrupts go on, and end it
/// (`drivers/hv/vmbus_drv.c:vmbus_bus_pm`).
static POWER: Static<bindings::dev_pm_ops> = Static(bindings::dev_pm_ops {
    freeze: Some(refuse_hibernation),
    // SAFETY: All fields are options of functions, for which zero means "not there".
    ..unsafe { MaybeUninit::<bindings::dev_pm_ops>::zeroed().assume_init() }
});

extern "C" fn refuse_hibernation(_dev: *mut bindings::device) -> c_int {
    pr_err!("hibernation is not supported yet; unload the VMBus drivers first\n");
    EOPNOTSUPP.to_errno()
}

/// The registered platform driver.
#[pin_data(PinnedDrop)]
pub(crate) struct PlatformDriver {
    #[pin]
    driver: Opaque<bindings::platform_driver>,
}

// SAFETY: No method gives access to the C structure.
unsafe impl Send for PlatformDriver {}
// SAFETY: No method gives access to the C structure.
unsafe impl Sync for PlatformDriver {}

impl PlatformDriver {
    /// Registers the driver; a device that is there is probed before this returns. `T` is told of
    /// shutdowns.
    pub(crate) fn register<T: Shutdown>(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            driver <- Opaque::try_ffi_init(move |ptr: *mut bindings::platform_driver| {
                // SAFETY: `ptr` is valid for writes; the structure stays pinned until `drop`.
                unsafe {
                    ptr.write(bindings::platform_driver::default());
                    (*ptr).probe = Some(probe_callback);
                    (*ptr).remove = Some(remove_callback);
                    (*ptr).shutdown = Some(shutdown_callback::<T>);
                    (*ptr).driver.name = c"vmbus_rust".as_char_ptr();
                    (*ptr).driver.pm = POWER.as_ptr();
                    (*ptr).driver.acpi_match_table = ACPI_TABLE.as_ptr();
                    (*ptr).driver.probe_type = bindings::probe_type_PROBE_FORCE_SYNCHRONOUS;
                    // Unbinding by hand would pull the root away from under all devices.
                    (*ptr).driver.suppress_bind_attrs = true;
                    to_result(bindings::__platform_driver_register(
                        ptr,
                        module.as_ptr(),
                        c"hv_vmbus_rust".as_char_ptr(),
                    ))
                }
            }),
        })
    }

    /// The root device, if the platform has a VMBus.
    pub(crate) fn root(&self) -> Option<ARef<Device>> {
        let dev = ROOT.load(Relaxed);

        if dev.is_null() {
            return None;
        }
        // SAFETY: `probe_callback` holds a reference until `remove_callback`, which cannot run
        // while the driver is registered, because it cannot be unbound by hand.
        Some(unsafe { Device::get_device(dev) })
    }
}

#[pinned_drop]
impl PinnedDrop for PlatformDriver {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by `register`.
        unsafe { bindings::platform_driver_unregister(self.driver.get()) };
    }
}

extern "C" fn probe_callback(pdev: *mut bindings::platform_device) -> c_int {
    // SAFETY: The platform bus passes a valid device.
    let root = unsafe { ffi::vmbus_shim_acpi_companion(&raw mut (*pdev).dev) };

    if root.is_null() {
        return ENODEV.to_errno();
    }
    // There is one VMBus; a second device of that name is left alone.
    if ROOT.cmpxchg(core::ptr::null_mut(), root, Full).is_err() {
        return EBUSY.to_errno();
    }
    // SAFETY: The companion is valid while its platform device is being probed.
    unsafe { bindings::get_device(root) };
    0
}

extern "C" fn remove_callback(_pdev: *mut bindings::platform_device) {
    let root = ROOT.xchg(core::ptr::null_mut(), Full);

    if !root.is_null() {
        // SAFETY: `probe_callback` took the reference.
        unsafe { bindings::put_device(root) };
    }
}

extern "C" fn shutdown_callback<T: Shutdown>(_pdev: *mut bindings::platform_device) {
    T::shutdown();
}
