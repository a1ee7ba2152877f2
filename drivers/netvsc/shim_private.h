/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the shim share. */
#ifndef _HV_NETVSC_SHIM_PRIVATE_H
#define _HV_NETVSC_SHIM_PRIVATE_H

#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/xdp.h>

#include "shim.h"

/*
 * Longest received frame that does not go to pages of the pool, in bytes. By
 * default all do: an sk_buff that is built around a page costs less than one
 * with memory of its own, whatever its length.
 */
#define HV_NETVSC_SHIM_COPYBREAK 0
#define HV_NETVSC_SHIM_COPYBREAK_MOST 2048

/* Kinds of flow whose ports may count for the queue that sends them, or not. */
#define HV_NETVSC_SHIM_PORTS_TCP4 BIT(0)
#define HV_NETVSC_SHIM_PORTS_TCP6 BIT(1)
#define HV_NETVSC_SHIM_PORTS_UDP4 BIT(2)
#define HV_NETVSC_SHIM_PORTS_UDP6 BIT(3)
#define HV_NETVSC_SHIM_PORTS_ALL GENMASK(3, 0)

/* What went by a virtual function, on one CPU. */
struct hv_vf_stats {
	u64_stats_t rx_packets;
	u64_stats_t rx_bytes;
	u64_stats_t tx_packets;
	u64_stats_t tx_bytes;
	u64_stats_t tx_dropped;
	struct u64_stats_sync syncp;
};

/*
 * A limit of the packets that the stack leaves to be segmented: what is wanted of it, and what
 * this driver has made of that.
 */
struct hv_netvsc_limit {
	u32 wanted;
	u32 left;
};

struct private {
	/* What the callbacks work with; set while the device is registered. */
	void *data;
	/* It is registered, and not being unregistered: its link may change. */
	bool registered;
	/* Nothing is to be sent: no queue is woken alone. */
	bool quiet;
	/* Frames become shorter with another connection, which is there already. */
	bool shortened;
	/* It is agreed with another connection. Under RTNL. */
	bool agreeing;
	u8 checksums;
	/* Features that the host offers now. */
	netdev_features_t offered;
	/* Longest received frame that is not worth a page. */
	u32 copybreak;
	/* The kinds of flow whose ports count, beside the addresses. */
	u32 with_ports;
	/* Sees received frames first. */
	struct bpf_prog __rcu *xdp;
	/* The virtual function that is joined, and the same while frames are sent by it. */
	struct net_device __rcu *function;
	struct net_device __rcu *path;
	/* One that is to be joined, and is in another namespace. */
	struct net_device *stray;
	/* What the function was told of the device's flags. */
	bool vf_promiscuous;
	bool vf_allmulti;
	/*
	 * Longest frame to be segmented that the host takes, and whether the function's counts
	 * instead.
	 */
	u32 tso_max;
	bool tso_of_function;
	/* Those of all packets, and of IPv4. Under RTNL. */
	struct hv_netvsc_limit gso;
	struct hv_netvsc_limit gso_ipv4;
	/* CPUs whose numbers ethtool shows. */
	u32 cpus;
	struct hv_vf_stats __percpu *vf_stats;
	/* When a frame of each queue was done with last, in jiffies. */
	unsigned long done[];
};

/* What a queue receives with. */
struct hv_napi {
	struct napi_struct napi;
	void *data;
	struct page_pool *pool;
	struct xdp_rxq_info rxq;
	/* The program of this poll, and whether it gave frames to other devices. */
	struct bpf_prog *xdp;
	bool redirected;
	/* The frame that is being filled: one of the two. */
	struct sk_buff *skb;
	struct xdp_buff frame;
};

static inline struct private *private_of(struct net_device *dev)
{
	return netdev_priv(dev);
}

static inline void *data_of(struct net_device *dev)
{
	return private_of(dev)->data;
}

/* The function that is joined. Under RTNL. */
static inline struct net_device *function_of(struct net_device *dev)
{
	return rtnl_dereference(private_of(dev)->function);
}

extern const struct ethtool_ops hv_netvsc_shim_ethtool_ops;

void hv_netvsc_shim_set_tso_max(struct net_device *dev, u32 most);

netdev_tx_t hv_netvsc_shim_start_xmit(struct sk_buff *skb, struct net_device *dev);
u16 hv_netvsc_shim_select_queue(struct net_device *dev, struct sk_buff *skb,
				struct net_device *sb_dev);
netdev_features_t hv_netvsc_shim_features_check(struct sk_buff *skb, struct net_device *dev,
						netdev_features_t features);
bool hv_netvsc_shim_send(struct sk_buff *skb, struct net_device *dev);

u32 hv_netvsc_shim_xdp_run(struct hv_napi *queue, const struct hv_netvsc_shim_rx *rx);
int hv_netvsc_shim_bpf(struct net_device *dev, struct netdev_bpf *bpf);
bool hv_netvsc_shim_xdp_allows(struct net_device *dev, u32 mtu);
rx_handler_result_t hv_netvsc_shim_vf_receive(struct sk_buff **pskb);
bool hv_netvsc_shim_vf_xmit(struct sk_buff *skb, struct net_device *dev,
			    struct net_device *function);
u16 hv_netvsc_shim_vf_select(struct net_device *dev, struct sk_buff *skb,
			     struct net_device *function, struct net_device *sb_dev);
void hv_netvsc_shim_vf_stats(struct net_device *dev, unsigned int cpu,
			     struct hv_netvsc_shim_vf_stats *sum);
void hv_netvsc_shim_vf_total(struct net_device *dev, struct hv_netvsc_shim_vf_stats *sum);
void hv_netvsc_shim_vf_tell(struct net_device *dev, struct net_device *card, u32 event);
void hv_netvsc_shim_vf_flags(struct net_device *dev);
void hv_netvsc_shim_vf_addresses(struct net_device *dev);
int hv_netvsc_shim_vf_open(struct net_device *dev);
void hv_netvsc_shim_vf_close(struct net_device *dev);
int hv_netvsc_shim_vf_mtu(struct net_device *dev, int mtu);
int hv_netvsc_shim_vf_address(struct net_device *dev, void *address);
void hv_netvsc_shim_vf_features(struct net_device *dev, netdev_features_t features);
int hv_netvsc_shim_vf_xdp(struct net_device *dev, struct net_device *card, struct bpf_prog *prog,
			  struct netlink_ext_ack *extack);
int hv_netvsc_shim_xdp_xmit(struct net_device *dev, int count, struct xdp_frame **frames,
			    u32 flags);

#endif
