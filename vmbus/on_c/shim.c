// SPDX-License-Identifier: GPL-2.0
/*
 * The C core as Rust sees it: fields of its structures, which the kernel's
 * header lays out, and its functions where they want more than their arguments.
 *
 * Each channel here is one that its caller holds a reference to.
 */
#include <linux/completion.h>
#include <linux/device.h>
#include <linux/hyperv.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <linux/topology.h>
#include <asm/mshyperv.h>

#include "../mirrored.h"
#include "shim.h"

/* What ../bus/driver.rs declares once more, and asserts with the same numbers. */
HAS_BYTES(hv_vmbus_device_id, 24);
HAS_FIELD(hv_vmbus_device_id, guid, 0, 16);
HAS_FIELD(hv_vmbus_device_id, driver_data, 16, 8);

/* Whether it has found a host. Guests that are isolated have memory that we do not handle. */
bool vmbus_on_c_core_runs(void)
{
	return hv_vmbus_exists() && !hv_is_isolation_supported();
}

u32 vmbus_on_c_version(void)
{
	return vmbus_proto_version;
}

/*
 * The C core reads the pointer to a callback and calls it, without a lock in one
 * case (a sub-channel that is offered), or with one that the close of the channel
 * does not take any more (a channel that was moved). Waits for those who have
 * done the one and not yet the other, and for those who are about to return from
 * there: neither goes to sleep between.
 */
void vmbus_on_c_wait_for_callbacks(void)
{
	synchronize_rcu_tasks();
}

/*
 * Keeps the module for ever where that does not wait for tasks that are preempted;
 * then true is returned. While it is being initialized.
 */
bool vmbus_on_c_keep_module(void)
{
	if (!IS_ENABLED(CONFIG_PREEMPTION) || IS_ENABLED(CONFIG_TASKS_RCU))
		return false;
	__module_get(THIS_MODULE);
	return true;
}

int vmbus_on_c_register(struct hv_driver *drv, const char *name, struct module *owner,
			const struct hv_vmbus_device_id *ids, bool in_order,
			int (*probe)(struct hv_device *, const struct hv_vmbus_device_id *),
			void (*remove)(struct hv_device *))
{
	drv->name = name;
	drv->id_table = ids;
	drv->probe = probe;
	drv->remove = remove;
	/*
	 * Side by side the C core does not wait for a probe, either, before it handles a rescind.
	 */
	drv->driver.probe_type = in_order ? PROBE_FORCE_SYNCHRONOUS : PROBE_PREFER_ASYNCHRONOUS;

	return __vmbus_driver_register(drv, owner, name);
}

void vmbus_on_c_class(const struct hv_device *dev, guid_t *guid)
{
	guid_copy(guid, &dev->dev_type);
}

struct vmbus_channel *vmbus_on_c_channel_of(const struct hv_device *dev)
{
	return dev->channel;
}

/*
 * A sub-channel is not open, and will not be opened again.
 *
 * The close of its primary channel waits for the rescind_event of each sub-channel that is
 * rescinded, open or not, so that it does not remove an open one while its rescind is being
 * handled. But the handling of a rescind signals that once, and not at all for a channel that it
 * finds closed: who closes the primary channel just then, or a second time, would wait for ever. Of
 * a channel that is not open that close removes nothing, and has nothing to wait for.
 */
static void vmbus_on_c_stays_closed(struct vmbus_channel *channel)
{
	if (channel->primary_channel)
		complete_all(&channel->rescind_event);
}

/* The device has a reference to its primary channel; a sub-channel has only its own. */
void vmbus_on_c_get(struct vmbus_channel *channel)
{
	if (channel->primary_channel)
		kobject_get(&channel->kobj);
	else
		get_device(&channel->device_obj->device);
}

void vmbus_on_c_put(struct vmbus_channel *channel)
{
	if (channel->primary_channel) {
		/* One that was never opened. */
		vmbus_on_c_stays_closed(channel);
		kobject_put(&channel->kobj);
	} else {
		put_device(&channel->device_obj->device);
	}
}

struct vmbus_channel *vmbus_on_c_primary(const struct vmbus_channel *channel)
{
	return channel->primary_channel;
}

void vmbus_on_c_instance(const struct vmbus_channel *channel, guid_t *guid)
{
	guid_copy(guid, &channel->offermsg.offer.if_instance);
}

u32 vmbus_on_c_relid(const struct vmbus_channel *channel)
{
	return channel->offermsg.child_relid;
}

u16 vmbus_on_c_index(const struct vmbus_channel *channel)
{
	return channel->offermsg.offer.sub_channel_index;
}

u32 vmbus_on_c_target_cpu(const struct vmbus_channel *channel)
{
	return READ_ONCE(channel->target_cpu);
}

int vmbus_on_c_node(const struct vmbus_channel *channel)
{
	return cpu_to_node(READ_ONCE(channel->target_cpu));
}

bool vmbus_on_c_rescinded(const struct vmbus_channel *channel)
{
	return READ_ONCE(channel->rescind);
}

void vmbus_on_c_signal(struct vmbus_channel *channel)
{
	vmbus_setevent(channel);
}

void vmbus_on_c_signal_room(struct vmbus_channel *channel)
{
	channel->intr_in_full++;
	vmbus_setevent(channel);
}

void vmbus_on_c_count_full(struct vmbus_channel *channel, bool first)
{
	channel->out_full_total++;
	if (first)
		channel->out_full_first++;
}

/*
 * The pages of both rings, in one block as vmbus_alloc_ring() makes them. That writes the
 * channel, which may be another driver's by then, and the C core frees them also when it could
 * not ask the host for them: these are the caller's.
 */
struct page *vmbus_on_c_alloc_ring(const struct vmbus_channel *channel, u32 bytes,
				   unsigned int *order)
{
	*order = get_order(bytes);

	/* Any node, where this one has nothing. */
	return alloc_pages_node(vmbus_on_c_node(channel), GFP_KERNEL | __GFP_ZERO, *order);
}

/* Whether a message went out, after this error, that the host may have acted on. */
static bool vmbus_on_c_in_doubt(const struct vmbus_channel *channel, int error)
{
	/* What vmbus_post_msg() returns; others come before it, or are the host's answer. */
	return (error == -EAGAIN || error == -ENOBUFS || error == -EINVAL) &&
	       !READ_ONCE(channel->rescind);
}

/* No event is told of any more, nor is one being told of. */
void vmbus_on_c_silence(struct vmbus_channel *channel)
{
	unsigned long flags;

	/* As vmbus_reset_channel_cb() does, which is not for modules; nor do we have a tasklet. */
	spin_lock_irqsave(&channel->sched_lock, flags);
	channel->onchannel_callback = NULL;
	spin_unlock_irqrestore(&channel->sched_lock, flags);
}

/* What was ours in a channel that is not open, and silent. */
static void vmbus_on_c_restore(struct vmbus_channel *channel)
{
	vmbus_on_c_stays_closed(channel);
	/* Only called for open channels; see also vmbus_on_c_wait_for_callbacks(). */
	channel->change_target_cpu_callback = NULL;
	/* The mode that every channel has at first; drivers in C may rely on it. */
	set_channel_read_mode(channel, HV_CALL_BATCHED);
}

/* Whether the host may still have the ring that it was told about. */
static bool vmbus_on_c_ring_is_left(const struct vmbus_channel *channel)
{
	return channel->ringbuffer_gpadlhandle.gpadl_handle && !READ_ONCE(channel->rescind);
}

/*
 * Opens the channel, with a block of pages, the first send_pages of them the outgoing ring;
 * *with_host says after an error that the host may have them.
 */
int vmbus_on_c_connect(struct vmbus_channel *channel, struct page *ring, u32 pages,
		       u32 send_pages, void (*event)(void *), void *context,
		       void (*moved)(struct vmbus_channel *, u32, u32), bool *with_host)
{
	struct vmbus_gpadl *gpadl = &channel->ringbuffer_gpadlhandle;
	int ret;

	/*
	 * One that an interrupt of the driver before us has scheduled would call back without the
	 * lock that vmbus_on_c_silence() takes. Without a callback none is scheduled; a driver in C
	 * whose open failed has left its own, which would be called with our context.
	 */
	vmbus_on_c_silence(channel);
	tasklet_kill(&channel->callback_event);

	/* A driver before us may have left its own; what was allocated went with its close. */
	channel->rqstor_size = 0;
	channel->requestor.req_arr = NULL;
	channel->requestor.req_bitmap = NULL;
	channel->max_pkt_size = VMBUS_DEFAULT_MAX_PKT_SIZE;
	channel->change_target_cpu_callback = moved;
	/* The interrupt itself: the C core touches no ring then. */
	set_channel_read_mode(channel, HV_CALL_ISR);

	/*
	 * The C core sets the callback first, and the host may signal before it sets this. Nobody
	 * reads it yet: there is no callback.
	 */
	channel->channel_callback_context = context;
	gpadl->buffer = NULL;
	channel->ringbuffer_page = ring;
	channel->ringbuffer_pagecount = pages;
	channel->ringbuffer_send_offset = send_pages;
	ret = vmbus_connect_ring(channel, event, context);
	channel->ringbuffer_page = NULL;

	if (ret) {
		/* The C core leaves it, and the mapping that other modes mean is gone. */
		vmbus_on_c_silence(channel);
		vmbus_on_c_restore(channel);
		/*
		 * It is set when the host has the ring, and not by an attempt that came to nothing.
		 */
		*with_host = gpadl->buffer ? vmbus_on_c_ring_is_left(channel) :
					     vmbus_on_c_in_doubt(channel, ret);
	}

	return ret;
}

/* Closes a primary channel, and its sub-channels with it. Waits for the host without a bound. */
void vmbus_on_c_close(struct vmbus_channel *channel)
{
	vmbus_close(channel);
}

/*
 * After the close of a channel that was open, or of its primary one: whether the host may still
 * have the ring.
 */
bool vmbus_on_c_closed(struct vmbus_channel *channel)
{
	vmbus_on_c_restore(channel);
	/*
	 * A close that did not work leaves the C core's mapping; the pages are not in the channel.
	 */
	vmbus_free_ring(channel);

	return vmbus_on_c_ring_is_left(channel);
}

/* Tells the host about a buffer; *with_host says after an error that the host may have it. */
int vmbus_on_c_establish(struct vmbus_channel *channel, void *buffer, u32 size, u32 *handle,
			 bool *with_host)
{
	struct vmbus_gpadl gpadl = {};
	int ret;

	ret = vmbus_establish_gpadl(channel, buffer, size, &gpadl);
	*handle = gpadl.gpadl_handle;
	*with_host = ret && vmbus_on_c_in_doubt(channel, ret);

	return ret;
}

/* Asks for a buffer back, without a bound, and returns whether the host may still have it. */
bool vmbus_on_c_teardown(struct vmbus_channel *channel, u32 handle)
{
	/* Nothing is to be encrypted again: see vmbus_on_c_core_runs(). */
	struct vmbus_gpadl gpadl = { .gpadl_handle = handle };

	vmbus_teardown_gpadl(channel, &gpadl);

	return gpadl.gpadl_handle && !READ_ONCE(channel->rescind);
}
