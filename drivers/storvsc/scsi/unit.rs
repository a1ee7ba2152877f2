// SPDX-License-Identifier: GPL-2.0

//! Logical units that are being set up.

use super::{ffi, host::Address};
use core::ptr::NonNull;

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
            ffi::hv_scsi_shim_unit(self.0.as_ptr(), &mut channel, &mut target, &mut lun);
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
            ffi::hv_scsi_shim_vendor(self.0.as_ptr())
                .cast::<[u8; 4]>()
                .read_unaligned()
        }
    }

    /// Sets how it is treated: as of standard SPC-3, without WRITE SAME, and after how many seconds
    /// a command is late. REPORT SUPPORTED OPERATION CODES is never used.
    pub(crate) fn configure(&self, spc3: bool, no_write_same: bool, timeout_secs: u32) {
        // SAFETY: The unit is valid and not in use yet.
        unsafe {
            ffi::hv_scsi_shim_configure(self.0.as_ptr(), spc3, no_write_same, timeout_secs);
        };
    }
}
