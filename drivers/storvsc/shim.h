/* SPDX-License-Identifier: GPL-2.0 */
/* Declared once more in params.rs: keep the two in step. */
#ifndef _HV_STORVSC_SHIM_H
#define _HV_STORVSC_SHIM_H

#include <linux/types.h>

extern int hv_storvsc_shim_logging_level;
extern int hv_storvsc_shim_ring_size;
extern unsigned int hv_storvsc_shim_max_hw_queues;
extern int hv_storvsc_shim_vcpus_per_sub_channel;
extern int hv_storvsc_shim_low_water;
extern int hv_storvsc_shim_answer_secs;

u32 hv_storvsc_shim_cpus(bool online);
int hv_storvsc_shim_node(u32 cpu);

#endif
