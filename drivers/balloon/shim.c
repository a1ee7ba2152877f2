// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust cannot express of the balloon driver: inline functions and macros
 * of the memory management, and module parameters with a mode.
 */
#include <linux/gfp.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/numa.h>
#include <linux/pfn.h>
#include <linux/sched.h>
#include <linux/sizes.h>

#include "../../vmbus/mirrored.h"
#include "shim.h"

/* What memory/ffi.rs declares once more, and asserts with the same numbers. */
HAS_BYTES(hv_balloon_shim_free, 16);
HAS_FIELD(hv_balloon_shim_free, frame, 0, 8);
HAS_FIELD(hv_balloon_shim_free, count, 8, 8);

HAS_BYTES(hv_balloon_shim_status, 48);
HAS_FIELD(hv_balloon_shim_status, available, 0, 8);
HAS_FIELD(hv_balloon_shim_status, committed, 8, 8);
HAS_FIELD(hv_balloon_shim_status, vm_memory_committed, 16, 8);
HAS_FIELD(hv_balloon_shim_status, pages_ballooned, 24, 8);
HAS_FIELD(hv_balloon_shim_status, pages_added, 32, 8);
HAS_FIELD(hv_balloon_shim_status, pages_onlined, 40, 8);

static_assert(HV_BALLOON_SHIM_GOING_ONLINE == 0);
static_assert(HV_BALLOON_SHIM_ONLINE == 1);
static_assert(HV_BALLOON_SHIM_CANCEL_ONLINE == 2);
static_assert(HV_BALLOON_SHIM_OFFLINE == 3);

unsigned int hv_balloon_shim_report_delay = 45;
module_param_named(pressure_report_delay, hv_balloon_shim_report_delay, uint, 0644);
MODULE_PARM_DESC(pressure_report_delay, "Seconds after start-up before memory pressure is reported");

bool hv_balloon_shim_hot_add = true;
module_param_named(hot_add, hv_balloon_shim_hot_add, bool, 0644);
MODULE_PARM_DESC(hot_add, "Take memory that the host adds; read when the device is bound");

unsigned int hv_balloon_shim_never_below;
module_param_named(never_below, hv_balloon_shim_never_below, uint, 0644);
MODULE_PARM_DESC(never_below, "MiB of MemTotal that the host does not get");

unsigned int hv_balloon_shim_never_above;
module_param_named(never_above, hv_balloon_shim_never_above, uint, 0644);
MODULE_PARM_DESC(never_above, "MiB beyond which no memory is added (0: no limit)");

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

/*
 * Keeps the module from being unloaded, unless it is already, or no longer. Whether that is so now.
 */
bool hv_balloon_shim_pin(bool pin)
{
	if (pin)
		return try_module_get(THIS_MODULE);
	module_put(THIS_MODULE);
	return true;
}

/*
 * Memory hot-add. arm64 cannot tell the node of an address that it does not
 * have yet.
 */
#if defined(CONFIG_MEMORY_HOTPLUG) && !defined(CONFIG_ARM64)
/* Who decides on memory that comes online. */
static DEFINE_MUTEX(watch_lock);
static const void *watcher;

/* Under the lock of memory hotplug, for each part of a block. */
static void online_page(struct page *page, unsigned int order)
{
	if (!hv_balloon_rust_come_online(watcher, page_to_pfn(page), order))
		generic_online_page(page, order);
}

static int memory_event(struct notifier_block *nb, unsigned long event, void *data)
{
	const struct memory_notify *memory = data;
	enum hv_balloon_shim_event what;

	switch (event) {
	case MEM_GOING_ONLINE:
		what = HV_BALLOON_SHIM_GOING_ONLINE;
		break;
	case MEM_ONLINE:
		what = HV_BALLOON_SHIM_ONLINE;
		break;
	case MEM_CANCEL_ONLINE:
		what = HV_BALLOON_SHIM_CANCEL_ONLINE;
		break;
	case MEM_OFFLINE:
		what = HV_BALLOON_SHIM_OFFLINE;
		break;
	default:
		return NOTIFY_OK;
	}
	hv_balloon_rust_memory_event(watcher, what, memory->start_pfn, memory->nr_pages);
	return NOTIFY_OK;
}

static struct notifier_block memory_notifier = {
	.notifier_call = memory_event,
};

bool hv_balloon_shim_hot_add_built(void)
{
	return true;
}

/* The frame behind the last one that can be added. */
u64 hv_balloon_shim_end_frame(void)
{
	return PHYS_PFN(mhp_get_pluggable_range(true).end) + 1;
}

/* Blocks come online in parts of at most so many pages, as a power of two. */
unsigned int hv_balloon_shim_max_order(void)
{
	return MAX_PAGE_ORDER;
}

/* Whether the kernel brings memory online when it is added. */
bool hv_balloon_shim_onlines_itself(void)
{
	return mhp_get_default_online_type() != MMOP_OFFLINE;
}

/*
 * From now on @new_watcher is asked about memory that comes online. There is
 * one such callback in the kernel.
 */
int hv_balloon_shim_watch(const void *new_watcher)
{
	int ret;

	mutex_lock(&watch_lock);
	if (watcher) {
		ret = -EBUSY;
		goto out;
	}
	watcher = new_watcher;
	ret = register_memory_notifier(&memory_notifier);
	if (ret)
		goto forget;
	ret = set_online_page_callback(online_page);
	if (!ret)
		goto out;
	unregister_memory_notifier(&memory_notifier);
forget:
	watcher = NULL;
out:
	mutex_unlock(&watch_lock);
	return ret;
}

/* Nobody is asked any more when this returns. */
void hv_balloon_shim_unwatch(void)
{
	mutex_lock(&watch_lock);
	restore_online_page_callback(online_page);
	unregister_memory_notifier(&memory_notifier);
	watcher = NULL;
	mutex_unlock(&watch_lock);
}

int hv_balloon_shim_add_block(unsigned long pfn)
{
	u64 start = PFN_PHYS(pfn);

	return add_memory(memory_add_physaddr_to_nid(start), start, memory_block_size_bytes(),
			  MHP_MERGE_RESOURCE);
}

int hv_balloon_shim_remove_block(unsigned long pfn)
{
#ifdef CONFIG_MEMORY_HOTREMOVE
	return remove_memory(PFN_PHYS(pfn), memory_block_size_bytes());
#else
	return -EOPNOTSUPP;
#endif
}

/* The allocator gets pages that it never had since their block came online. */
void hv_balloon_shim_give(unsigned long pfn, unsigned int order)
{
	generic_online_page(pfn_to_page(pfn), order);
}
#else
bool hv_balloon_shim_hot_add_built(void)
{
	return false;
}

u64 hv_balloon_shim_end_frame(void)
{
	return 0;
}

unsigned int hv_balloon_shim_max_order(void)
{
	return 0;
}

bool hv_balloon_shim_onlines_itself(void)
{
	return false;
}

int hv_balloon_shim_watch(const void *new_watcher)
{
	return -EOPNOTSUPP;
}

void hv_balloon_shim_unwatch(void)
{
}

int hv_balloon_shim_add_block(unsigned long pfn)
{
	return -EOPNOTSUPP;
}

int hv_balloon_shim_remove_block(unsigned long pfn)
{
	return -EOPNOTSUPP;
}

void hv_balloon_shim_give(unsigned long pfn, unsigned int order)
{
}
#endif
