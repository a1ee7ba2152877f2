// SPDX-License-Identifier: GPL-2.0
/* What ethtool sees of the device, and changes. */
#include <linux/ethtool.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/netdev_lock.h>

#include "shim_private.h"

static void get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, KBUILD_MODNAME, sizeof(info->driver));
	strscpy(info->fw_version, "N/A", sizeof(info->fw_version));
}

/*
 * Behind the numbers of the driver: what went by a virtual function, and of each CPU what it had to
 * do with.
 */
static const char vf_names[][ETH_GSTRING_LEN] = {
	"vf_rx_packets", "vf_rx_bytes", "vf_tx_packets", "vf_tx_bytes", "vf_tx_dropped",
};

static const char cpu_names[][ETH_GSTRING_LEN] = {
	"rx_packets", "rx_bytes", "tx_packets", "tx_bytes",
	"vf_rx_packets", "vf_rx_bytes", "vf_tx_packets", "vf_tx_bytes",
};

static int get_sset_count(struct net_device *dev, int set)
{
	if (set != ETH_SS_STATS)
		return -EOPNOTSUPP;
	return hv_netvsc_rust_stat_count(data_of(dev)) + ARRAY_SIZE(vf_names) +
	       private_of(dev)->cpus * ARRAY_SIZE(cpu_names);
}

static void get_strings(struct net_device *dev, u32 set, u8 *to)
{
	void *data = data_of(dev);
	u32 i, cpu, count = hv_netvsc_rust_stat_count(data);

	if (set != ETH_SS_STATS)
		return;
	for (i = 0; i < count; i++)
		hv_netvsc_rust_stat_name(data, i, to + i * ETH_GSTRING_LEN, ETH_GSTRING_LEN);
	to += count * ETH_GSTRING_LEN;
	for (i = 0; i < ARRAY_SIZE(vf_names); i++)
		ethtool_puts(&to, vf_names[i]);
	for (cpu = 0; cpu < private_of(dev)->cpus; cpu++)
		for (i = 0; i < ARRAY_SIZE(cpu_names); i++)
			ethtool_sprintf(&to, "cpu%u_%s", cpu, cpu_names[i]);
}

/* The numbers of one CPU. Returns where the next go. */
static u64 *put_cpu_numbers(struct net_device *dev, u32 cpu, u64 *to)
{
	struct hv_netvsc_shim_vf_stats function = {};
	struct hv_netvsc_shim_stats own = {};

	if (cpu_possible(cpu))
		hv_netvsc_shim_vf_stats(dev, cpu, &function);
	hv_netvsc_rust_cpu_stats(data_of(dev), cpu, &own);
	*to++ = own.rx_packets + function.rx_packets;
	*to++ = own.rx_bytes + function.rx_bytes;
	*to++ = own.tx_packets + function.tx_packets;
	*to++ = own.tx_bytes + function.tx_bytes;
	*to++ = function.rx_packets;
	*to++ = function.rx_bytes;
	*to++ = function.tx_packets;
	*to++ = function.tx_bytes;
	return to;
}

static void get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *to)
{
	struct hv_netvsc_shim_vf_stats function;
	void *data = data_of(dev);
	u32 i, cpu, count = hv_netvsc_rust_stat_count(data);

	for (i = 0; i < count; i++)
		*to++ = hv_netvsc_rust_stat_value(data, i);
	hv_netvsc_shim_vf_total(dev, &function);
	*to++ = function.rx_packets;
	*to++ = function.rx_bytes;
	*to++ = function.tx_packets;
	*to++ = function.tx_bytes;
	*to++ = function.tx_dropped;
	for (cpu = 0; cpu < private_of(dev)->cpus; cpu++)
		to = put_cpu_numbers(dev, cpu, to);
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
	/* An empty table is somewhere too, and aligned. */
	u32 none, len = 0;

	/* Who looks for queues that the table names says no size, and has room for all of it. */
	if (rxfh->indir)
		len = rxfh->indir_size ?: get_rxfh_indir_size(dev);
	rxfh->hfunc = ETH_RSS_HASH_TOP;
	hv_netvsc_rust_spread(data_of(dev), rxfh->indir ?: &none, len, rxfh->key ?: key);
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

/* Which flag says that ports of these flows count, or 0. */
static u32 ports_flag(u32 flow_type)
{
	switch (flow_type) {
	case TCP_V4_FLOW:
		return HV_NETVSC_SHIM_PORTS_TCP4;
	case TCP_V6_FLOW:
		return HV_NETVSC_SHIM_PORTS_TCP6;
	case UDP_V4_FLOW:
		return HV_NETVSC_SHIM_PORTS_UDP4;
	case UDP_V6_FLOW:
		return HV_NETVSC_SHIM_PORTS_UDP6;
	default:
		return 0;
	}
}

#define BY_ADDRESS (RXH_IP_SRC | RXH_IP_DST)
#define BY_PORT (RXH_L4_B_0_1 | RXH_L4_B_2_3)

static int get_rxfh_fields(struct net_device *dev, struct ethtool_rxfh_fields *info)
{
	u32 flag = ports_flag(info->flow_type);

	if (flag || info->flow_type == IPV4_FLOW || info->flow_type == IPV6_FLOW)
		info->data = BY_ADDRESS;
	else
		info->data = 0;
	if (flag & private_of(dev)->with_ports)
		info->data |= BY_PORT;
	return 0;
}

/* As with C, it is the queue that sends that is chosen by these. */
static int set_rxfh_fields(struct net_device *dev, const struct ethtool_rxfh_fields *info,
			   struct netlink_ext_ack *extack)
{
	u32 flag = ports_flag(info->flow_type), flags = private_of(dev)->with_ports;

	if (!flag)
		return -EOPNOTSUPP;
	if (info->data == (BY_ADDRESS | BY_PORT))
		flags |= flag;
	else if (info->data == BY_ADDRESS)
		flags &= ~flag;
	else
		return -EOPNOTSUPP;
	WRITE_ONCE(private_of(dev)->with_ports, flags);
	return 0;
}

static int get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *settings)
{
	struct net_device *function = function_of(dev);

	if (function)
		return __ethtool_get_link_ksettings(function, settings);
	settings->base.speed = hv_netvsc_rust_speed(data_of(dev)) ?: SPEED_UNKNOWN;
	settings->base.duplex = DUPLEX_FULL;
	settings->base.port = PORT_OTHER;
	settings->base.autoneg = AUTONEG_DISABLE;
	return 0;
}

/* A virtual function's. The adapter has none to be set. */
static int set_link_ksettings(struct net_device *dev, const struct ethtool_link_ksettings *settings)
{
	struct net_device *function = function_of(dev);
	int err;

	if (!function || !function->ethtool_ops->set_link_ksettings)
		return -EOPNOTSUPP;
	netdev_lock_ops(function);
	err = function->ethtool_ops->set_link_ksettings(function, settings);
	netdev_unlock_ops(function);
	return err;
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
	.get_rxfh_fields = get_rxfh_fields,
	.set_rxfh_fields = set_rxfh_fields,
	.get_link_ksettings = get_link_ksettings,
	.set_link_ksettings = set_link_ksettings,
	.get_tunable = get_tunable,
	.set_tunable = set_tunable,
};
