// SPDX-License-Identifier: GPL-2.0

//! How much memory the guest has, and two more things to ask the kernel.

use super::ffi;
use balloon_protocol::policy::Limits;
use kernel::{bindings, page::PAGE_SIZE};

/// Whether a page of the guest is a page of the protocol.
///
/// The host counts in units of 4 KiB and may take back any of them. With larger pages the guest
/// could give whole pages only and would have to take back parts, so there is no ballooning then.
pub(crate) const HOST_PAGES_FIT: bool = PAGE_SIZE == 4096;

/// A look at the memory of the guest, in pages of the guest.
#[derive(Clone, Copy)]
pub(crate) struct MemInfo {
    /// What could be given away without swapping, as an estimate.
    pub(crate) available: u64,
    /// What processes have been promised.
    pub(crate) committed: u64,
    /// What the guest can use; pages in the balloon do not count.
    pub(crate) total: u64,
}

impl MemInfo {
    /// Asks the kernel. Adds up per-CPU counters, so it is not for a hot path.
    pub(crate) fn now() -> Self {
        // SAFETY: Reads counters and has no requirements.
        let available = unsafe { bindings::si_mem_available() };
        // SAFETY: As above.
        let committed = unsafe { ffi::vm_memory_committed() };
        // SAFETY: As above.
        let total = unsafe { ffi::hv_balloon_shim_totalram() };

        Self {
            available: u64::try_from(available).unwrap_or(0),
            committed: committed as u64,
            total: total as u64,
        }
    }
}

/// Returns whether the guest may hibernate (ACPI S4). The host does not remember over that which
/// frames it holds.
pub(crate) fn hibernation_possible() -> bool {
    // SAFETY: Asks ACPI for a sleep state; has no requirements after boot.
    unsafe { ffi::hv_is_hibernation_supported() }
}

/// Returns the size of the blocks in which memory can be added.
pub(crate) fn memory_block_bytes() -> u64 {
    // SAFETY: Returns a value that is settled during boot.
    let bytes = unsafe { ffi::hv_balloon_shim_block_bytes() };

    bytes as u64
}

/// Returns the module parameter `pressure_report_delay`.
pub(crate) fn report_delay_secs() -> u32 {
    // SAFETY: The variable is always valid. It may be written through sysfs at any time, hence
    // volatile; a word is written in one go.
    unsafe { (&raw const ffi::hv_balloon_shim_report_delay).read_volatile() }
}

/// Returns what the administrator allows.
pub(crate) fn limits() -> Limits {
    // SAFETY: The variables are always valid. They may be written through sysfs at any time, hence
    // volatile; a word is written in one go.
    let (below, above) = unsafe {
        (
            (&raw const ffi::hv_balloon_shim_never_below).read_volatile(),
            (&raw const ffi::hv_balloon_shim_never_above).read_volatile(),
        )
    };

    Limits::from_mib(below, above)
}
