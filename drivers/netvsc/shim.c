// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust cannot express of the network driver: the fields, inline functions
 * and macros of the network stack, for which there are no bindings, and the
 * tables of callbacks. Calls are coarse, since calls from Rust into C are not
 * inlined: one takes all that sending a frame needs to know.
 *
 * This file has what sending takes; shim_receive.c what receiving takes,
 * shim_xdp.c what programs that see frames take, shim_device.c the device,
 * shim_ethtool.c what ethtool sees, shim_vf*.c virtual functions.
 */
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/io.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <net/checksum.h>
#include <net/flow_dissector.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/sock.h>

#include "shim_layout.h"
#include "shim_private.h"

#define HV_PAGE_SIZE 4096UL
/* Pages of one message to the host. */
#define MAX_PAGES 32
/* Where a TCP or UDP header starts at most, if the host is to know. */
#define MAX_OFFSET 1023

static u32 pages_of(unsigned long offset, u32 len)
{
	return len ? (offset % HV_PAGE_SIZE + len + HV_PAGE_SIZE - 1) / HV_PAGE_SIZE : 0;
}

static __always_inline u32 skb_pages(const struct sk_buff *skb)
{
	/* The header may start in the page before. */
	u32 pages = 1 + pages_of(offset_in_page(skb->data), skb_headlen(skb));
	int i;

	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];

		pages += pages_of(skb_frag_off(frag), skb_frag_size(frag));
	}
	return pages;
}

/* A tag that a packet socket put into the frame goes beside it. */
static int take_tag_out(struct sk_buff *skb)
{
	u16 tci;

	skb_reset_mac_header(skb);
	if (!eth_type_vlan(eth_hdr(skb)->h_proto))
		return 0;
	if (__skb_vlan_pop(skb, &tci))
		return -EINVAL;
	__vlan_hwaccel_put_tag(skb, htons(ETH_P_8021Q), tci);
	return 0;
}

/* Not if the stack has had it ready since a connection on which the host did more. */
static bool segments(const struct sk_buff *skb, const struct private *private)
{
	netdev_features_t kind = skb_is_gso_v6(skb) ? NETIF_F_TSO6 : NETIF_F_TSO;

	return (private->offered & kind) && skb->len <= private->tso_max;
}

static void segment(struct sk_buff *skb, struct hv_netvsc_shim_tx *tx)
{
	tx->task = HV_NETVSC_SHIM_SEGMENT;
	tx->mss = skb_shinfo(skb)->gso_size;
	tx->offset = skb_transport_offset(skb);
	tx->ipv6 = skb_is_gso_v6(skb);
	if (tx->ipv6) {
		tcp_v6_gso_csum_prep(skb);
	} else {
		struct iphdr *ip = ip_hdr(skb);

		ip->tot_len = 0;
		ip->check = 0;
		tcp_hdr(skb)->check = ~csum_tcpudp_magic(ip->saddr, ip->daddr, 0, IPPROTO_TCP, 0);
	}
}

static int checksum(struct sk_buff *skb, u8 possible, struct hv_netvsc_shim_tx *tx)
{
	__be16 network = skb->protocol;
	u8 protocol = 0, wanted = 0;

	if (network == htons(ETH_P_IP))
		protocol = ip_hdr(skb)->protocol;
	else if (network == htons(ETH_P_IPV6))
		protocol = ipv6_hdr(skb)->nexthdr;
	tx->ipv6 = network == htons(ETH_P_IPV6);
	tx->udp = protocol == IPPROTO_UDP;
	if (protocol == IPPROTO_TCP)
		wanted = tx->ipv6 ? HV_NETVSC_SHIM_TCP6 : HV_NETVSC_SHIM_TCP4;
	else if (protocol == IPPROTO_UDP)
		wanted = tx->ipv6 ? HV_NETVSC_SHIM_UDP6 : HV_NETVSC_SHIM_UDP4;
	tx->offset = skb_transport_offset(skb);
	if (!(wanted & possible) || skb_transport_offset(skb) > MAX_OFFSET)
		return skb_checksum_help(skb);
	tx->task = HV_NETVSC_SHIM_CHECKSUM;
	return 0;
}

/* Changes of the frame first, then what is where: the former may move the latter. */
static int prepare(struct sk_buff *skb, struct net_device *dev, struct hv_netvsc_shim_tx *tx)
{
	const struct private *private = netdev_priv(dev);
	int i;

	tx->task = HV_NETVSC_SHIM_NOTHING;
	tx->ipv6 = false;
	tx->udp = false;
	tx->mss = 0;
	tx->offset = 0;
	tx->linearized = false;
	if (unlikely(skb_pages(skb) > MAX_PAGES)) {
		if (skb_linearize(skb))
			return HV_NETVSC_SHIM_NO_MEMORY;
		if (skb_pages(skb) > MAX_PAGES)
			return HV_NETVSC_SHIM_TOO_BIG;
		tx->linearized = true;
	}
	if (skb_cow_head(skb, HV_NETVSC_SHIM_HEADROOM))
		return HV_NETVSC_SHIM_NO_MEMORY;
	/* Of two tags the inner one stays. */
	if (unlikely(skb->protocol == htons(ETH_P_8021Q)) && !skb_vlan_tag_present(skb) &&
	    take_tag_out(skb))
		return HV_NETVSC_SHIM_VLAN;
	if (skb_is_gso(skb) && unlikely(!segments(skb, private)))
		return HV_NETVSC_SHIM_TOO_BIG;
	if (skb_is_gso(skb))
		segment(skb, tx);
	else if (skb->ip_summed == CHECKSUM_PARTIAL && checksum(skb, private->checksums, tx))
		return HV_NETVSC_SHIM_OTHER;
	if (unlikely(skb_headroom(skb) < HV_NETVSC_SHIM_HEADROOM ||
		     skb_headlen(skb) < ETH_HLEN))
		return HV_NETVSC_SHIM_OTHER;

	BUILD_BUG_ON(MAX_SKB_FRAGS != HV_NETVSC_SHIM_FRAGS);
	tx->data = skb->data;
	tx->phys = virt_to_phys(skb->data);
	tx->len = skb->len;
	tx->linear = skb_headlen(skb);
	tx->hash = dev->real_num_tx_queues > 1 ? skb_get_hash_raw(skb) : 0;
	tx->queue = skb_get_queue_mapping(skb);
	tx->tagged = skb_vlan_tag_present(skb);
	tx->vlan = tx->tagged ? skb_vlan_tag_get(skb) : 0;
	tx->more = netdev_xmit_more();
	tx->pieces = skb_shinfo(skb)->nr_frags;
	for (i = 0; i < tx->pieces; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];

		tx->piece[i].phys = page_to_phys(skb_frag_page(frag)) + skb_frag_off(frag);
		tx->piece[i].len = skb_frag_size(frag);
	}
	return -1;
}

netdev_tx_t hv_netvsc_shim_start_xmit(struct sk_buff *skb, struct net_device *dev)
{
	/* All of it that is looked at is set; the pieces alone take 272 bytes. */
	struct hv_netvsc_shim_tx tx __uninitialized;
	struct net_device *function = rcu_dereference_bh(private_of(dev)->path);
	int why;

	if (unlikely(function) && hv_netvsc_shim_vf_xmit(skb, dev, function))
		return NETDEV_TX_OK;
	why = prepare(skb, dev, &tx);
	if (unlikely(why >= 0)) {
		hv_netvsc_rust_dropped(data_of(dev), skb_get_queue_mapping(skb), why);
		dev_kfree_skb_any(skb);
		return NETDEV_TX_OK;
	}
	skb_tx_timestamp(skb);
	return hv_netvsc_rust_xmit(data_of(dev), skb, &tx) ? NETDEV_TX_OK : NETDEV_TX_BUSY;
}

/*
 * Sends a frame of a program, with the lock of its queue held. The host is told
 * of it later. False when the frame is still the caller's.
 */
bool hv_netvsc_shim_send(struct sk_buff *skb, struct net_device *dev)
{
	struct hv_netvsc_shim_tx tx;

	if (prepare(skb, dev, &tx) >= 0)
		return false;
	tx.more = true;
	return hv_netvsc_rust_xmit(data_of(dev), skb, &tx);
}

/* Of which kind a flow is, or 0: then its ports count if it has any. */
static u32 kind_of(const struct flow_keys *keys)
{
	bool v4 = keys->basic.n_proto == htons(ETH_P_IP);

	if (!v4 && keys->basic.n_proto != htons(ETH_P_IPV6))
		return 0;
	switch (keys->basic.ip_proto) {
	case IPPROTO_TCP:
		return v4 ? HV_NETVSC_SHIM_PORTS_TCP4 : HV_NETVSC_SHIM_PORTS_TCP6;
	case IPPROTO_UDP:
		return v4 ? HV_NETVSC_SHIM_PORTS_UDP4 : HV_NETVSC_SHIM_PORTS_UDP6;
	default:
		return 0;
	}
}

/*
 * What says by which queue a frame goes. Of a datagram in fragments the first one alone has ports:
 * where the others must not overtake it, an administrator leaves ports out (ethtool -N).
 */
static u32 flow_hash(struct net_device *dev, struct sk_buff *skb)
{
	u32 with_ports = READ_ONCE(private_of(dev)->with_ports);
	struct flow_keys keys;
	u32 kind, hash;

	if (likely(with_ports == HV_NETVSC_SHIM_PORTS_ALL) ||
	    !skb_flow_dissect_flow_keys(skb, &keys, 0))
		return skb_get_hash(skb);
	kind = kind_of(&keys);
	if (!kind || (kind & with_ports))
		return skb_get_hash(skb);
	keys.ports.ports = 0;
	keys.tags.flow_label = 0;
	hash = flow_hash_from_keys(&keys);
	/* The host is told the same. */
	__skb_set_sw_hash(skb, hash, false);
	return hash;
}

u16 hv_netvsc_shim_select_queue(struct net_device *dev, struct sk_buff *skb,
				struct net_device *sb_dev)
{
	struct sock *sk = skb->sk;
	struct net_device *function;
	int old, queue;

	if (dev->real_num_tx_queues == 1)
		return 0;
	/* A socket that bypasses the queues asks without any lock. */
	rcu_read_lock();
	function = rcu_dereference(private_of(dev)->path);
	if (unlikely(function)) {
		queue = hv_netvsc_shim_vf_select(dev, skb, function, sb_dev);
		rcu_read_unlock();
		return queue;
	}
	rcu_read_unlock();
	old = sk ? sk_tx_queue_get(sk) : -1;
	if (old >= 0 && !skb->ooo_okay && old < dev->real_num_tx_queues)
		return old;
	if (skb_rx_queue_recorded(skb))
		queue = skb_get_rx_queue(skb);
	else
		queue = hv_netvsc_rust_select(data_of(dev), flow_hash(dev, skb));
	while (unlikely(queue >= dev->real_num_tx_queues))
		queue -= dev->real_num_tx_queues;
	if (queue != old && sk && sk_fullsock(sk) && rcu_access_pointer(sk->sk_dst_cache))
		sk_tx_queue_set(sk, queue);
	return queue;
}

void hv_netvsc_shim_tx_stop(struct net_device *dev, u32 queue)
{
	netif_tx_stop_queue(netdev_get_tx_queue(dev, queue));
	/* The reason is looked at once more behind this. */
	smp_mb__after_atomic();
}

bool hv_netvsc_shim_tx_stopped(struct net_device *dev, u32 queue)
{
	return netif_tx_queue_stopped(netdev_get_tx_queue(dev, queue));
}

/* Unless nothing is to be sent on any. */
void hv_netvsc_shim_tx_wake(struct net_device *dev, u32 queue)
{
	rcu_read_lock();
	if (!READ_ONCE(private_of(dev)->quiet))
		netif_tx_wake_queue(netdev_get_tx_queue(dev, queue));
	rcu_read_unlock();
}

void hv_netvsc_shim_tx_wake_all(struct net_device *dev)
{
	WRITE_ONCE(private_of(dev)->quiet, false);
	netif_tx_wake_all_queues(dev);
}

/* Nothing is sent from when this returns until all queues are woken. Process context. */
void hv_netvsc_shim_tx_disable(struct net_device *dev)
{
	u32 queue;

	WRITE_ONCE(private_of(dev)->quiet, true);
	/* Who has not seen that has woken its queue when this returns. */
	synchronize_net();
	/* They are stopped from now on: not for as long as nothing was sent. */
	for (queue = 0; queue < dev->num_tx_queues; queue++)
		txq_trans_cond_update(netdev_get_tx_queue(dev, queue));
	netif_tx_disable(dev);
}

bool hv_netvsc_shim_tx_sent(struct net_device *dev, u32 queue, u32 bytes, bool more)
{
	return __netdev_tx_sent_queue(netdev_get_tx_queue(dev, queue), bytes, more);
}

/*
 * False when so much was not sent: the host has named a frame that is about to be
 * sent, and the stack dies of what is done before it has begun (dql_completed).
 */
bool hv_netvsc_shim_tx_completed(struct net_device *dev, u32 queue, u32 packets, u32 bytes)
{
	struct netdev_queue *txq = netdev_get_tx_queue(dev, queue);

#ifdef CONFIG_BQL
	if (unlikely(bytes > READ_ONCE(txq->dql.num_queued) - txq->dql.num_completed))
		return false;
#endif
	netdev_tx_completed_queue(txq, packets, bytes);
	WRITE_ONCE(private_of(dev)->done[queue], jiffies);
	return true;
}

bool hv_netvsc_shim_tx_stalled(struct net_device *dev, u32 queue)
{
	const struct netdev_queue *txq = netdev_get_tx_queue(dev, queue);
	unsigned long since = jiffies - HV_NETVSC_SHIM_IDLE * HZ;

	return netif_xmit_stopped(txq) && time_before(READ_ONCE(txq->trans_start), since) &&
	       time_before(READ_ONCE(private_of(dev)->done[queue]), since);
}

void hv_netvsc_shim_tx_reset(struct net_device *dev)
{
	u32 queue;

	for (queue = 0; queue < dev->num_tx_queues; queue++)
		netdev_tx_reset_queue(netdev_get_tx_queue(dev, queue));
}

/*
 * A queue whose channel is gone, and with it all that was sent; what comes to it is dropped.
 * Process context.
 */
void hv_netvsc_shim_tx_end(struct net_device *dev, u32 queue)
{
	struct netdev_queue *txq = netdev_get_tx_queue(dev, queue);

	/* Nobody is sending who has counted a frame that is not completed. */
	__netif_tx_lock_bh(txq);
	netdev_tx_reset_queue(txq);
	__netif_tx_unlock_bh(txq);
	hv_netvsc_shim_tx_wake(dev, queue);
}

void hv_netvsc_shim_barrier(void)
{
	/* For who wakes a queue; pairs with the one in hv_netvsc_shim_tx_stop(). */
	smp_mb();
}

void hv_netvsc_shim_free(struct sk_buff *skb)
{
	dev_kfree_skb_any(skb);
}

void hv_netvsc_shim_consume(struct sk_buff *skb, int budget)
{
	napi_consume_skb(skb, budget);
}

int hv_netvsc_shim_copy(struct sk_buff *skb, void *to, u32 len)
{
	return skb_copy_bits(skb, 0, to, len);
}

/* The host is told where the TCP or UDP header starts in 10 bits. */
netdev_features_t hv_netvsc_shim_features_check(struct sk_buff *skb, struct net_device *dev,
						netdev_features_t features)
{
	if (unlikely(skb_transport_header_was_set(skb) && skb_transport_offset(skb) > MAX_OFFSET))
		features &= ~(NETIF_F_CSUM_MASK | NETIF_F_GSO_MASK);
	return vlan_features_check(skb, features);
}
