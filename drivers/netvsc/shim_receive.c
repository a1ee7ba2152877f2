// SPDX-License-Identifier: GPL-2.0
/*
 * What receiving takes: polling, memory for frames, and frames on their way to
 * the stack.
 *
 * A frame is filled piece by piece: a short one in the linear part of an
 * sk_buff, another one in pages of the queue's pool, which get there again when
 * the stack is done with them. A queue fills one frame at a time.
 */
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <net/ip.h>
#include <net/page_pool/helpers.h>
#include <net/xdp.h>

#include "shim_private.h"

/* Pages that a pool keeps at most. */
#define POOL_PAGES 256
static struct hv_napi *queue_of(struct napi_struct *napi)
{
	return container_of(napi, struct hv_napi, napi);
}

/* The first piece of a frame of @len bytes. */
void *hv_netvsc_shim_rx_begin(struct napi_struct *napi, u32 len, u32 *room)
{
	struct hv_napi *queue = queue_of(napi);
	u32 headroom = queue->xdp ? XDP_PACKET_HEADROOM : NET_SKB_PAD + NET_IP_ALIGN;
	u32 size;
	u8 *start;

	if (!queue->xdp && len <= READ_ONCE(private_of(napi->dev)->copybreak)) {
		queue->skb = napi_alloc_skb(napi, len);
		if (!queue->skb)
			return NULL;
		*room = len;
		return __skb_put(queue->skb, len);
	}
	size = min_t(u32, SKB_HEAD_ALIGN(headroom + len), PAGE_SIZE);
	start = page_pool_dev_alloc_va(queue->pool, &size);
	if (!start)
		return NULL;
	*room = min_t(u32, len, SKB_WITH_OVERHEAD(size) - headroom);
	queue->skb = NULL;
	xdp_init_buff(&queue->frame, size, &queue->rxq);
	xdp_prepare_buff(&queue->frame, start, headroom, *room, queue->xdp);
	return queue->frame.data;
}

/* Another piece of the frame, of which @len bytes are missing. */
void *hv_netvsc_shim_rx_more(struct napi_struct *napi, u32 len, u32 *room)
{
	struct hv_napi *queue = queue_of(napi);
	u32 offset, size = min_t(u32, len, PAGE_SIZE);
	struct page *page;

	if (queue->skb)
		return NULL;
	*room = size;
	page = page_pool_dev_alloc(queue->pool, &offset, &size);
	if (!page)
		return NULL;
	if (!xdp_buff_add_frag(&queue->frame, page_to_netmem(page), offset, *room, size)) {
		page_pool_put_full_page(queue->pool, page, true);
		return NULL;
	}
	return page_address(page) + offset;
}

/* The frame is of no use. */
void hv_netvsc_shim_rx_abort(struct napi_struct *napi)
{
	struct hv_napi *queue = queue_of(napi);

	if (queue->skb)
		kfree_skb(queue->skb);
	else
		xdp_return_buff(&queue->frame);
}

static bool fill_ip(struct sk_buff *skb)
{
	struct iphdr *ip;

	if (skb->protocol != htons(ETH_P_IP))
		return true;
	if (skb_headlen(skb) < sizeof(*ip))
		return false;
	ip = (struct iphdr *)skb->data;
	if (ip->ihl < 5 || skb_headlen(skb) < ip->ihl * 4)
		return false;
	ip->check = 0;
	ip->check = ip_fast_csum(ip, ip->ihl);
	return true;
}

/* The frame is whole. */
u32 hv_netvsc_shim_rx_end(struct napi_struct *napi, const struct hv_netvsc_shim_rx *rx)
{
	struct hv_napi *queue = queue_of(napi);
	struct net_device *dev = napi->dev;
	struct sk_buff *skb = queue->skb;
	u32 cast;

	if (skb) {
		skb->protocol = eth_type_trans(skb, dev);
		skb_record_rx_queue(skb, queue->rxq.queue_index);
	} else {
		if (queue->xdp) {
			u32 what = hv_netvsc_shim_xdp_run(queue, rx);

			if (what != HV_NETVSC_SHIM_XDP_PASSED)
				return what;
		}
		skb = xdp_build_skb_from_buff(&queue->frame);
		if (!skb) {
			xdp_return_buff(&queue->frame);
			return HV_NETVSC_SHIM_NOT_BUILT;
		}
	}
	if (unlikely(rx->fill_ip) && !fill_ip(skb)) {
		kfree_skb(skb);
		return HV_NETVSC_SHIM_DROPPED;
	}
	if (rx->l4_good && (dev->features & NETIF_F_RXCSUM))
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	if (rx->hashed && (dev->features & NETIF_F_RXHASH))
		skb_set_hash(skb, rx->hash, PKT_HASH_TYPE_L4);
	if (rx->tagged)
		__vlan_hwaccel_put_tag(skb, htons(ETH_P_8021Q), rx->vlan);
	cast = skb->pkt_type == PACKET_MULTICAST || skb->pkt_type == PACKET_BROADCAST ?
		HV_NETVSC_SHIM_MULTICAST : HV_NETVSC_SHIM_UNICAST;
	napi_gro_receive(napi, skb);
	return cast;
}

static int poll(struct napi_struct *napi, int budget)
{
	struct hv_napi *queue = queue_of(napi);
	int work;

	/*
	 * netpoll wants sent frames back, and nothing else may be done: the program is not for it.
	 */
	if (!budget)
		return hv_netvsc_rust_poll(queue->data, napi, 0);
	queue->xdp = rcu_dereference_bh(private_of(napi->dev)->xdp);
	work = hv_netvsc_rust_poll(queue->data, napi, budget);
	if (queue->redirected) {
		queue->redirected = false;
		xdp_do_flush();
	}
	if (work >= budget)
		return budget;
	/* Another poll may run from here on. */
	napi_complete_done(napi, work);
	return work;
}

static int get_memory(struct hv_napi *queue, struct net_device *dev, u32 index)
{
	const struct page_pool_params params = {
		.pool_size = POOL_PAGES,
		.nid = NUMA_NO_NODE,
		.napi = &queue->napi,
		.netdev = dev,
		.queue_idx = index,
	};
	int err;

	queue->pool = page_pool_create(&params);
	if (IS_ERR(queue->pool))
		return PTR_ERR(queue->pool);
	err = xdp_rxq_info_reg(&queue->rxq, dev, index, queue->napi.napi_id);
	if (err)
		goto no_info;
	err = xdp_rxq_info_reg_mem_model(&queue->rxq, MEM_TYPE_PAGE_POOL, queue->pool);
	if (err)
		goto no_model;
	return 0;
no_model:
	xdp_rxq_info_unreg(&queue->rxq);
no_info:
	page_pool_destroy(queue->pool);
	return err;
}

struct napi_struct *hv_netvsc_shim_napi_add(struct net_device *dev, u32 index, void *data)
{
	struct hv_napi *queue = kzalloc(sizeof(*queue), GFP_KERNEL);

	if (!queue)
		return NULL;
	queue->data = data;
	netif_napi_add(dev, &queue->napi, poll);
	if (get_memory(queue, dev, index)) {
		netif_napi_del(&queue->napi);
		kfree(queue);
		return NULL;
	}
	return &queue->napi;
}

void hv_netvsc_shim_napi_del(struct napi_struct *napi)
{
	struct hv_napi *queue = queue_of(napi);

	/* The pool knows the NAPI, and the stack may still have its pages. */
	xdp_rxq_info_unreg(&queue->rxq);
	page_pool_destroy(queue->pool);
	netif_napi_del(napi);
	kfree(queue);
}

void hv_netvsc_shim_napi_schedule(struct napi_struct *napi)
{
	napi_schedule(napi);
}

/* From a context that may sleep, where no softirq would follow by itself. */
void hv_netvsc_shim_napi_kick(struct napi_struct *napi)
{
	local_bh_disable();
	napi_schedule(napi);
	local_bh_enable();
}
