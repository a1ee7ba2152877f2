// SPDX-License-Identifier: GPL-2.0

//! Drivers of VMBus devices.

use super::device::Device;
use core::{mem::offset_of, pin::Pin};
use kernel::{
    device,
    device_id::{RawDeviceId as RawDeviceIdTrait, RawDeviceIdIndex},
    prelude::*,
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

// The kernel's header lays it out with the same numbers: `shim.c` of either core asserts them too.
crate::mirrored! {
    RawDeviceId, 24;
    guid: 0, 16;
    driver_data: 16, 8;
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
        $crate::describe_core!();
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

    /// Whether devices are probed one after the other, in the order of their offers: for devices
    /// that get a number in this order, such as network interfaces. Others are probed side by side.
    ///
    /// On the C core everything that happens to devices waits for such a `probe`, as it does for
    /// `hv_netvsc`'s.
    const IN_ORDER: bool = false;

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
