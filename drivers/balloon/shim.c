// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust cannot express of the balloon driver: inline functions and macros
 * of the memory management, and module parameters with a mode.
 */
#include <linux/gfp.h>
#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/sizes.h>

#include "shim.h"

unsigned int hv_balloon_shim_report_delay = 45;
module_param_named(pressure_report_delay, hv_balloon_shim_report_delay, uint, 0644);
MODULE_PARM_DESC(pressure_report_delay, "Seconds after start-up before memory pressure is reported");

struct page *hv_balloon_shim_alloc(unsigned int order)
{
	/* Take what is there, but neither warn nor use reserves nor try hard. */
	return alloc_pages(GFP_HIGHUSER | __GFP_NORETRY | __GFP_NOMEMALLOC | __GFP_NOWARN, order);
}

unsigned long hv_balloon_shim_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

struct page *hv_balloon_shim_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

void hv_balloon_shim_set_offline(struct page *page, unsigned int nr)
{
	for (; nr; nr--)
		__SetPageOffline(page++);
}

void hv_balloon_shim_clear_offline(struct page *page, unsigned int nr)
{
	for (; nr; nr--)
		__ClearPageOffline(page++);
}

/* Counts @nr pages of one zone as given away, or as taken back if negative. */
void hv_balloon_shim_account(struct page *page, long nr)
{
	mod_node_page_state(page_pgdat(page), NR_BALLOON_PAGES, nr);
	adjust_managed_page_count(page, -nr);
}

bool hv_balloon_shim_same_zone(const struct page *a, const struct page *b)
{
	return page_zone(a) == page_zone(b);
}

unsigned long hv_balloon_shim_totalram(void)
{
	return totalram_pages();
}

/* The unit of memory hot-add. */
unsigned long hv_balloon_shim_block_bytes(void)
{
#ifdef CONFIG_MEMORY_HOTPLUG
	return memory_block_size_bytes();
#else
	return SZ_128M;
#endif
}

void hv_balloon_shim_cond_resched(void)
{
	cond_resched();
}
