/* SPDX-License-Identifier: GPL-2.0 */
/* What vmbus/ffi/memory.rs declares again for Rust; keep the two together. */
#ifndef VMBUS_SHIM_MEMORY_H
#define VMBUS_SHIM_MEMORY_H

#include <linux/types.h>

struct page;

bool vmbus_shim_cpu_online(u32 cpu);
bool vmbus_shim_cpu_housekeeping(u32 cpu);
phys_addr_t vmbus_shim_virt_to_phys(const void *addr);
struct page *vmbus_shim_alloc_block(int node, unsigned int order);
u64 vmbus_shim_page_to_pfn(const struct page *page);
unsigned int vmbus_shim_noio_save(void);
void vmbus_shim_noio_restore(unsigned int flags);
void vmbus_shim_reclaim_begin(void);
void vmbus_shim_reclaim_end(void);
void *vmbus_shim_vmap(struct page **pages, unsigned int count);

#endif
