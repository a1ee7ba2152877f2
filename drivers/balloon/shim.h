/* SPDX-License-Identifier: GPL-2.0 */
/* Declared once more in memory/ffi.rs: keep the two in step. */
#ifndef _HV_BALLOON_SHIM_H
#define _HV_BALLOON_SHIM_H

#include <linux/types.h>

struct page;

extern unsigned int hv_balloon_shim_report_delay;
extern bool hv_balloon_shim_hot_add;
extern unsigned int hv_balloon_shim_never_below;
extern unsigned int hv_balloon_shim_never_above;

/* What the kernel says of memory blocks. */
enum hv_balloon_shim_event {
	HV_BALLOON_SHIM_GOING_ONLINE,
	HV_BALLOON_SHIM_ONLINE,
	HV_BALLOON_SHIM_CANCEL_ONLINE,
	HV_BALLOON_SHIM_OFFLINE,
};

struct page *hv_balloon_shim_alloc(unsigned int order);
unsigned long hv_balloon_shim_pfn(const struct page *page);
struct page *hv_balloon_shim_page(unsigned long pfn);
void hv_balloon_shim_set_offline(struct page *page, unsigned int nr);
void hv_balloon_shim_clear_offline(struct page *page, unsigned int nr);
void hv_balloon_shim_account(struct page *page, long nr);
bool hv_balloon_shim_same_zone(const struct page *a, const struct page *b);
unsigned long hv_balloon_shim_totalram(void);
unsigned long hv_balloon_shim_block_bytes(void);
void hv_balloon_shim_cond_resched(void);

bool hv_balloon_shim_hot_add_built(void);
u64 hv_balloon_shim_end_frame(void);
unsigned int hv_balloon_shim_max_order(void);
bool hv_balloon_shim_onlines_itself(void);
int hv_balloon_shim_watch(const void *watcher);
void hv_balloon_shim_unwatch(void);
int hv_balloon_shim_add_block(unsigned long pfn);
int hv_balloon_shim_remove_block(unsigned long pfn);
void hv_balloon_shim_give(unsigned long pfn, unsigned int order);
bool hv_balloon_shim_pin(bool pin);

/* Free memory, in pages of 4 KiB. */
struct hv_balloon_shim_free {
	u64 frame;
	u64 count;
};

/* Most of it that is told of at a time. */
#define HV_BALLOON_SHIM_MAX_FREE 32

typedef int (*hv_balloon_shim_listen_fn)(const void *listener,
					 const struct hv_balloon_shim_free *ranges, unsigned int nr);

int hv_balloon_shim_reporting_possible(void);
int hv_balloon_shim_listen(const void *listener, hv_balloon_shim_listen_fn fn);
void hv_balloon_shim_unlisten(void);
unsigned int hv_balloon_shim_reporting_order(void);
void hv_balloon_shim_report_large_only(void);
u16 hv_balloon_shim_hint(const u64 *words, unsigned int nr);

/* What is reported, in units of 4 KiB, and what it is made of, in pages. */
struct hv_balloon_shim_status {
	u64 available;
	u64 committed;
	u64 vm_memory_committed;
	u64 pages_ballooned;
	u64 pages_added;
	u64 pages_onlined;
};

struct dentry;

void hv_balloon_shim_trace_status(const struct hv_balloon_shim_status *status);
struct dentry *hv_balloon_shim_link(const char *name, const char *target);
void hv_balloon_shim_unlink(struct dentry *link);

/* memory/hot_add.rs */
bool hv_balloon_rust_come_online(const void *watcher, unsigned long pfn, unsigned int order);
void hv_balloon_rust_memory_event(const void *watcher, unsigned int event, unsigned long pfn,
				  unsigned long nr);

#endif
