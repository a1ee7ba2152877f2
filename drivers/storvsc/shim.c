// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust cannot express of the storage driver itself: module parameters with a
 * mode, and how many CPUs there are. Nothing here decides anything. What is about
 * SCSI is in scsi/shim.c.
 */
#include <linux/cpumask.h>
#include <linux/moduleparam.h>
#include <linux/topology.h>

#include "shim.h"

int hv_storvsc_shim_logging_level = 1;
module_param_named(logging_level, hv_storvsc_shim_logging_level, int, 0644);
MODULE_PARM_DESC(logging_level, "Logging level, 0 - none, 1 - errors (default), 2 - warnings");

int hv_storvsc_shim_ring_size = 128 * 1024;
module_param_named(storvsc_ringbuffer_size, hv_storvsc_shim_ring_size, int, 0444);
MODULE_PARM_DESC(storvsc_ringbuffer_size, "Ring buffer size (bytes)");

unsigned int hv_storvsc_shim_max_hw_queues;
module_param_named(storvsc_max_hw_queues, hv_storvsc_shim_max_hw_queues, uint, 0644);
MODULE_PARM_DESC(storvsc_max_hw_queues, "Maximum number of hardware queues");

int hv_storvsc_shim_vcpus_per_sub_channel = 4;
module_param_named(storvsc_vcpus_per_sub_channel, hv_storvsc_shim_vcpus_per_sub_channel, int,
		   0444);
MODULE_PARM_DESC(storvsc_vcpus_per_sub_channel, "Ratio of VCPUs to sub-channels");

int hv_storvsc_shim_low_water = 10;
module_param_named(ring_avail_percent_lowater, hv_storvsc_shim_low_water, int, 0444);
MODULE_PARM_DESC(ring_avail_percent_lowater,
		 "Prefer channels with more of the ring free than this, in percent");

int hv_storvsc_shim_answer_secs;
module_param_named(storvsc_answer_secs, hv_storvsc_shim_answer_secs, int, 0644);
MODULE_PARM_DESC(storvsc_answer_secs,
		 "Seconds in which the host must answer a command, or else is reset, and must get done with a reset, or else is given up (default: 0, no limit)");

u32 hv_storvsc_shim_cpus(bool online)
{
	return online ? num_online_cpus() : num_present_cpus();
}

int hv_storvsc_shim_node(u32 cpu)
{
	return cpu < nr_cpu_ids ? cpu_to_node(cpu) : NUMA_NO_NODE;
}
