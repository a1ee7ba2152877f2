// SPDX-License-Identifier: GPL-2.0
/* What ethtool sees of the device, and changes. */
#include <linux/ethtool.h>
#include <linux/netdevice.h>

#include "shim_private.h"

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

static int get_tunable(struct net_device *dev, const struct ethtool_tunable *tunable, void *to)
{
	if (tunable->id != ETHTOOL_RX_COPYBREAK)
		return -EOPNOTSUPP;
	*(u32 *)to = private_of(dev)->copybreak;
	return 0;
}

static int set_tunable(struct net_device *dev, const struct ethtool_tunable *tunable,
		       const void *from)
{
	u32 bytes = *(const u32 *)from;

	if (tunable->id != ETHTOOL_RX_COPYBREAK)
		return -EOPNOTSUPP;
	/* What is longer would take more memory in one piece than a page. */
	if (bytes > HV_NETVSC_SHIM_COPYBREAK_MOST)
		return -ERANGE;
	WRITE_ONCE(private_of(dev)->copybreak, bytes);
	return 0;
}

const struct ethtool_ops hv_netvsc_shim_ethtool_ops = {
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
	.get_tunable = get_tunable,
	.set_tunable = set_tunable,
};
