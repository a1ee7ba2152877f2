// SPDX-License-Identifier: GPL-2.0

//! Devices on the C core's bus.

use crate::{
    channel::{
        bound,
        raw::{Identity, RawChannel},
        Channel,
    },
    ffi,
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings, device,
    prelude::*,
    sync::{aref::AlwaysRefCounted, Arc},
    types::Opaque,
};
use vmbus_protocol::{version::Version, Guid};

/// `struct hv_device`, of which only the place of its `struct device` is known.
#[repr(C)]
pub struct RawDevice {
    _opaque: [u8; 0],
}

/// A VMBus device.
///
/// # Invariants
///
/// A `Device` is a valid `struct hv_device` with a reference count that is not zero.
#[repr(transparent)]
pub struct Device<Ctx: device::DeviceContext = device::Normal>(Opaque<RawDevice>, PhantomData<Ctx>);

impl<Ctx: device::DeviceContext> Device<Ctx> {
    fn raw(&self) -> &RawDevice {
        // SAFETY: By the type invariant; nothing of it is seen through the reference.
        unsafe { &*self.0.get() }
    }

    /// Which one its primary channel is.
    pub(super) fn channel_identity(&self) -> Identity {
        self.raw().channel_identity()
    }

    /// A reference to the primary channel.
    pub(super) fn raw_channel(&self) -> Result<RawChannel> {
        self.raw().channel()
    }

    /// The primary channel, for a driver that is bound to the device.
    pub(crate) fn bound_channel(&self) -> Result<Arc<Channel>> {
        bound::find(self.channel_identity()).ok_or(ENODEV)
    }

    /// The class of the device (`class_id` in sysfs).
    pub fn class(&self) -> Guid {
        self.raw().class()
    }

    /// The GUID of this very device (`device_id` in sysfs).
    pub fn instance(&self) -> Guid {
        self.raw().instance()
    }

    /// The version of the VMBus protocol that the host accepted (VERSION_RESPONSE), at least 4.0.
    /// It is the same for all devices, as long as they are there.
    pub fn protocol_version(&self) -> Version {
        protocol_version()
    }

    /// The number of the CPU that the host interrupts for the primary channel (`cpu` of the channel
    /// in sysfs). Before the open it is the one that the core has chosen; later others can move it,
    /// see [`crate::Handler::on_moved`].
    pub fn target_cpu(&self) -> u32 {
        self.raw().target_cpu()
    }

    /// The NUMA node of that CPU (`numa_node` in sysfs), for memory that the driver uses where it
    /// is interrupted; -1 if there is none.
    pub fn numa_node(&self) -> i32 {
        self.raw().numa_node()
    }
}

// Not part of what is compiled for each context, or in drivers: the shim is this module's own.
//
// References to `RawDevice` are made of valid devices only.
impl RawDevice {
    fn channel_ptr(&self) -> *mut ffi::VmbusChannel {
        // SAFETY: A reference is to a valid device.
        unsafe { ffi::vmbus_on_c_channel_of(self) }
    }

    fn channel_identity(&self) -> Identity {
        Identity::of(self.channel_ptr())
    }

    fn channel(&self) -> Result<RawChannel> {
        let channel = NonNull::new(self.channel_ptr()).ok_or(ENODEV)?;

        // SAFETY: A device has its primary channel until its last reference is gone.
        unsafe { RawChannel::new(channel) }
    }

    fn class(&self) -> Guid {
        let mut guid = [0; 16];

        // SAFETY: A reference is to a valid device.
        unsafe { ffi::vmbus_on_c_class(self, &raw mut guid) };
        Guid(guid)
    }

    fn instance(&self) -> Guid {
        let mut guid = [0; 16];

        // SAFETY: The channel exists as long as the device.
        unsafe { ffi::vmbus_on_c_instance(self.channel_ptr(), &raw mut guid) };
        Guid(guid)
    }

    fn target_cpu(&self) -> u32 {
        // SAFETY: As above.
        unsafe { ffi::vmbus_on_c_target_cpu(self.channel_ptr()) }
    }

    fn numa_node(&self) -> i32 {
        // SAFETY: As above.
        unsafe { ffi::vmbus_on_c_node(self.channel_ptr()) }
    }
}

/// The version that the C core has agreed on.
fn protocol_version() -> Version {
    // SAFETY: No requirements; looks at what was found out when the C core came up.
    Version(unsafe { ffi::vmbus_on_c_version() })
}

/// The `struct device` of a device.
fn base(device: *mut RawDevice) -> *mut bindings::device {
    device.wrapping_byte_add(hv_layout::HV_DEVICE_DEVICE).cast()
}

// SAFETY: `Device` is a transparent wrapper of `RawDevice`, and the offset is that of the field.
unsafe impl<Ctx: device::DeviceContext> device::AsBusDevice<Ctx> for Device<Ctx> {
    const OFFSET: usize = hv_layout::HV_DEVICE_DEVICE;
}

// SAFETY: `Device` is a transparent wrapper of a type that does not depend on its argument.
kernel::impl_device_context_deref!(unsafe { Device });
kernel::impl_device_context_into_aref!(Device);

// SAFETY: A `Device` is always reference-counted, by the embedded `struct device`.
unsafe impl AlwaysRefCounted for Device {
    fn inc_ref(&self) {
        // SAFETY: A shared reference means that the count is not zero.
        unsafe { bindings::get_device(base(self.0.get())) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: By the requirements of this function the count is not zero.
        unsafe { bindings::put_device(base(obj.as_ptr().cast())) };
    }
}

impl<Ctx: device::DeviceContext> AsRef<device::Device<Ctx>> for Device<Ctx> {
    fn as_ref(&self) -> &device::Device<Ctx> {
        // SAFETY: By the type invariant this is a valid `struct device`.
        unsafe { device::Device::from_raw(base(self.0.get())) }
    }
}

// SAFETY: A `Device` is reference-counted and may be released from any thread.
unsafe impl Send for Device {}

// SAFETY: What a `Device` offers to shared references is safe on any thread.
unsafe impl Sync for Device {}

// SAFETY: As for `Device`; `Bound` is only a type state.
unsafe impl Sync for Device<device::Bound> {}
