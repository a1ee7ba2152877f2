// SPDX-License-Identifier: GPL-2.0

//! SCSI hosts and their logical units.

use super::{
    ffi::{self, RawLimits},
    ops::{Callbacks, Operations},
    slots::Slots,
};
use core::{marker::PhantomData, mem::size_of, ptr::NonNull};
use kernel::{
    device,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Release},
        Arc,
    },
};
use vmbus::abstractions::RcuArc;

/// What is in the driver's part of a `struct Scsi_Host`.
///
/// The structure outlives the driver's binding: somebody may hold a reference. So what the
/// callbacks work with is published here while they may, and taken back before the driver is
/// unbound. Nothing has to be dropped when the structure is freed.
pub(super) struct Private<T: Operations> {
    pub(super) published: RcuArc<Published<T>>,
    /// The host's, as long as there is a [`Host`]: nothing is in flight any more afterwards.
    pub(super) slots: RcuArc<Slots<T::Sent>>,
}

/// What the callbacks of a host work with.
///
/// # Invariants
///
/// `slots` are those of the host that this is published in.
pub(super) struct Published<T: Operations> {
    pub(super) data: Arc<T::Data>,
    pub(super) slots: Arc<Slots<T::Sent>>,
}

/// Where a logical unit is on its host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// SCSI channel.
    pub(crate) channel: u8,
    /// SCSI target.
    pub(crate) target: u8,
    /// Logical unit.
    pub(crate) lun: u8,
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
}

/// Values of [`Host::stage`]: the midlayer does not know the host.
const NEW: u32 = 0;
/// It is being added, or that failed.
const ADDING: u32 = 1;
/// The midlayer knows it.
const ADDED: u32 = 2;
/// It is being removed, or was.
const REMOVED: u32 = 3;

/// A SCSI host of driver `T`. Dropping it removes it from the midlayer, and gives the reference up.
///
/// # Invariants
///
/// - `ptr` is a host of ours, to which this object holds a reference; its private part is an
///   initialised [`Private`].
/// - `stage` only grows; who makes it [`ADDING`] adds the host, who makes [`ADDED`] into
///   [`REMOVED`] removes it.
pub(crate) struct Host<T: Operations> {
    ptr: NonNull<ffi::Scsi_Host>,
    stage: Atomic<u32>,
    slots: Arc<Slots<T::Sent>>,
    _driver: PhantomData<T>,
}

// SAFETY: A host is reference-counted and not bound to a thread.
unsafe impl<T: Operations> Send for Host<T> {}
// SAFETY: The functions below may be called from several threads at once.
unsafe impl<T: Operations> Sync for Host<T> {}

impl<T: Operations> Host<T> {
    /// Makes a host that nobody knows yet, with `queues` hardware queues of `depth` commands, whose
    /// data is mapped for `dev`. May sleep.
    pub(crate) fn new(
        dev: &device::Device<device::Bound>,
        queues: u32,
        depth: u32,
    ) -> Result<Self> {
        let slots = Arc::new(Slots::new(dev, queues, depth)?, GFP_KERNEL)?;
        let bytes = u32::try_from(size_of::<Private<T>>())?;
        let ops = &Callbacks::<T>::OPS;
        // SAFETY: The callbacks are those that work with such a private part.
        let host = unsafe { ffi::hv_scsi_shim_host_alloc(ops, bytes) };
        let host = NonNull::new(host).ok_or(ENOMEM)?;

        // SAFETY: The private part is as large as was asked for, aligned for pointers, and not in
        // use yet.
        unsafe {
            ffi::hv_scsi_shim_host_private(host.as_ptr())
                .cast::<Private<T>>()
                .write(Private {
                    published: RcuArc::empty(),
                    slots: RcuArc::empty(),
                });
        };
        // INVARIANT: The host is new, and the reference is ours.
        let host = Self {
            ptr: host,
            stage: Atomic::new(NEW),
            slots: slots.clone(),
            _driver: PhantomData,
        };

        host.private().slots.publish(slots)?;
        Ok(host)
    }

    /// The commands in flight.
    #[inline]
    pub(crate) fn slots(&self) -> &Slots<T::Sent> {
        &self.slots
    }

    fn private(&self) -> &Private<T> {
        // SAFETY: By the type invariant; the part is never written as a whole again.
        unsafe { &*ffi::hv_scsi_shim_host_private(self.ptr.as_ptr()).cast() }
    }

    /// The number of the SCSI host, as in `host3`.
    pub(crate) fn number(&self) -> u32 {
        // SAFETY: The host is valid by the type invariant.
        unsafe { ffi::hv_scsi_shim_host_number(self.ptr.as_ptr()) }
    }

    /// Sets what the callbacks work with, and returns the former one once none works with it. May
    /// sleep.
    pub(crate) fn publish(&self, data: Arc<T::Data>) -> Result<Option<Arc<T::Data>>> {
        // INVARIANT: These are the slots of this host.
        let published = Published {
            data,
            slots: self.slots.clone(),
        };
        let former = self
            .private()
            .published
            .replace(Arc::new(published, GFP_KERNEL)?);

        Ok(former.map(|former| former.data.clone()))
    }

    /// Takes back what the callbacks work with. Commands find no device from then on. May sleep.
    pub(crate) fn withdraw(&self) {
        drop(self.private().published.unpublish());
    }

    /// Makes it known to the midlayer, as a child of `dev`. May sleep.
    ///
    /// - `EINVAL`: it was not made for this device;
    /// - `EBUSY`: this was tried before;
    /// - others: of the midlayer.
    pub(crate) fn add(&self, dev: &device::Device<device::Bound>, limits: &Limits) -> Result {
        if !self.slots.is_for(dev) {
            return Err(EINVAL);
        }
        let (queues, depth) = self.slots.shape();
        let raw = RawLimits {
            max_lun: limits.luns,
            max_id: limits.targets,
            max_channel: limits.channels.saturating_sub(1),
            max_sectors: limits.sectors,
            can_queue: depth,
            hw_queues: queues,
            segments: limits.segments,
        };
        let parent = core::ptr::from_ref(dev).cast_mut().cast();

        self.stage.cmpxchg(NEW, ADDING, Full).map_err(|_| EBUSY)?;
        // SAFETY: The host is valid and was not added; `parent` is a device that is bound, and the
        // host has a reference to it.
        to_result(unsafe { ffi::hv_scsi_shim_host_add(self.ptr.as_ptr(), parent, &raw) })?;
        self.stage.store(ADDED, Release);
        Ok(())
    }

    /// Whether the midlayer knows it.
    pub(crate) fn is_added(&self) -> bool {
        self.stage.load(Acquire) == ADDED
    }

    /// Takes it away from the midlayer: its devices are shut down, and no command comes any more.
    /// Does nothing when the midlayer does not know it. Waits for commands.
    pub(crate) fn remove(&self) {
        if self.stage.cmpxchg(ADDED, REMOVED, Full).is_ok() {
            // SAFETY: The host is valid and was added, and this is done once.
            unsafe { ffi::scsi_remove_host(self.ptr.as_ptr()) };
        }
    }

    /// The host for the midlayer, which knows it. It refuses to look for units in one that is being
    /// removed meanwhile. `ENODEV` when the midlayer does not know it.
    fn added(&self) -> Result<*mut ffi::Scsi_Host> {
        if self.is_added() {
            Ok(self.ptr.as_ptr())
        } else {
            Err(ENODEV)
        }
    }

    /// Looks for new logical units. May sleep.
    pub(crate) fn scan(&self) {
        if let Ok(host) = self.added() {
            // SAFETY: The host is valid and was added.
            unsafe { ffi::scsi_scan_host(host) };
        }
    }

    /// Adds logical unit 0 of a target. May sleep. `ENODEV` when the midlayer does not know the
    /// host.
    pub(crate) fn add_target(&self, target: u32) -> Result {
        // SAFETY: The host is valid and was added.
        to_result(unsafe { ffi::scsi_add_device(self.added()?, 0, target, ffi::LUN_0) })
    }

    /// Adds a logical unit, if it is there and not known yet. May sleep. `ENODEV` when the midlayer
    /// does not know the host.
    pub(crate) fn add_unit(&self, address: Address) -> Result {
        // SAFETY: The host is valid and was added.
        to_result(unsafe {
            ffi::scsi_add_device(
                self.added()?,
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
        if let Ok(host) = self.added() {
            // SAFETY: The host is valid and was added.
            unsafe { ffi::hv_scsi_shim_set_units_running(host) };
        }
    }

    /// Whether commands of a logical unit have not come back to the midlayer: its removal waits for
    /// them.
    pub(crate) fn is_unit_busy(&self, address: Address) -> bool {
        let mut is_busy = false;

        self.with_unit(address, |unit| {
            // SAFETY: The unit is valid.
            is_busy = unsafe { ffi::hv_scsi_shim_is_busy(unit) };
        });
        is_busy
    }

    /// Removes a logical unit, and returns whether it was known. May sleep.
    pub(crate) fn remove_unit(&self, address: Address) -> bool {
        self.with_unit(address, |unit| {
            // SAFETY: The unit is valid.
            unsafe { ffi::scsi_remove_device(unit) };
        })
    }

    fn with_unit(&self, address: Address, f: impl FnOnce(*mut ffi::scsi_device)) -> bool {
        let Ok(host) = self.added() else {
            return false;
        };
        // SAFETY: The host is valid and was added.
        let unit = unsafe {
            ffi::scsi_device_lookup(
                host,
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
        self.withdraw();
        self.remove();
        drop(self.private().slots.unpublish());
        // SAFETY: The reference is ours.
        unsafe { ffi::scsi_host_put(self.ptr.as_ptr()) };
    }
}
