// SPDX-License-Identifier: GPL-2.0

//! What the core needs from the hypervisor: hypercalls, the SynIC of each CPU and the callback
//! interrupt.
//!
//! The hypercall page, the VP numbers and the interrupt vector are set up by the built-in part of
//! the kernel (`arch/x86/hyperv/hv_init.c`, `drivers/hv/hv_common.c`) and stay there.
//!
//! This folder is one of the rooms where `unsafe` lives; its users are safe code.

pub(crate) mod hypercall;
pub(crate) mod interrupt;
pub(crate) mod synic;

pub(crate) use crate::abstractions::cpus::{is_online as cpu_online, takes_device_interrupts};

use crate::ffi;
use kernel::cpu::CpuId;
use vmbus_protocol::VpIndex;

/// Whether this kernel runs on Hyper-V, or on something that presents itself as such.
pub(crate) fn is_hyperv() -> bool {
    // SAFETY: No requirements; reads a flag set at boot.
    unsafe { ffi::hv_is_hyperv_initialized() }
}

/// Whether this is an isolated (confidential) VM.
pub(crate) fn is_isolated() -> bool {
    // SAFETY: No requirements; reads what CPUID said at boot.
    unsafe { ffi::hv_is_isolation_supported() }
}

/// Whether this kernel is the root partition, which has no VMBus of its own.
pub(crate) fn is_root_partition() -> bool {
    // SAFETY: No requirements; reads what CPUID said at boot.
    unsafe { ffi::vmbus_shim_is_root_partition() }
}

/// Whether the C core has the bus already.
pub(crate) fn c_core_active() -> bool {
    // SAFETY: No requirements; tests a pointer that is set once.
    unsafe { ffi::vmbus_shim_c_core_active() }
}

/// The newest protocol version to offer, from the module parameter `max_version`.
pub(crate) fn max_version() -> u32 {
    // SAFETY: No requirements; the parameter cannot be written after load.
    unsafe { ffi::vmbus_shim_max_version() }
}

/// The number under which the hypervisor knows `cpu` (TLFS section 7.8.1, VP index).
pub(crate) fn vp_index(cpu: CpuId) -> VpIndex {
    // SAFETY: A `CpuId` is below `nr_cpu_ids`, which is the length of the kernel's table.
    VpIndex(unsafe { ffi::vmbus_shim_vp_number(cpu.as_u32()) })
}

/// Whether `cpu` exists in this machine, online or not.
pub(crate) fn cpu_present(cpu: CpuId) -> bool {
    // SAFETY: A `CpuId` is below `nr_cpu_ids`.
    unsafe { ffi::vmbus_shim_cpu_present(cpu.as_u32()) }
}

/// The NUMA node of `cpu`.
pub(crate) fn node_of(cpu: CpuId) -> i32 {
    // SAFETY: A `CpuId` is below `nr_cpu_ids`.
    unsafe { ffi::vmbus_shim_cpu_to_node(cpu.as_u32()) }
}

/// All CPUs that this machine has, online or not.
pub(crate) fn present_cpus() -> impl Iterator<Item = CpuId> {
    (0..kernel::cpu::nr_cpu_ids())
        .filter_map(CpuId::from_u32)
        .filter(|&cpu| cpu_present(cpu))
}
