// SPDX-License-Identifier: GPL-2.0

//! A page that the host reads when it is told to.

use core::{cell::UnsafeCell, mem::ManuallyDrop, ptr};
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Release},
};

use super::ffi;

/// Bytes of a page.
const BYTES: usize = 4096;

/// One page, aligned.
#[repr(C, align(4096))]
struct Memory(UnsafeCell<[u8; BYTES]>);

/// A page with a message for the host.
///
/// # Invariants
///
/// The host reads the page while `lent` is true, and not otherwise. Nobody has a reference to it.
pub(crate) struct HostPage {
    memory: ManuallyDrop<KBox<Memory>>,
    phys: u64,
    lent: Atomic<bool>,
}

// SAFETY: The page is not bound to a thread.
unsafe impl Send for HostPage {}
// SAFETY: It is written by `fill` only, which takes `&mut`.
unsafe impl Sync for HostPage {}

impl HostPage {
    /// A page. May sleep.
    pub(crate) fn new() -> Result<Self> {
        let memory = KBox::new(Memory(UnsafeCell::new([0; BYTES])), GFP_KERNEL)?;
        // SAFETY: The memory is of the kernel's direct map.
        let phys = unsafe { ffi::hv_netvsc_shim_phys(memory.0.get().cast()) };

        // INVARIANT: The host does not know it.
        Ok(Self {
            memory: ManuallyDrop::new(memory),
            phys,
            lent: Atomic::new(false),
        })
    }

    /// Writes a message, and returns where it is. `EBUSY` while the host has the page, `EMSGSIZE`.
    pub(crate) fn fill(&mut self, message: &[u8]) -> Result<u64> {
        if self.lent.load(Acquire) {
            return Err(EBUSY);
        }
        if message.len() > BYTES {
            return Err(EMSGSIZE);
        }
        // SAFETY: The page has room for it, and by the type invariant nobody reads it now.
        unsafe {
            ptr::copy_nonoverlapping(
                message.as_ptr(),
                self.memory.0.get().cast::<u8>(),
                message.len(),
            );
        }
        Ok(self.phys)
    }

    /// The host is about to be told of the page.
    pub(crate) fn lend(&self) {
        self.lent.store(true, Release);
    }

    /// The host is done with it, or was not told, or has let go of all memory. Any context.
    pub(crate) fn give_back(&self) {
        self.lent.store(false, Release);
    }
}

impl Drop for HostPage {
    fn drop(&mut self) {
        // A page that the host may read is nobody else's.
        if !self.lent.load(Acquire) {
            // SAFETY: This is done once, and the page is not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}
