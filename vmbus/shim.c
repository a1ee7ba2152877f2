// SPDX-License-Identifier: GPL-2.0
/*
 * The part of the core that Rust cannot express: inline functions and macros
 * of asm/mshyperv.h (the hypercall goes through a static call), and module
 * parameters with a sysfs mode. Nothing here decides anything.
 */
#include <linux/acpi.h>
#include <linux/cpumask.h>
#include <linux/device.h>
#include <linux/hyperv.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/percpu.h>
#include <linux/topology.h>
#include <asm/irq_vectors.h>
#include <asm/mshyperv.h>

#include "mirrored.h"
#include "shim.h"

/* What bus/driver.rs declares once more, and asserts with the same numbers. */
HAS_BYTES(hv_vmbus_device_id, 24);
HAS_FIELD(hv_vmbus_device_id, guid, 0, 16);
HAS_FIELD(hv_vmbus_device_id, driver_data, 16, 8);

static uint max_version = VERSION_WIN10_V6_0;
module_param(max_version, uint, 0444);
MODULE_PARM_DESC(max_version,
		 "Newest VMBus protocol version to offer, major << 16 | minor (default: 6.0)");

u32 vmbus_shim_max_version(void)
{
	return max_version;
}

static u64 vmbus_shim_nested(void)
{
	return hv_nested ? HV_HYPERCALL_NESTED : 0;
}

u64 vmbus_shim_post_message(const void *input, u32 len)
{
	unsigned long flags;
	void *page;
	u64 status;

	if (len > HV_HYP_PAGE_SIZE)
		return HV_STATUS_INVALID_PARAMETER;

	/* The input page belongs to the CPU: nobody else may use it until the call is over. */
	local_irq_save(flags);
	page = *this_cpu_ptr(hyperv_pcpu_input_arg);
	memcpy(page, input, len);
	status = hv_do_hypercall(HVCALL_POST_MESSAGE | vmbus_shim_nested(), page, NULL);
	local_irq_restore(flags);

	return hv_result(status);
}

u64 vmbus_shim_signal_event(u32 connection)
{
	/* The 64-bit form: the control word carries the nested bit, which is bit 31. */
	return hv_result(_hv_do_fast_hypercall8(HVCALL_SIGNAL_EVENT | HV_HYPERCALL_FAST_BIT |
						vmbus_shim_nested(), connection));
}

void vmbus_shim_hardirq_threaded(void)
{
	lockdep_hardirq_threaded();
}

u32 vmbus_shim_callback_vector(void)
{
	return HYPERVISOR_CALLBACK_VECTOR;
}

bool vmbus_shim_auto_eoi(void)
{
	return hv_recommend_using_aeoi();
}

bool vmbus_shim_c_core_active(void)
{
	/* As a module the C core must not be pulled in by a symbol reference. */
#if IS_BUILTIN(CONFIG_HYPERV_VMBUS)
	return hv_vmbus_exists();
#else
	return false;
#endif
}

bool vmbus_shim_is_root_partition(void)
{
	return hv_root_partition() && !hv_nested;
}

u32 vmbus_shim_vp_number(u32 cpu)
{
	return hv_cpu_number_to_vp_number(cpu);
}

bool vmbus_shim_cpu_present(u32 cpu)
{
	return cpu_present(cpu);
}

int vmbus_shim_cpu_to_node(u32 cpu)
{
	return cpu_to_node(cpu);
}

void *vmbus_shim_acpi_companion(struct device *dev)
{
	struct acpi_device *adev = ACPI_COMPANION(dev);

	return adev ? &adev->dev : NULL;
}

int vmbus_shim_driver_override(struct device *dev, const struct device_driver *drv)
{
	return device_match_driver_override(dev, drv);
}
