// SPDX-License-Identifier: GPL-2.0
/*
 * The same for memory and CPUs, with both cores: inline functions, and the
 * page protection macros.
 */
#include <linux/cpumask.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/sched/isolation.h>
#include <linux/sched/mm.h>
#include <linux/vmalloc.h>

#include "shim_memory.h"

bool vmbus_shim_cpu_online(u32 cpu)
{
	return cpu_online(cpu);
}

bool vmbus_shim_cpu_housekeeping(u32 cpu)
{
	return cpumask_test_cpu(cpu, housekeeping_cpumask(HK_TYPE_MANAGED_IRQ));
}

phys_addr_t vmbus_shim_virt_to_phys(const void *addr)
{
	return virt_to_phys((void *)addr);
}

struct page *vmbus_shim_alloc_block(int node, unsigned int order)
{
	gfp_t gfp = GFP_KERNEL | __GFP_ZERO;

	/* A large block is worth a look, but neither reclaim nor a line in the log. */
	if (order)
		gfp = (gfp & ~__GFP_DIRECT_RECLAIM) | __GFP_NOWARN;

	return alloc_pages_node(node, gfp, order);
}

u64 vmbus_shim_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

unsigned int vmbus_shim_noio_save(void)
{
	return memalloc_noio_save();
}

void vmbus_shim_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}

void vmbus_shim_reclaim_begin(void)
{
	fs_reclaim_acquire(GFP_KERNEL);
}

void vmbus_shim_reclaim_end(void)
{
	fs_reclaim_release(GFP_KERNEL);
}

void *vmbus_shim_vmap(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL);
}
