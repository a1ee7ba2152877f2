// SPDX-License-Identifier: GPL-2.0

//! Module parameters, and the machine's CPUs: what `rust/kernel` lacks of them.

use core::num::NonZeroU32;
use kernel::ffi::{c_int, c_uint};

/// What `shim.h` declares.
mod ffi {
    use super::{c_int, c_uint};

    extern "C" {
        pub(super) static hv_storvsc_shim_logging_level: c_int;
        pub(super) static hv_storvsc_shim_ring_size: c_int;
        pub(super) static hv_storvsc_shim_max_hw_queues: c_uint;
        pub(super) static hv_storvsc_shim_vcpus_per_sub_channel: c_int;
        pub(super) static hv_storvsc_shim_low_water: c_int;
        pub(super) static hv_storvsc_shim_answer_secs: c_int;

        pub(super) fn hv_storvsc_shim_cpus(online: bool) -> u32;
        pub(super) fn hv_storvsc_shim_node(cpu: u32) -> c_int;
    }
}

/// The module parameters, as they were read.
pub(crate) struct Parameters {
    /// Bytes of each ring, control page included.
    pub(crate) ring_size: u32,
    /// Most hardware queues; 0 for one per CPU.
    pub(crate) max_hw_queues: u32,
    /// CPUs that share a channel.
    pub(crate) vcpus_per_sub_channel: u32,
    /// Percent of a ring that should stay free.
    pub(crate) low_water_percent: u32,
}

/// Reads a parameter that may be written through sysfs meanwhile; a negative number counts as 0.
///
/// # Safety
///
/// `parameter` must be one of those in `shim.c`.
unsafe fn read(parameter: *const c_int) -> u32 {
    // SAFETY: The variable is always valid; a word is written in one go, hence volatile.
    u32::try_from(unsafe { parameter.read_volatile() }).unwrap_or(0)
}

impl Parameters {
    /// Reads them.
    pub(crate) fn read() -> Self {
        // SAFETY: These are parameters; the one without a sign has the same size, and a number that
        // large makes no sense either.
        unsafe {
            Self {
                ring_size: read(&raw const ffi::hv_storvsc_shim_ring_size),
                max_hw_queues: read((&raw const ffi::hv_storvsc_shim_max_hw_queues).cast()),
                vcpus_per_sub_channel: read(&raw const ffi::hv_storvsc_shim_vcpus_per_sub_channel),
                low_water_percent: read(&raw const ffi::hv_storvsc_shim_low_water),
            }
        }
    }

    /// The parameter `storvsc_answer_secs`, which may change at any time: within how many seconds
    /// the host has to answer. `None` for no limit.
    pub(crate) fn answer_secs() -> Option<NonZeroU32> {
        // SAFETY: It is a parameter.
        NonZeroU32::new(unsafe { read(&raw const ffi::hv_storvsc_shim_answer_secs) })
    }

    /// The parameter `logging_level`, which may change at any time.
    pub(crate) fn logging_level() -> u32 {
        // SAFETY: It is a parameter.
        unsafe { read(&raw const ffi::hv_storvsc_shim_logging_level) }
    }
}

/// The number of CPUs that are online.
pub(crate) fn cpus_online() -> u32 {
    // SAFETY: Reads a counter.
    unsafe { ffi::hv_storvsc_shim_cpus(true) }
}

/// The number of CPUs that are there.
pub(crate) fn cpus_present() -> u32 {
    // SAFETY: Reads a counter.
    unsafe { ffi::hv_storvsc_shim_cpus(false) }
}

/// The NUMA node of a CPU, or -1.
pub(crate) fn node_of(cpu: u32) -> i32 {
    // SAFETY: The function checks the number.
    unsafe { ffi::hv_storvsc_shim_node(cpu) }
}
