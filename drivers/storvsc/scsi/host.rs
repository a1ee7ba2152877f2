// SPDX-License-Identifier: GPL-2.0

//! SCSI hosts and their logical units.

use super::{
    ffi::{self, RawLimits},
    ops::Operations,
};
use core::{marker::PhantomData, mem::size_of, ptr::NonNull};
use kernel::{device, error::to_result, prelude::*, sync::Arc};
use storvsc_protocol::packet::Address;
use vmbus::abstractions::RcuArc;

/// What is in the driver's part of a `struct Scsi_Host`.
///
/// The structure outlives the driver's binding: somebody may hold a reference. So what the callbacks
/// work with is published here while they may, and taken back before the driver is unbound. Nothing
/// has to be dropped when the structure is freed.
pub(super) struct Private<T: Operations> {
    pub(super) published: RcuArc<T::Data>,
}

/// What a host can take.
pub(crate) struct Limits {
    /// Logical units of a target.
    pub(crate) luns: u64,
    /// Targets of a channel.
    pub(crate) targets: u32,
    /// SCSI channels.
    pub(crate) channels: u32,
    /// 512-byte sectors of a command.
    pub(crate) sectors: u32,
    /// Pieces of a command's data.
    pub(crate) segments: u16,
    /// Commands of a hardware queue.
    pub(crate) depth: u32,
    /// Hardware queues.
    pub(crate) queues: u32,
}

/// A SCSI host of driver `T`. Dropping it gives the reference up.
///
/// # Invariants
///
/// `ptr` is a host of ours, to which this object holds a reference; its private part is an
/// initialised [`Private`].
pub(crate) struct Host<T: Operations> {
    ptr: NonNull<ffi::Scsi_Host>,
    _driver: PhantomData<T>,
}

// SAFETY: A host is reference-counted and not bound to a thread.
unsafe impl<T: Operations> Send for Host<T> {}
// SAFETY: The functions below may be called from several threads at once.
unsafe impl<T: Operations> Sync for Host<T> {}

impl<T: Operations> Host<T> {
    /// Makes a host that nobody knows yet. May sleep.
    pub(crate) fn new() -> Result<Self> {
        let bytes = u32::try_from(size_of::<Private<T>>())?;
        // SAFETY: The function has no requirements.
        let host = NonNull::new(unsafe { ffi::hv_storvsc_shim_host_alloc(bytes) }).ok_or(ENOMEM)?;

        // SAFETY: The private part is as large as was asked for, aligned for pointers, and not in
        // use yet.
        unsafe {
            ffi::hv_storvsc_shim_host_private(host.as_ptr())
                .cast::<Private<T>>()
                .write(Private {
                    published: RcuArc::empty(),
                });
        };
        // INVARIANT: The host is new, and the reference is ours.
        Ok(Self {
            ptr: host,
            _driver: PhantomData,
        })
    }

    fn private(&self) -> &Private<T> {
        // SAFETY: By the type invariant; the part is never written as a whole again.
        unsafe { &*ffi::hv_storvsc_shim_host_private(self.ptr.as_ptr()).cast() }
    }

    /// The number of the SCSI host, as in `host3`.
    pub(crate) fn number(&self) -> u32 {
        // SAFETY: The host is valid by the type invariant.
        unsafe { ffi::hv_storvsc_shim_host_number(self.ptr.as_ptr()) }
    }

    /// Sets what the callbacks work with, and returns once none works with the former one. May
    /// sleep.
    pub(crate) fn publish(&self, data: Arc<T::Data>) -> Option<Arc<T::Data>> {
        self.private().published.replace(data)
    }

    /// Takes back what the callbacks work with. Commands find no device from then on. May sleep.
    pub(crate) fn withdraw(&self) -> Option<Arc<T::Data>> {
        self.private().published.unpublish()
    }

    /// Makes it known to the midlayer, as a child of `dev`, whose memory it uses. Once. May sleep.
    pub(crate) fn add(&self, dev: &device::Device<device::Bound>, limits: &Limits) -> Result {
        let raw = RawLimits {
            max_lun: limits.luns,
            max_id: limits.targets,
            max_channel: limits.channels.saturating_sub(1),
            max_sectors: limits.sectors,
            can_queue: limits.depth,
            hw_queues: limits.queues,
            segments: limits.segments,
        };
        let parent = core::ptr::from_ref(dev).cast_mut().cast();

        // SAFETY: The host is valid and was not added; `parent` is a device that is bound, so it
        // stays until the host is removed.
        to_result(unsafe { ffi::hv_storvsc_shim_host_add(self.ptr.as_ptr(), parent, &raw) })
    }

    /// Takes it away from the midlayer: its devices are shut down, and no command comes any more.
    /// Only after [`Self::add`], once. Waits for commands.
    pub(crate) fn remove(&self) {
        // SAFETY: The host is valid and was added.
        unsafe { ffi::scsi_remove_host(self.ptr.as_ptr()) };
    }

    /// Looks for new logical units. May sleep.
    pub(crate) fn scan(&self) {
        // SAFETY: The host is valid.
        unsafe { ffi::scsi_scan_host(self.ptr.as_ptr()) };
    }

    /// Adds logical unit 0 of a target. May sleep.
    pub(crate) fn add_target(&self, target: u32) -> Result {
        // SAFETY: The host is valid.
        to_result(unsafe { ffi::scsi_add_device(self.ptr.as_ptr(), 0, target, ffi::LUN_0) })
    }

    /// Adds a logical unit, if it is there and not known yet. May sleep.
    pub(crate) fn add_unit(&self, address: Address) -> Result {
        // SAFETY: The host is valid.
        to_result(unsafe {
            ffi::scsi_add_device(
                self.ptr.as_ptr(),
                address.channel.into(),
                address.target.into(),
                address.lun.into(),
            )
        })
    }

    /// Reads the properties of a logical unit again, if it is known. May sleep.
    pub(crate) fn rescan_unit(&self, address: Address) {
        self.with_unit(address, |unit| {
            // SAFETY: The unit is valid.
            unsafe { ffi::scsi_rescan_device(unit) };
        });
    }

    /// Units that error handling has taken offline can be used again.
    pub(crate) fn set_units_running(&self) {
        // SAFETY: The host is valid.
        unsafe { ffi::hv_storvsc_shim_set_units_running(self.ptr.as_ptr()) };
    }

    /// Removes a logical unit, and returns whether it was known. May sleep.
    pub(crate) fn remove_unit(&self, address: Address) -> bool {
        self.with_unit(address, |unit| {
            // SAFETY: The unit is valid.
            unsafe { ffi::scsi_remove_device(unit) };
        })
    }

    fn with_unit(&self, address: Address, f: impl FnOnce(*mut ffi::scsi_device)) -> bool {
        // SAFETY: The host is valid.
        let unit = unsafe {
            ffi::scsi_device_lookup(
                self.ptr.as_ptr(),
                address.channel.into(),
                address.target.into(),
                address.lun.into(),
            )
        };

        if !unit.is_null() {
            f(unit);
            // SAFETY: The lookup took a reference.
            unsafe { ffi::scsi_device_put(unit) };
        }
        !unit.is_null()
    }
}

impl<T: Operations> Drop for Host<T> {
    fn drop(&mut self) {
        drop(self.withdraw());
        // SAFETY: The reference is ours.
        unsafe { ffi::scsi_host_put(self.ptr.as_ptr()) };
    }
}

/// A logical unit that is being configured.
///
/// # Invariants
///
/// The pointer is a unit that is valid during the callback.
pub(crate) struct Unit(pub(super) NonNull<ffi::scsi_device>);

impl Unit {
    /// Where it is.
    pub(crate) fn address(&self) -> Address {
        let (mut channel, mut target, mut lun) = (0, 0, 0);

        // SAFETY: The unit is valid; the rest points at our variables.
        unsafe {
            ffi::hv_storvsc_shim_unit(self.0.as_ptr(), &mut channel, &mut target, &mut lun);
        };
        Address {
            channel,
            target,
            lun,
        }
    }

    /// The start of its vendor's name.
    pub(crate) fn vendor(&self) -> [u8; 4] {
        // SAFETY: The unit is valid, and a unit that answered an INQUIRY, as one that is being
        // configured has, has a name of 8 bytes, not necessarily terminated.
        unsafe {
            ffi::hv_storvsc_shim_vendor(self.0.as_ptr())
                .cast::<[u8; 4]>()
                .read_unaligned()
        }
    }

    /// Sets how it is treated: as of standard SPC-3, without WRITE SAME, and after how many seconds
    /// a command is late. REPORT SUPPORTED OPERATION CODES is never used.
    pub(crate) fn configure(&self, spc3: bool, no_write_same: bool, timeout_secs: u32) {
        // SAFETY: The unit is valid and not in use yet.
        unsafe {
            ffi::hv_storvsc_shim_configure(self.0.as_ptr(), spc3, no_write_same, timeout_secs);
        };
    }
}
