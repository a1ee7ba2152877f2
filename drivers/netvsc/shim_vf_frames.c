// SPDX-License-Identifier: GPL-2.0
/* Frames that go by a virtual function: sent while the host says so, received at any time. */
#include <linux/netdevice.h>
#include <linux/netpoll.h>
#include <linux/skbuff.h>
#include <net/sch_generic.h>

#include "shim_private.h"

/* Frames that the function has received are the device's. In the stack's receive path. */
rx_handler_result_t hv_netvsc_shim_vf_receive(struct sk_buff **pskb)
{
	struct sk_buff *skb = skb_share_check(*pskb, GFP_ATOMIC);
	struct hv_vf_stats *stats;
	struct net_device *dev;

	if (unlikely(!skb))
		return RX_HANDLER_CONSUMED;
	*pskb = skb;
	dev = rcu_dereference(skb->dev->rx_handler_data);
	skb->dev = dev;
	stats = this_cpu_ptr(private_of(dev)->vf_stats);
	u64_stats_update_begin(&stats->syncp);
	u64_stats_inc(&stats->rx_packets);
	u64_stats_add(&stats->rx_bytes, skb->len);
	u64_stats_update_end(&stats->syncp);
	return RX_HANDLER_ANOTHER;
}

/*
 * Whether frames can go by the function now. netpoll sends with interrupts off, which the
 * function's queue forbids.
 */
static bool carries(struct net_device *dev, const struct net_device *function)
{
	return netif_running(function) && netif_carrier_ok(function) && !netpoll_tx_running(dev);
}

/* Sends a frame by the function. False when it is still the caller's. */
bool hv_netvsc_shim_vf_xmit(struct sk_buff *skb, struct net_device *dev,
			    struct net_device *function)
{
	struct private *private = netdev_priv(dev);
	unsigned int len = skb->len;
	struct hv_vf_stats *stats;
	int rc;

	if (!carries(dev, function))
		return false;
	skb->dev = function;
	if (dev->real_num_tx_queues > 1)
		skb_record_rx_queue(skb, qdisc_skb_cb(skb)->slave_dev_queue_mapping);
	rc = dev_queue_xmit(skb);
	/* It may have gone to another CPU's queue, but we are still on this one. */
	stats = this_cpu_ptr(private->vf_stats);
	u64_stats_update_begin(&stats->syncp);
	if (likely(rc == NET_XMIT_SUCCESS || rc == NET_XMIT_CN)) {
		u64_stats_inc(&stats->tx_packets);
		u64_stats_add(&stats->tx_bytes, len);
	} else {
		u64_stats_inc(&stats->tx_dropped);
	}
	u64_stats_update_end(&stats->syncp);
	return true;
}

/*
 * The queue that the function would take; it is kept for it, since it may have more than the
 * device.
 */
u16 hv_netvsc_shim_vf_select(struct net_device *dev, struct sk_buff *skb,
			     struct net_device *function, struct net_device *sb_dev)
{
	const struct net_device_ops *ops = function->netdev_ops;
	u16 queue;

	if (ops->ndo_select_queue)
		queue = ops->ndo_select_queue(function, skb, sb_dev);
	else
		queue = netdev_pick_tx(function, skb, NULL);
	qdisc_skb_cb(skb)->slave_dev_queue_mapping = queue;
	return queue % dev->real_num_tx_queues;
}

/* Of one CPU. */
void hv_netvsc_shim_vf_stats(struct net_device *dev, unsigned int cpu,
			     struct hv_netvsc_shim_vf_stats *sum)
{
	const struct hv_vf_stats *stats = per_cpu_ptr(private_of(dev)->vf_stats, cpu);
	struct hv_netvsc_shim_vf_stats now;
	unsigned int start;

	do {
		start = u64_stats_fetch_begin(&stats->syncp);
		now.rx_packets = u64_stats_read(&stats->rx_packets);
		now.rx_bytes = u64_stats_read(&stats->rx_bytes);
		now.tx_packets = u64_stats_read(&stats->tx_packets);
		now.tx_bytes = u64_stats_read(&stats->tx_bytes);
		now.tx_dropped = u64_stats_read(&stats->tx_dropped);
	} while (u64_stats_fetch_retry(&stats->syncp, start));
	sum->rx_packets += now.rx_packets;
	sum->rx_bytes += now.rx_bytes;
	sum->tx_packets += now.tx_packets;
	sum->tx_bytes += now.tx_bytes;
	sum->tx_dropped += now.tx_dropped;
}

/* Of all of them. */
void hv_netvsc_shim_vf_total(struct net_device *dev, struct hv_netvsc_shim_vf_stats *sum)
{
	unsigned int cpu;

	memset(sum, 0, sizeof(*sum));
	for_each_possible_cpu(cpu)
		hv_netvsc_shim_vf_stats(dev, cpu, sum);
}
