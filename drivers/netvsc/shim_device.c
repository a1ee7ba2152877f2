// SPDX-License-Identifier: GPL-2.0
/* The device: its registration, its callbacks, its queues. */
#include <linux/cpumask.h>
#include <linux/etherdevice.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/netdev_lock.h>
#include <net/netdev_queues.h>

#include "shim_private.h"

unsigned int hv_netvsc_shim_ring_size = 128;
module_param_named(ring_size, hv_netvsc_shim_ring_size, uint, 0444);
MODULE_PARM_DESC(ring_size, "Ring buffer size (# of 4K pages)");

static int open(struct net_device *dev)
{
	int err = hv_netvsc_rust_open(data_of(dev));

	/* Without it frames go by the adapter. */
	if (!err)
		hv_netvsc_shim_vf_open(dev);
	return err;
}

static int stop(struct net_device *dev)
{
	hv_netvsc_shim_vf_close(dev);
	hv_netvsc_rust_stop(data_of(dev));
	return 0;
}

static void set_rx_mode(struct net_device *dev)
{
	hv_netvsc_shim_vf_addresses(dev);
	hv_netvsc_rust_rx_mode(data_of(dev));
}

static void change_rx_flags(struct net_device *dev, int changed)
{
	hv_netvsc_shim_vf_flags(dev);
}

/* Features in which the host has a say. */
#define HOST_FEATURES (NETIF_F_IP_CSUM | NETIF_F_IPV6_CSUM | NETIF_F_TSO | NETIF_F_TSO6 | \
		       NETIF_F_LRO)
#define TSO_FEATURES (NETIF_F_TSO | NETIF_F_TSO6)
/* Features that hold for tagged frames, too. */
#define VLAN_FEATURES (NETIF_F_SG | NETIF_F_HIGHDMA | NETIF_F_RXCSUM | NETIF_F_IP_CSUM | \
		       NETIF_F_IPV6_CSUM | NETIF_F_TSO | NETIF_F_TSO6)

/*
 * What the host does not do now is off. A program takes frames as they are on the wire, and the
 * checksum of a frame that the host has joined is that of a part of it.
 */
static netdev_features_t fix_features(struct net_device *dev, netdev_features_t features)
{
	features &= private_of(dev)->offered | ~HOST_FEATURES;
	if (rtnl_dereference(private_of(dev)->xdp) || !(features & NETIF_F_RXCSUM))
		features &= ~NETIF_F_LRO;
	return features;
}

static int set_features(struct net_device *dev, netdev_features_t features)
{
	int err = 0;

	/* Who agrees with another connection tells the host afterwards. */
	if (!private_of(dev)->agreeing && (features ^ dev->features) & NETIF_F_LRO)
		err = hv_netvsc_rust_set_coalesce(data_of(dev), features & NETIF_F_LRO);
	if (!err)
		hv_netvsc_shim_vf_features(dev, features);
	return err;
}

static int set_mac_address(struct net_device *dev, void *p)
{
	int err = eth_prepare_mac_addr_change(dev, p);

	if (err)
		return err;
	/* Both, or none. */
	err = hv_netvsc_shim_vf_address(dev, p);
	if (err)
		return err;
	err = hv_netvsc_rust_set_address(data_of(dev), ((struct sockaddr *)p)->sa_data);
	if (!err) {
		eth_commit_mac_addr_change(dev, p);
	} else {
		struct sockaddr_storage old = { .ss_family = dev->type };

		ether_addr_copy(((struct sockaddr *)&old)->sa_data, dev->dev_addr);
		hv_netvsc_shim_vf_address(dev, &old);
	}
	return err;
}

static void get_stats64(struct net_device *dev, struct rtnl_link_stats64 *to)
{
	struct hv_netvsc_shim_stats from = {};
	struct hv_netvsc_shim_vf_stats function;

	hv_netvsc_shim_vf_total(dev, &function);
	hv_netvsc_rust_stats(data_of(dev), &from);
	to->rx_packets = from.rx_packets + function.rx_packets;
	to->rx_bytes = from.rx_bytes + function.rx_bytes;
	to->rx_dropped = from.rx_dropped;
	to->rx_errors = from.rx_errors;
	to->multicast = from.multicast;
	to->tx_packets = from.tx_packets + function.tx_packets;
	to->tx_bytes = from.tx_bytes + function.tx_bytes;
	to->tx_dropped = from.tx_dropped + function.tx_dropped;
}

/* What the netlink family `netdev` shows of each queue in use. */
static void get_queue_stats_rx(struct net_device *dev, int queue, struct netdev_queue_stats_rx *to)
{
	struct hv_netvsc_shim_stats from = {};

	hv_netvsc_rust_queue_stats(data_of(dev), queue, &from);
	to->packets = from.rx_packets;
	to->bytes = from.rx_bytes;
}

static void get_queue_stats_tx(struct net_device *dev, int queue, struct netdev_queue_stats_tx *to)
{
	struct hv_netvsc_shim_stats from = {};

	hv_netvsc_rust_queue_stats(data_of(dev), queue, &from);
	to->packets = from.tx_packets;
	to->bytes = from.tx_bytes;
}

/*
 * What the interface has counted besides: for queues that are not in use now, and by a virtual
 * function.
 */
static void get_base_stats(struct net_device *dev, struct netdev_queue_stats_rx *rx,
			   struct netdev_queue_stats_tx *tx)
{
	struct hv_netvsc_shim_vf_stats function;
	struct hv_netvsc_shim_stats queue = {};
	u32 i;

	hv_netvsc_shim_vf_total(dev, &function);
	rx->packets = function.rx_packets;
	rx->bytes = function.rx_bytes;
	tx->packets = function.tx_packets;
	tx->bytes = function.tx_bytes;
	for (i = dev->real_num_rx_queues; i < dev->num_rx_queues; i++) {
		hv_netvsc_rust_queue_stats(data_of(dev), i, &queue);
		rx->packets += queue.rx_packets;
		rx->bytes += queue.rx_bytes;
	}
	for (i = dev->real_num_tx_queues; i < dev->num_tx_queues; i++) {
		hv_netvsc_rust_queue_stats(data_of(dev), i, &queue);
		tx->packets += queue.tx_packets;
		tx->bytes += queue.tx_bytes;
	}
}

static const struct netdev_stat_ops stat_ops = {
	.get_queue_stats_rx = get_queue_stats_rx,
	.get_queue_stats_tx = get_queue_stats_tx,
	.get_base_stats = get_base_stats,
};

static int change_mtu(struct net_device *dev, int mtu)
{
	u32 agreed = mtu;
	int err;

	if (private_of(dev)->shortened) {
		hv_netvsc_shim_vf_mtu(dev, mtu);
		WRITE_ONCE(dev->mtu, mtu);
		return 0;
	}
	if (!hv_netvsc_shim_xdp_allows(dev, mtu))
		return -EOPNOTSUPP;
	err = hv_netvsc_shim_vf_mtu(dev, mtu);
	if (err)
		return err;
	/* The host may take shorter frames only. */
	err = hv_netvsc_rust_change_mtu(data_of(dev), mtu, &agreed);
	if (!err)
		WRITE_ONCE(dev->mtu, agreed);
	else
		hv_netvsc_shim_vf_mtu(dev, dev->mtu);
	return err;
}

bool hv_netvsc_shim_has_own_table(struct net_device *dev)
{
	return netif_is_rxfh_configured(dev);
}

static void tx_timeout(struct net_device *dev, unsigned int queue)
{
	hv_netvsc_rust_timed_out(data_of(dev), queue);
}

/* Whoever waits for RTNL with a work item of the device may find it gone. */
void hv_netvsc_shim_recover(struct net_device *dev)
{
	rtnl_lock();
	if (dev->reg_state == NETREG_REGISTERED)
		hv_netvsc_rust_recover(data_of(dev));
	rtnl_unlock();
}

/* The same. */
void hv_netvsc_shim_notify_peers(struct net_device *dev)
{
	rtnl_lock();
	if (dev->reg_state == NETREG_REGISTERED && netif_running(dev))
		__netdev_notify_peers(dev);
	rtnl_unlock();
}

static const struct net_device_ops device_ops = {
	.ndo_open = open,
	.ndo_stop = stop,
	.ndo_start_xmit = hv_netvsc_shim_start_xmit,
	.ndo_select_queue = hv_netvsc_shim_select_queue,
	.ndo_tx_timeout = tx_timeout,
	.ndo_set_rx_mode = set_rx_mode,
	.ndo_change_rx_flags = change_rx_flags,
	.ndo_features_check = hv_netvsc_shim_features_check,
	.ndo_fix_features = fix_features,
	.ndo_set_features = set_features,
	.ndo_change_mtu = change_mtu,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_set_mac_address = set_mac_address,
	.ndo_get_stats64 = get_stats64,
	.ndo_bpf = hv_netvsc_shim_bpf,
	.ndo_xdp_xmit = hv_netvsc_shim_xdp_xmit,
};

struct net_device *hv_netvsc_shim_alloc(struct device *parent, u32 queues)
{
	struct net_device *dev = alloc_etherdev_mq(struct_size_t(struct private, done, queues),
						   queues);
	u32 queue;

	if (!dev)
		return NULL;
	private_of(dev)->vf_stats = netdev_alloc_pcpu_stats(struct hv_vf_stats);
	if (!private_of(dev)->vf_stats) {
		free_netdev(dev);
		return NULL;
	}
	private_of(dev)->cpus = num_present_cpus();
	for (queue = 0; queue < queues; queue++)
		private_of(dev)->done[queue] = jiffies;
	SET_NETDEV_DEV(dev, parent);
	dev->netdev_ops = &device_ops;
	dev->stat_ops = &stat_ops;
	dev->ethtool_ops = &hv_netvsc_shim_ethtool_ops;
	/* A frame is written to, and owned, until it is sent: it is nobody else's. */
	dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	dev->needed_headroom = HV_NETVSC_SHIM_HEADROOM;
	dev->watchdog_timeo = HV_NETVSC_SHIM_TIMEOUT * HZ;
	dev->min_mtu = ETH_MIN_MTU;
	dev->xdp_features = NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT |
			    NETDEV_XDP_ACT_NDO_XMIT | NETDEV_XDP_ACT_RX_SG |
			    NETDEV_XDP_ACT_NDO_XMIT_SG;
	private_of(dev)->copybreak = HV_NETVSC_SHIM_COPYBREAK;
	private_of(dev)->with_ports = HV_NETVSC_SHIM_PORTS_ALL;
	netif_carrier_off(dev);
	return dev;
}

void hv_netvsc_shim_dealloc(struct net_device *dev)
{
	free_percpu(private_of(dev)->vf_stats);
	free_netdev(dev);
}

/*
 * What a limit is to be that is `now`. As this driver has left it, it was not set since, and what
 * was wanted then still is; who sets what it is already has set nothing. Set to all that could be
 * had, it is to be as much as can be had, up to what the stack begins with.
 */
static u32 follow(struct hv_netvsc_limit *limit, u32 now, u32 former_most, u32 most)
{
	if (now != limit->left)
		limit->wanted = now == former_most ? max(now, GSO_LEGACY_MAX_SIZE) : now;
	limit->left = min(limit->wanted, most);
	return limit->left;
}

/*
 * The stack makes packets shorter by itself if less is segmented, but not longer again, and forgets
 * a lower limit of IPv4. Under RTNL.
 */
void hv_netvsc_shim_set_tso_max(struct net_device *dev, u32 most)
{
	struct private *private = netdev_priv(dev);
	u32 former = dev->tso_max_size;
	u32 gso = follow(&private->gso, dev->gso_max_size, former, most);
	u32 gso_ipv4 = follow(&private->gso_ipv4, dev->gso_ipv4_max_size, former, most);

	netif_set_tso_max_size(dev, most);
	WRITE_ONCE(dev->gso_max_size, gso);
	WRITE_ONCE(dev->gso_ipv4_max_size, gso_ipv4);
}

static void set_terms(struct net_device *dev, const struct hv_netvsc_shim_terms *terms)
{
	struct private *private = netdev_priv(dev);

	private->offered = 0;
	if (terms->checksums & HV_NETVSC_SHIM_TCP4)
		private->offered |= NETIF_F_IP_CSUM;
	if (terms->checksums & HV_NETVSC_SHIM_TCP6)
		private->offered |= NETIF_F_IPV6_CSUM;
	if (terms->tso4)
		private->offered |= NETIF_F_TSO;
	if (terms->tso6)
		private->offered |= NETIF_F_TSO6;
	if (terms->coalesce)
		private->offered |= NETIF_F_LRO;
	private->checksums = terms->checksums;
	dev->max_mtu = terms->max_mtu;
	private->tso_max = terms->tso_max;
	/* What a function takes may be longer than what the host does. */
	if (!private->tso_of_function || terms->tso_max < dev->tso_max_size)
		hv_netvsc_shim_set_tso_max(dev, terms->tso_max);
}

static void init_features(struct net_device *dev)
{
	dev->hw_features = NETIF_F_SG | NETIF_F_RXCSUM | NETIF_F_RXHASH | private_of(dev)->offered;
	dev->features = dev->hw_features | NETIF_F_HIGHDMA | NETIF_F_HW_VLAN_CTAG_TX |
			NETIF_F_HW_VLAN_CTAG_RX;
	dev->vlan_features = dev->features & VLAN_FEATURES;
}

/*
 * There is another connection. What the host does not do any more is off, and on again when it
 * does and somebody wants it. What it has never done before is on, but for what somebody may have
 * switched off before it was there: a router joins no frames, and who wants no segmentation wants
 * none of IPv6. Under RTNL, while nothing is sent. Returns whether frames may be joined.
 */
bool hv_netvsc_shim_agree(struct net_device *dev, const struct hv_netvsc_shim_terms *terms)
{
	struct private *private = netdev_priv(dev);
	netdev_features_t new, not_wanted = NETIF_F_LRO;

	set_terms(dev, terms);
	if ((dev->hw_features & TSO_FEATURES) && !(dev->wanted_features & TSO_FEATURES))
		not_wanted |= TSO_FEATURES;
	new = private->offered & ~dev->hw_features;
	dev->hw_features |= new;
	dev->wanted_features |= new & ~not_wanted;
	dev->vlan_features |= new & VLAN_FEATURES;
	private->agreeing = true;
	netdev_update_features(dev);
	private->agreeing = false;
	if (terms->mtu < dev->mtu) {
		/* Somebody may ask for it: IPv6 and devices on top have one of their own. */
		private->shortened = true;
		/* Who forbids that cannot make the host take longer ones. */
		if (dev_set_mtu(dev, terms->mtu))
			WRITE_ONCE(dev->mtu, terms->mtu);
		private->shortened = false;
	}
	return dev->features & NETIF_F_LRO;
}

u32 hv_netvsc_shim_mtu(const struct net_device *dev)
{
	return READ_ONCE(dev->mtu);
}

int hv_netvsc_shim_register(struct net_device *dev, void *data,
			    const struct hv_netvsc_shim_config *config)
{
	struct private *private = netdev_priv(dev);
	int err;

	private->data = data;
	eth_hw_addr_set(dev, config->address);
	ether_addr_copy(dev->perm_addr, config->address);
	dev->mtu = config->terms.mtu;
	set_terms(dev, &config->terms);
	init_features(dev);
	/* A frame may be sent by another card while the lock of a queue of this one is held. */
	netdev_lockdep_set_classes(dev);
	rtnl_lock();
	if (config->alias_len)
		dev_set_alias(dev, config->alias, config->alias_len);
	netif_set_real_num_tx_queues(dev, 1);
	netif_set_real_num_rx_queues(dev, 1);
	err = register_netdevice(dev);
	if (!err)
		WRITE_ONCE(private->registered, true);
	rtnl_unlock();
	return err;
}

/*
 * An event of the link keeps the device until the link's watch has seen it, and that is looked for
 * once, here: none may come later, or the device would be freed with the watch still knowing it.
 */
void hv_netvsc_shim_unregister(struct net_device *dev)
{
	WRITE_ONCE(private_of(dev)->registered, false);
	/* Who has seen it registered is done when this returns. */
	synchronize_net();
	unregister_netdev(dev);
}

/* Under RTNL. */
void hv_netvsc_shim_use_queues(struct net_device *dev, u32 queues)
{
	if (dev->reg_state != NETREG_REGISTERED)
		return;
	if (netif_set_real_num_tx_queues(dev, queues) ||
	    netif_set_real_num_rx_queues(dev, queues))
		netdev_warn(dev, "queues stay as they are\n");
}

/*
 * Without effect before the device is registered, and from when it is being unregistered. A full
 * barrier.
 */
void hv_netvsc_shim_carrier(struct net_device *dev, bool on)
{
	/* Who registers the device looks afterwards what was to be shown before. */
	smp_mb();
	rcu_read_lock();
	if (READ_ONCE(private_of(dev)->registered)) {
		if (on)
			netif_carrier_on(dev);
		else
			netif_carrier_off(dev);
	}
	rcu_read_unlock();
	/* Whoever shows a link looks afterwards whether it has changed. */
	smp_mb();
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
