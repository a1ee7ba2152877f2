/* SPDX-License-Identifier: GPL-2.0 */
/* What vmbus/ffi.rs declares again for Rust; keep the two together. */
#ifndef VMBUS_SHIM_H
#define VMBUS_SHIM_H

#include <linux/acpi.h>
#include <linux/types.h>

struct device;
struct device_driver;

u32 vmbus_shim_max_version(void);
u64 vmbus_shim_post_message(const void *input, u32 len);
u64 vmbus_shim_signal_event(u32 connection);
int vmbus_shim_setup_interrupt(void (*handler)(void));
void vmbus_shim_remove_interrupt(void);
void vmbus_shim_hardirq_threaded(void);
u32 vmbus_shim_callback_vector(void);
bool vmbus_shim_auto_eoi(void);
bool vmbus_shim_c_core_active(void);
bool vmbus_shim_is_root_partition(void);
u32 vmbus_shim_vp_number(u32 cpu);
bool vmbus_shim_cpu_present(u32 cpu);
int vmbus_shim_cpu_to_node(u32 cpu);
void *vmbus_shim_acpi_companion(struct device *dev);
int vmbus_shim_driver_override(struct device *dev, const struct device_driver *drv);

#endif
