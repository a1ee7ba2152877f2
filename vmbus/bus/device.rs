// SPDX-License-Identifier: GPL-2.0

//! Devices on the VMBus: one for each primary channel that the host offers.

use super::{
    bus_type,
    channel_files::{ChannelFolder, ChannelsFolder},
};
use crate::{abstractions::Shown, channel::Channel, connection, ffi};
use core::{marker::PhantomData, mem::offset_of, ptr::NonNull};
use kernel::{
    bindings, device,
    error::to_result,
    prelude::*,
    str::CString,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::{Acquire, Atomic, Full, Relaxed},
        Arc,
    },
    time::{delay, Delta},
    types::Opaque,
};
use vmbus_protocol::{version::Version, Guid, Relid};

/// Objects of the driver model whose memory still exists; the module must not go before they do.
static LIVE_OBJECTS: Atomic<i32> = Atomic::new(0);

/// Counts one object of the driver model for as long as it exists.
pub(super) struct LiveObject(());

impl LiveObject {
    pub(super) fn new() -> Self {
        LIVE_OBJECTS.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for LiveObject {
    fn drop(&mut self) {
        LIVE_OBJECTS.fetch_sub(1, Full);
    }
}

/// Waits until the memory of all devices and their folders is gone: somebody may still hold a
/// reference to one that was unregistered, and its release is code of this module.
pub(crate) fn wait_for_devices() {
    let mut waited_ms = 0u64;

    while LIVE_OBJECTS.load(Acquire) != 0 {
        delay::fsleep(Delta::from_millis(10));
        waited_ms = waited_ms.wrapping_add(10);
        if waited_ms % 5_000 == 0 {
            pr_notice!(
                "waiting for {} devices or channels in use\n",
                LIVE_OBJECTS.load(Relaxed)
            );
        }
    }
}

/// A device as the driver model sees it.
///
/// # Invariants
///
/// Allocated as a `KBox`; owned by the reference count of `dev` once that is initialized.
#[repr(C)]
pub struct RawDevice {
    pub(super) dev: bindings::device,
    pub(super) channel: Arc<Channel>,
    dma_mask: u64,
    dma_parms: bindings::device_dma_parameters,
    _live: LiveObject,
}

impl RawDevice {
    /// The class GUID from the offer.
    pub(super) fn class(&self) -> Guid {
        self.channel.offer().class
    }
}

/// A VMBus device.
///
/// # Invariants
///
/// A `Device` is a valid [`RawDevice`] with a reference count that is not zero.
#[repr(transparent)]
pub struct Device<Ctx: device::DeviceContext = device::Normal>(Opaque<RawDevice>, PhantomData<Ctx>);

impl<Ctx: device::DeviceContext> Device<Ctx> {
    /// The device's primary channel.
    pub(crate) fn primary(&self) -> &Arc<Channel> {
        // SAFETY: By the type invariant; the field is never written after creation.
        unsafe { &(*self.0.get()).channel }
    }

    /// The same, for a driver that is bound to the device.
    pub(crate) fn bound_channel(&self) -> Result<Arc<Channel>> {
        Ok(self.primary().clone())
    }

    /// The class of the device (`class_id` in sysfs).
    pub fn class(&self) -> Guid {
        self.primary().offer().class
    }

    /// The GUID of this very device (`device_id` in sysfs).
    pub fn instance(&self) -> Guid {
        self.primary().offer().instance
    }

    /// The version of the VMBus protocol that the host accepted (VERSION_RESPONSE), at least 4.0.
    /// It is the same for all devices, as long as they are there.
    pub fn protocol_version(&self) -> Version {
        connection::protocol_version()
    }

    /// The number of the CPU that the host interrupts for the primary channel (`cpu` of the channel
    /// in sysfs). Before the open it is the one that the core has chosen; later others can move it,
    /// see [`crate::Handler::on_moved`].
    pub fn target_cpu(&self) -> u32 {
        self.primary().target_cpu()
    }

    /// The NUMA node of that CPU (`numa_node` in sysfs), for memory that the driver uses where it
    /// is interrupted; -1 if there is none.
    pub fn numa_node(&self) -> i32 {
        self.primary().numa_node()
    }
}

impl Device {
    /// Has the driver core look for a driver that takes the device, if it has none. May sleep, for
    /// as long as a `probe` takes. The device was added; should it be deleted meanwhile, then
    /// nothing happens.
    pub(super) fn find_driver(&self) {
        // SAFETY: By the type invariant the device is valid, and whoever has one of this type has
        // it from its registration, which has added it. What went wrong was said by whoever made
        // the error.
        let _ = unsafe { bindings::device_attach(&raw mut (*self.0.get()).dev) };
    }
}

/// A device that the driver model knows. Dropping takes it away again: the driver is unbound and
/// its sysfs folder removed.
pub(crate) struct DeviceRegistration {
    device: ARef<Device>,
    /// Of the primary channel first, then of sub-channels.
    folders: KVec<(Relid, ChannelFolder)>,
    channels: Option<ChannelsFolder>,
}

impl DeviceRegistration {
    /// Makes a device for `channel` below `root` and offers it to the drivers, whose `probe` runs
    /// in a worker of the driver core. May sleep.
    pub(crate) fn register(root: &device::Device, channel: Arc<Channel>) -> Result<Self> {
        let name = CString::try_from_fmt(fmt!("{}", Shown(&channel.offer().instance)))?;
        let raw = KBox::into_raw(KBox::new(
            RawDevice {
                dev: bindings::device::default(),
                channel: channel.clone(),
                dma_mask: u64::MAX,
                dma_parms: bindings::device_dma_parameters::default(),
                _live: LiveObject::new(),
            },
            GFP_KERNEL,
        )?);

        // SAFETY: `raw` is a fresh allocation that nobody else knows. After `device_initialize()`
        // its reference count owns it; `release` takes it back into a box.
        let dev = unsafe {
            let dev = &raw mut (*raw).dev;

            (*dev).bus = bus_type::bus();
            (*dev).parent = core::ptr::from_ref(root).cast_mut().cast();
            (*dev).release = Some(release_callback);
            (*dev).dma_parms = &raw mut (*raw).dma_parms;
            (*dev).dma_mask = &raw mut (*raw).dma_mask;
            (*dev).coherent_dma_mask = u64::MAX;
            bindings::device_initialize(dev);
            dev
        };
        // SAFETY: The initialization above left us one reference, which moves into the `ARef`; a
        // `Device` is a transparent wrapper of what `raw` points to.
        let owned = unsafe { ARef::from_raw(NonNull::new_unchecked(raw.cast::<Device>())) };

        // SAFETY: `dev` is initialized and not added yet; the name fits the format.
        unsafe {
            to_result(bindings::dev_set_name(
                dev,
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            ))?;
            ffi::hv_setup_dma_ops(dev, true);
            to_result(bindings::device_add(dev))?;
        }
        let mut this = Self {
            device: owned,
            folders: KVec::new(),
            // SAFETY: The device was just added.
            channels: unsafe { ChannelsFolder::new(raw) }.ok(),
        };

        this.add_channel(channel);
        Ok(this)
    }

    /// The device.
    pub(crate) fn device(&self) -> ARef<Device> {
        self.device.clone()
    }

    /// Adds the sysfs folder of a channel of the device, once. Without memory for it there is none.
    pub(crate) fn add_channel(&mut self, channel: Arc<Channel>) {
        let relid = channel.relid();

        if self.folders.iter().any(|(other, _)| *other == relid) {
            return;
        }
        let added = self
            .channels
            .as_ref()
            .ok_or(ENOMEM)
            .and_then(|channels| channels.add(channel))
            .and_then(|folder| Ok(self.folders.push((relid, folder), GFP_KERNEL)?));

        if added.is_err() {
            pr_warn!("no sysfs folder for channel {}\n", relid.raw());
        }
    }

    /// Removes the sysfs folder of a channel.
    pub(crate) fn remove_channel(&mut self, relid: Relid) {
        self.folders.retain(|(other, _)| *other != relid);
    }
}

impl Drop for DeviceRegistration {
    fn drop(&mut self) {
        self.folders.clear();
        self.channels = None;
        // The `ARef` keeps the count above zero for the duration of the call.
        //
        // SAFETY: The device was added by `register` and is deleted once.
        unsafe { bindings::device_del(&raw mut (*self.device.0.get()).dev) };
    }
}

extern "C" fn release_callback(dev: *mut bindings::device) {
    // SAFETY: The driver core calls this once, when the last reference to a device of ours is
    // gone; its memory came from a box.
    drop(unsafe { KBox::from_raw(bus_type::raw_device(dev)) });
}

// SAFETY: `Device` is a transparent wrapper of `RawDevice`, and the offset is that of the field.
unsafe impl<Ctx: device::DeviceContext> device::AsBusDevice<Ctx> for Device<Ctx> {
    const OFFSET: usize = offset_of!(RawDevice, dev);
}

// SAFETY: `Device` is a transparent wrapper of a type that does not depend on its argument.
kernel::impl_device_context_deref!(unsafe { Device });
kernel::impl_device_context_into_aref!(Device);

// SAFETY: A `Device` is always reference-counted, by the embedded `struct device`.
unsafe impl AlwaysRefCounted for Device {
    fn inc_ref(&self) {
        // SAFETY: A shared reference means that the count is not zero.
        unsafe { bindings::get_device(&raw mut (*self.0.get()).dev) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: By the requirements of this function the count is not zero.
        unsafe { bindings::put_device(&raw mut (*obj.cast::<RawDevice>().as_ptr()).dev) };
    }
}

impl<Ctx: device::DeviceContext> AsRef<device::Device<Ctx>> for Device<Ctx> {
    fn as_ref(&self) -> &device::Device<Ctx> {
        // SAFETY: By the type invariant this is a valid `struct device`.
        unsafe { device::Device::from_raw(&raw mut (*self.0.get()).dev) }
    }
}

// SAFETY: A `Device` is reference-counted and may be released from any thread.
unsafe impl Send for Device {}

// SAFETY: What a `Device` offers to shared references is safe on any thread.
unsafe impl Sync for Device {}

// SAFETY: As for `Device`; `Bound` is only a type state.
unsafe impl Sync for Device<device::Bound> {}

/// The channel of a device, for attributes.
///
/// # Safety
///
/// `dev` must be a device of this bus that lives during `'a`.
pub(super) unsafe fn channel_of<'a>(dev: *const bindings::device) -> &'a Arc<Channel> {
    // SAFETY: By the requirements of this function.
    unsafe { &(*bus_type::raw_device(dev)).channel }
}
