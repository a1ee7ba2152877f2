// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust cannot express of the network driver: the fields, inline functions
 * and macros of the network stack, for which there are no bindings, and the
 * tables of callbacks. Calls are coarse, since calls from Rust into C are not
 * inlined: one takes all that sending a frame needs to know.
 */
#include <linux/cpumask.h>
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/if_vlan.h>
#include <linux/io.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <net/checksum.h>
#include <net/ip.h>
#include <net/ip6_checksum.h>
#include <net/sock.h>

#include "shim.h"

#define HV_PAGE_SIZE 4096UL
/* Pages of one message to the host. */
#define MAX_PAGES 32
/* Where a TCP or UDP header starts at most, if the host is to know. */
#define MAX_OFFSET 1023

unsigned int hv_netvsc_shim_ring_size = 128;
module_param_named(ring_size, hv_netvsc_shim_ring_size, uint, 0444);
MODULE_PARM_DESC(ring_size, "Ring buffer size (# of 4K pages)");

struct private {
	/* What the callbacks work with; set while the device is registered. */
	void *data;
	u8 checksums;
};

struct hv_napi {
	struct napi_struct napi;
	void *data;
};

static void *data_of(struct net_device *dev)
{
	return ((struct private *)netdev_priv(dev))->data;
}

/* Sending. */

static u32 pages_of(unsigned long offset, u32 len)
{
	return len ? (offset % HV_PAGE_SIZE + len + HV_PAGE_SIZE - 1) / HV_PAGE_SIZE : 0;
}

static u32 skb_pages(const struct sk_buff *skb)
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
	if (unlikely(skb->protocol == htons(ETH_P_8021Q)) && take_tag_out(skb))
		return HV_NETVSC_SHIM_VLAN;
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

static netdev_tx_t start_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct hv_netvsc_shim_tx tx;
	int why = prepare(skb, dev, &tx);

	if (unlikely(why >= 0)) {
		hv_netvsc_rust_dropped(data_of(dev), skb_get_queue_mapping(skb), why);
		dev_kfree_skb_any(skb);
		return NETDEV_TX_OK;
	}
	return hv_netvsc_rust_xmit(data_of(dev), skb, &tx) ? NETDEV_TX_OK : NETDEV_TX_BUSY;
}

static u16 select_queue(struct net_device *dev, struct sk_buff *skb, struct net_device *sb_dev)
{
	struct sock *sk = skb->sk;
	int old, queue;

	if (dev->real_num_tx_queues == 1)
		return 0;
	old = sk ? sk_tx_queue_get(sk) : -1;
	if (old >= 0 && !skb->ooo_okay && old < dev->real_num_tx_queues)
		return old;
	if (skb_rx_queue_recorded(skb))
		queue = skb_get_rx_queue(skb);
	else
		queue = hv_netvsc_rust_select(data_of(dev), skb_get_hash(skb));
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

void hv_netvsc_shim_tx_wake(struct net_device *dev, u32 queue)
{
	netif_tx_wake_queue(netdev_get_tx_queue(dev, queue));
}

void hv_netvsc_shim_tx_wake_all(struct net_device *dev)
{
	netif_tx_wake_all_queues(dev);
}

void hv_netvsc_shim_tx_disable(struct net_device *dev)
{
	netif_tx_disable(dev);
}

bool hv_netvsc_shim_tx_sent(struct net_device *dev, u32 queue, u32 bytes, bool more)
{
	return __netdev_tx_sent_queue(netdev_get_tx_queue(dev, queue), bytes, more);
}

void hv_netvsc_shim_tx_completed(struct net_device *dev, u32 queue, u32 packets, u32 bytes)
{
	netdev_tx_completed_queue(netdev_get_tx_queue(dev, queue), packets, bytes);
}

void hv_netvsc_shim_tx_reset(struct net_device *dev)
{
	u32 queue;

	for (queue = 0; queue < dev->num_tx_queues; queue++)
		netdev_tx_reset_queue(netdev_get_tx_queue(dev, queue));
}

void hv_netvsc_shim_barrier(void)
{
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

/* Receiving. */

void *hv_netvsc_shim_put(struct sk_buff *skb, u32 len)
{
	return skb_tailroom(skb) >= len ? __skb_put(skb, len) : NULL;
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

u32 hv_netvsc_shim_deliver(struct napi_struct *napi, struct sk_buff *skb,
			   const struct hv_netvsc_shim_rx *rx)
{
	struct net_device *dev = napi->dev;
	u32 cast;

	skb->protocol = eth_type_trans(skb, dev);
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
	skb_record_rx_queue(skb, rx->queue);
	cast = skb->pkt_type == PACKET_MULTICAST || skb->pkt_type == PACKET_BROADCAST ?
		HV_NETVSC_SHIM_MULTICAST : HV_NETVSC_SHIM_UNICAST;
	napi_gro_receive(napi, skb);
	return cast;
}

static int poll(struct napi_struct *napi, int budget)
{
	return hv_netvsc_rust_poll(container_of(napi, struct hv_napi, napi)->data, napi, budget);
}

struct napi_struct *hv_netvsc_shim_napi_add(struct net_device *dev, void *data)
{
	struct hv_napi *napi = kzalloc(sizeof(*napi), GFP_KERNEL);

	if (!napi)
		return NULL;
	napi->data = data;
	netif_napi_add(dev, &napi->napi, poll);
	return &napi->napi;
}

void hv_netvsc_shim_napi_del(struct napi_struct *napi)
{
	netif_napi_del(napi);
	kfree(container_of(napi, struct hv_napi, napi));
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

/* The device. */

static int open(struct net_device *dev)
{
	return hv_netvsc_rust_open(data_of(dev));
}

static int stop(struct net_device *dev)
{
	hv_netvsc_rust_stop(data_of(dev));
	return 0;
}

static void set_rx_mode(struct net_device *dev)
{
	hv_netvsc_rust_rx_mode(data_of(dev));
}

/* The host is told where the TCP or UDP header starts in 10 bits. */
static netdev_features_t features_check(struct sk_buff *skb, struct net_device *dev,
					netdev_features_t features)
{
	if (unlikely(skb_transport_header_was_set(skb) && skb_transport_offset(skb) > MAX_OFFSET))
		features &= ~(NETIF_F_CSUM_MASK | NETIF_F_GSO_MASK);
	return vlan_features_check(skb, features);
}

static int set_features(struct net_device *dev, netdev_features_t features)
{
	if (!((features ^ dev->features) & NETIF_F_LRO))
		return 0;
	return hv_netvsc_rust_set_coalesce(data_of(dev), features & NETIF_F_LRO);
}

static int set_mac_address(struct net_device *dev, void *p)
{
	int err = eth_prepare_mac_addr_change(dev, p);

	if (err)
		return err;
	err = hv_netvsc_rust_set_address(data_of(dev), ((struct sockaddr *)p)->sa_data);
	if (!err)
		eth_commit_mac_addr_change(dev, p);
	return err;
}

static void get_stats64(struct net_device *dev, struct rtnl_link_stats64 *to)
{
	struct hv_netvsc_shim_stats from = {};

	hv_netvsc_rust_stats(data_of(dev), &from);
	to->rx_packets = from.rx_packets;
	to->rx_bytes = from.rx_bytes;
	to->rx_dropped = from.rx_dropped;
	to->rx_errors = from.rx_errors;
	to->multicast = from.multicast;
	to->tx_packets = from.tx_packets;
	to->tx_bytes = from.tx_bytes;
	to->tx_dropped = from.tx_dropped;
}

static int change_mtu(struct net_device *dev, int mtu)
{
	int err = hv_netvsc_rust_change_mtu(data_of(dev), mtu);

	if (!err)
		WRITE_ONCE(dev->mtu, mtu);
	return err;
}

static const struct net_device_ops device_ops = {
	.ndo_open = open,
	.ndo_stop = stop,
	.ndo_start_xmit = start_xmit,
	.ndo_select_queue = select_queue,
	.ndo_set_rx_mode = set_rx_mode,
	.ndo_features_check = features_check,
	.ndo_set_features = set_features,
	.ndo_change_mtu = change_mtu,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_set_mac_address = set_mac_address,
	.ndo_get_stats64 = get_stats64,
};

static void get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, KBUILD_MODNAME, sizeof(info->driver));
	strscpy(info->fw_version, "N/A", sizeof(info->fw_version));
}

static int get_sset_count(struct net_device *dev, int set)
{
	return set == ETH_SS_STATS ? hv_netvsc_rust_stat_count(data_of(dev)) : -EOPNOTSUPP;
}

static void get_strings(struct net_device *dev, u32 set, u8 *to)
{
	void *data = data_of(dev);
	u32 i, count = hv_netvsc_rust_stat_count(data);

	if (set != ETH_SS_STATS)
		return;
	for (i = 0; i < count; i++)
		hv_netvsc_rust_stat_name(data, i, to + i * ETH_GSTRING_LEN, ETH_GSTRING_LEN);
}

static void get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *to)
{
	void *data = data_of(dev);
	u32 i;

	for (i = 0; i < stats->n_stats; i++)
		to[i] = hv_netvsc_rust_stat_value(data, i);
}

static void get_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	struct hv_netvsc_shim_limits limits;

	hv_netvsc_rust_channels(data_of(dev), &limits);
	channels->max_combined = min(limits.most, dev->num_tx_queues);
	channels->combined_count = limits.now;
}

static int set_channels(struct net_device *dev, struct ethtool_channels *channels)
{
	return hv_netvsc_rust_set_channels(data_of(dev), channels->combined_count);
}

static void get_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
			  struct kernel_ethtool_ringparam *kernel_ring,
			  struct netlink_ext_ack *extack)
{
	struct hv_netvsc_shim_sections sections;

	hv_netvsc_rust_sections(data_of(dev), &sections);
	ring->rx_pending = sections.receive;
	ring->rx_max_pending = sections.receive_most;
	ring->tx_pending = sections.send;
	ring->tx_max_pending = sections.send_most;
}

static int set_ringparam(struct net_device *dev, struct ethtool_ringparam *ring,
			 struct kernel_ethtool_ringparam *kernel_ring,
			 struct netlink_ext_ack *extack)
{
	return hv_netvsc_rust_set_sections(data_of(dev), ring->rx_pending, ring->tx_pending);
}

static u32 get_rx_ring_count(struct net_device *dev)
{
	return dev->real_num_rx_queues;
}

static u32 get_rxfh_key_size(struct net_device *dev)
{
	return HV_NETVSC_SHIM_KEY;
}

static u32 get_rxfh_indir_size(struct net_device *dev)
{
	return hv_netvsc_rust_table_len(data_of(dev));
}

static int get_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh)
{
	u8 key[HV_NETVSC_SHIM_KEY];

	rxfh->hfunc = ETH_RSS_HASH_TOP;
	hv_netvsc_rust_spread(data_of(dev), rxfh->indir ?: (u32 *)key,
			      rxfh->indir ? rxfh->indir_size : 0, rxfh->key ?: key);
	return 0;
}

static int set_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh,
		    struct netlink_ext_ack *extack)
{
	if (rxfh->hfunc != ETH_RSS_HASH_NO_CHANGE && rxfh->hfunc != ETH_RSS_HASH_TOP)
		return -EOPNOTSUPP;
	if (!rxfh->indir && !rxfh->key)
		return 0;
	return hv_netvsc_rust_set_spread(data_of(dev), rxfh->indir, rxfh->indir_size, rxfh->key);
}

static int get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *settings)
{
	settings->base.speed = hv_netvsc_rust_speed(data_of(dev)) ?: SPEED_UNKNOWN;
	settings->base.duplex = DUPLEX_FULL;
	settings->base.port = PORT_OTHER;
	settings->base.autoneg = AUTONEG_DISABLE;
	return 0;
}

static const struct ethtool_ops ethtool_ops = {
	.get_drvinfo = get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_ts_info = ethtool_op_get_ts_info,
	.get_sset_count = get_sset_count,
	.get_strings = get_strings,
	.get_ethtool_stats = get_ethtool_stats,
	.get_channels = get_channels,
	.set_channels = set_channels,
	.get_ringparam = get_ringparam,
	.set_ringparam = set_ringparam,
	.get_rx_ring_count = get_rx_ring_count,
	.get_rxfh_key_size = get_rxfh_key_size,
	.get_rxfh_indir_size = get_rxfh_indir_size,
	.get_rxfh = get_rxfh,
	.set_rxfh = set_rxfh,
	.get_link_ksettings = get_link_ksettings,
};

struct net_device *hv_netvsc_shim_alloc(struct device *parent, u32 queues)
{
	struct net_device *dev = alloc_etherdev_mq(sizeof(struct private), queues);

	if (!dev)
		return NULL;
	SET_NETDEV_DEV(dev, parent);
	dev->netdev_ops = &device_ops;
	dev->ethtool_ops = &ethtool_ops;
	/* A frame is written to, and owned, until it is sent: it is nobody else's. */
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	dev->needed_headroom = HV_NETVSC_SHIM_HEADROOM;
	dev->min_mtu = ETH_MIN_MTU;
	netif_carrier_off(dev);
	return dev;
}

static void init_features(struct net_device *dev, const struct hv_netvsc_shim_config *config)
{
	struct private *private = netdev_priv(dev);

	private->checksums = config->checksums;
	dev->hw_features = NETIF_F_SG | NETIF_F_RXCSUM | NETIF_F_RXHASH;
	if (config->checksums & HV_NETVSC_SHIM_TCP4)
		dev->hw_features |= NETIF_F_IP_CSUM;
	if (config->checksums & HV_NETVSC_SHIM_TCP6)
		dev->hw_features |= NETIF_F_IPV6_CSUM;
	if (config->tso4)
		dev->hw_features |= NETIF_F_TSO;
	if (config->tso6)
		dev->hw_features |= NETIF_F_TSO6;
	if (config->coalesce)
		dev->hw_features |= NETIF_F_LRO;
	dev->features = dev->hw_features | NETIF_F_HIGHDMA | NETIF_F_HW_VLAN_CTAG_TX |
			NETIF_F_HW_VLAN_CTAG_RX;
	dev->vlan_features = dev->features & (NETIF_F_SG | NETIF_F_HIGHDMA | NETIF_F_RXCSUM |
		NETIF_F_IP_CSUM | NETIF_F_IPV6_CSUM | NETIF_F_TSO | NETIF_F_TSO6);
	netif_set_tso_max_size(dev, config->tso_max);
}

int hv_netvsc_shim_register(struct net_device *dev, void *data,
			    const struct hv_netvsc_shim_config *config)
{
	struct private *private = netdev_priv(dev);
	int err;

	private->data = data;
	eth_hw_addr_set(dev, config->address);
	ether_addr_copy(dev->perm_addr, config->address);
	dev->mtu = config->mtu;
	dev->max_mtu = config->max_mtu;
	init_features(dev, config);
	rtnl_lock();
	if (config->alias_len)
		dev_set_alias(dev, config->alias, config->alias_len);
	netif_set_real_num_tx_queues(dev, 1);
	netif_set_real_num_rx_queues(dev, 1);
	err = register_netdevice(dev);
	if (!err && config->connected)
		netif_carrier_on(dev);
	rtnl_unlock();
	return err;
}

void hv_netvsc_shim_use_queues(struct net_device *dev, u32 queues)
{
	if (netif_set_real_num_tx_queues(dev, queues) ||
	    netif_set_real_num_rx_queues(dev, queues))
		netdev_warn(dev, "queues stay as they are\n");
}

void hv_netvsc_shim_set_queues(struct net_device *dev, u32 queues)
{
	rtnl_lock();
	if (dev->reg_state == NETREG_REGISTERED)
		hv_netvsc_shim_use_queues(dev, queues);
	rtnl_unlock();
}

void hv_netvsc_shim_carrier(struct net_device *dev, bool on)
{
	if (on)
		netif_carrier_on(dev);
	else
		netif_carrier_off(dev);
}

u32 hv_netvsc_shim_flags(struct net_device *dev)
{
	u32 flags = READ_ONCE(dev->flags);

	/* Multicast addresses are not told one by one. */
	if (!netdev_mc_empty(dev))
		flags |= IFF_ALLMULTI;
	return flags;
}

u64 hv_netvsc_shim_phys(const void *address)
{
	return virt_to_phys((void *)address);
}

u32 hv_netvsc_shim_cpus(void)
{
	return num_online_cpus();
}

u32 hv_netvsc_shim_default_queues(void)
{
	return max_t(u32, netif_get_num_default_rss_queues(), 16);
}

void hv_netvsc_shim_rss_key(u8 *key, u32 len)
{
	netdev_rss_key_fill(key, len);
}
