// SPDX-License-Identifier: GPL-2.0

//! Memory for a device that may never say that it is done with it.

use core::{ops::Deref, ptr::NonNull};
use kernel::{
    device::{Bound, Device},
    dma::Coherent,
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    transmute::{AsBytes, FromBytes},
};

/// Memory that a device can write, and that can be left to it for good.
///
/// # Invariants
///
/// `memory` was allocated for `dev`, to which it has a reference of its own.
pub struct DmaBuffer<T: AsBytes + FromBytes> {
    memory: Coherent<T>,
    dev: ARef<Device>,
}

impl<T: AsBytes + FromBytes> DmaBuffer<T> {
    /// Allocates memory for `dev`, and writes zeros there. May sleep.
    pub fn zeroed(dev: &Device<Bound>) -> Result<Self> {
        let shared: &Device = dev;

        // INVARIANT: Coherent memory keeps the device that it is for.
        Ok(Self {
            memory: Coherent::zeroed(dev, GFP_KERNEL)?,
            dev: shared.into(),
        })
    }

    /// Leaves the memory to the device, which may write there for ever. It is never freed.
    ///
    /// Other than forgetting it, this does not keep the device in being, nor who waits for its end.
    pub fn leave(self) {
        core::mem::forget(self.memory);
        // SAFETY: By the type invariant the memory had a reference to this device, which nobody
        // gives up any more; `self.dev` is another one.
        unsafe { Device::dec_ref(NonNull::from(&*self.dev)) };
    }
}

impl<T: AsBytes + FromBytes> Deref for DmaBuffer<T> {
    type Target = Coherent<T>;

    fn deref(&self) -> &Self::Target {
        &self.memory
    }
}
