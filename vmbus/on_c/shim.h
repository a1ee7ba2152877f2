/* SPDX-License-Identifier: GPL-2.0 */
/* What vmbus/on_c/ffi.rs declares again for Rust; keep the two together. */
#ifndef VMBUS_ON_C_SHIM_H
#define VMBUS_ON_C_SHIM_H

#include <linux/hyperv.h>
#include <linux/types.h>

bool vmbus_on_c_core_runs(void);
u32 vmbus_on_c_version(void);
void vmbus_on_c_wait_for_callbacks(void);
bool vmbus_on_c_keep_module(void);

int vmbus_on_c_register(struct hv_driver *drv, const char *name, struct module *owner,
			const struct hv_vmbus_device_id *ids, bool in_order,
			int (*probe)(struct hv_device *, const struct hv_vmbus_device_id *),
			void (*remove)(struct hv_device *));
void vmbus_on_c_class(const struct hv_device *dev, guid_t *guid);
struct vmbus_channel *vmbus_on_c_channel_of(const struct hv_device *dev);

void vmbus_on_c_get(struct vmbus_channel *channel);
void vmbus_on_c_put(struct vmbus_channel *channel);
struct vmbus_channel *vmbus_on_c_primary(const struct vmbus_channel *channel);
void vmbus_on_c_instance(const struct vmbus_channel *channel, guid_t *guid);
u32 vmbus_on_c_relid(const struct vmbus_channel *channel);
u16 vmbus_on_c_index(const struct vmbus_channel *channel);
u32 vmbus_on_c_target_cpu(const struct vmbus_channel *channel);
int vmbus_on_c_node(const struct vmbus_channel *channel);
bool vmbus_on_c_rescinded(const struct vmbus_channel *channel);

void vmbus_on_c_signal(struct vmbus_channel *channel);
void vmbus_on_c_signal_room(struct vmbus_channel *channel);
void vmbus_on_c_count_full(struct vmbus_channel *channel, bool first);

struct page *vmbus_on_c_alloc_ring(const struct vmbus_channel *channel, u32 bytes,
				   unsigned int *order);
int vmbus_on_c_connect(struct vmbus_channel *channel, struct page *ring, u32 pages,
		       u32 send_pages, void (*event)(void *), void *context,
		       void (*moved)(struct vmbus_channel *, u32, u32), bool *with_host);
void vmbus_on_c_silence(struct vmbus_channel *channel);
void vmbus_on_c_close(struct vmbus_channel *channel);
bool vmbus_on_c_closed(struct vmbus_channel *channel);

int vmbus_on_c_establish(struct vmbus_channel *channel, void *buffer, u32 size, u32 *handle,
			 bool *with_host);
bool vmbus_on_c_teardown(struct vmbus_channel *channel, u32 handle);

#endif
