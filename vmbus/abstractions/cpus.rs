// SPDX-License-Identifier: GPL-2.0

//! What CPUs are there for.
//!
//! C headers: [`include/linux/cpumask.h`](srctree/include/linux/cpumask.h),
//! [`include/linux/sched/isolation.h`](srctree/include/linux/sched/isolation.h)

use crate::ffi;
use kernel::cpu::CpuId;

/// Whether `cpu` is online and takes the interrupts of devices: the administrator can isolate some
/// from them, with `isolcpus=managed_irq`. Stable only while CPU hotplug is held off.
pub fn takes_device_interrupts(cpu: CpuId) -> bool {
    // SAFETY: A `CpuId` is below `nr_cpu_ids`.
    unsafe {
        ffi::vmbus_shim_cpu_housekeeping(cpu.as_u32()) && ffi::vmbus_shim_cpu_online(cpu.as_u32())
    }
}

/// Whether `cpu` is online. Stable only while CPU hotplug is held off.
pub fn is_online(cpu: CpuId) -> bool {
    // SAFETY: A `CpuId` is below `nr_cpu_ids`.
    unsafe { ffi::vmbus_shim_cpu_online(cpu.as_u32()) }
}
