/* SPDX-License-Identifier: GPL-2.0 */
/* Declared once more in memory/ffi.rs: keep the two in step. */
#ifndef _HV_BALLOON_SHIM_H
#define _HV_BALLOON_SHIM_H

#include <linux/types.h>

struct page;

extern unsigned int hv_balloon_shim_report_delay;

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

#endif
