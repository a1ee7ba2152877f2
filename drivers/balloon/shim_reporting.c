// SPDX-License-Identifier: GPL-2.0
/*
 * Free page reporting for Rust: being the one who hears of free memory, and the
 * hypercall that tells the host of it.
 */
#include <linux/build_bug.h>
#include <linux/err.h>
#include <linux/hyperv.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/page_reporting.h>
#include <linux/percpu.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <hyperv/hvhdk.h>
#include <asm/mshyperv.h>

#include "shim.h"

#if IS_ENABLED(CONFIG_PAGE_REPORTING)
extern unsigned int page_reporting_order;

/* Who hears of it. There is one in the kernel. */
static DEFINE_MUTEX(reporting_lock);
static const void *listener;
static hv_balloon_shim_listen_fn heard;

static int report(struct page_reporting_dev_info *info, struct scatterlist *sgl, unsigned int nents)
{
	struct hv_balloon_shim_free ranges[PAGE_REPORTING_CAPACITY];
	struct scatterlist *sg;
	unsigned int i;

	BUILD_BUG_ON(PAGE_REPORTING_CAPACITY > HV_BALLOON_SHIM_MAX_FREE);
	if (nents > PAGE_REPORTING_CAPACITY)
		return -EINVAL;
	for_each_sg(sgl, sg, nents, i) {
		ranges[i].frame = page_to_hvpfn(sg_page(sg));
		ranges[i].count = sg->length >> HV_HYP_PAGE_SHIFT;
	}
	return heard(listener, ranges, nents);
}

static struct page_reporting_dev_info reporting = {
	.report = report,
	.order = PAGE_REPORTING_ORDER_UNSPECIFIED,
};

/*
 * Whether the host takes hints; -EOPNOTSUPP if the kernel has no free page reporting, or has a
 * pattern in free pages: what the host took comes back as zeros, which it would take for
 * corruption.
 */
int hv_balloon_shim_reporting_possible(void)
{
	if (page_poisoning_enabled_static())
		return -EOPNOTSUPP;
	return hv_query_ext_cap(HV_EXT_CAPABILITY_MEMORY_COLD_DISCARD_HINT);
}

/*
 * From now on @fn hears of free memory, with @new_listener. In process context, several at a time
 * never.
 */
int hv_balloon_shim_listen(const void *new_listener, hv_balloon_shim_listen_fn fn)
{
	int ret = -EBUSY;

	mutex_lock(&reporting_lock);
	if (!listener) {
		listener = new_listener;
		heard = fn;
		ret = page_reporting_register(&reporting);
		if (ret)
			listener = NULL;
	}
	mutex_unlock(&reporting_lock);
	return ret;
}

/* Nobody hears any more when this returns. Waits for who does. */
void hv_balloon_shim_unlisten(void)
{
	mutex_lock(&reporting_lock);
	page_reporting_unregister(&reporting);
	listener = NULL;
	mutex_unlock(&reporting_lock);
}

/* The smallest block of pages that is reported, as a power of two. */
unsigned int hv_balloon_shim_reporting_order(void)
{
	return READ_ONCE(page_reporting_order);
}

/* Nothing smaller is reported than 2 MiB, or a block of the kernel's where those are larger. */
void hv_balloon_shim_report_large_only(void)
{
	WRITE_ONCE(page_reporting_order, max_t(unsigned int, pageblock_order, get_order(SZ_2M)));
}
#else
int hv_balloon_shim_reporting_possible(void)
{
	return -EOPNOTSUPP;
}

int hv_balloon_shim_listen(const void *new_listener, hv_balloon_shim_listen_fn fn)
{
	return -EOPNOTSUPP;
}

void hv_balloon_shim_unlisten(void)
{
}

unsigned int hv_balloon_shim_reporting_order(void)
{
	return 0;
}

void hv_balloon_shim_report_large_only(void)
{
}
#endif

/*
 * The memory heat hint: @words are its type, and @nr - 1 ranges. Returns the
 * hypervisor's status. A host that stops in the middle is asked to go on, as long
 * as it makes progress.
 */
u16 hv_balloon_shim_hint(const u64 *words, unsigned int nr)
{
	u64 control, status = HV_STATUS_OPERATION_DENIED;
	unsigned int start = 0, done;
	unsigned long flags;
	void *page;

	if (nr < 2 || nr > HV_HYP_PAGE_SIZE / sizeof(*words))
		return HV_STATUS_OPERATION_DENIED;
	control = HV_EXT_CALL_MEMORY_HEAT_HINT | (u64)(nr - 1) << HV_HYPERCALL_REP_COMP_OFFSET;

	/* The input page belongs to the CPU: nobody else may use it until the call is over. */
	local_irq_save(flags);
	page = *this_cpu_ptr(hyperv_pcpu_input_arg);
	while (page && start < nr - 1) {
		memcpy(page, words, nr * sizeof(*words));
		status = hv_do_hypercall(control | (u64)start << HV_HYPERCALL_REP_START_OFFSET,
					 page, NULL);
		if (!hv_result_success(status))
			break;
		done = hv_repcomp(status);
		if (done <= start || done > nr - 1) {
			status = HV_STATUS_OPERATION_DENIED;
			break;
		}
		start = done;
	}
	local_irq_restore(flags);

	return hv_result(status);
}
