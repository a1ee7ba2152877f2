/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the shim share. */
#ifndef _HV_NETVSC_SHIM_PRIVATE_H
#define _HV_NETVSC_SHIM_PRIVATE_H

#include <linux/netdevice.h>
#include <net/xdp.h>

#include "shim.h"

/*
 * Longest received frame that does not go to pages of the pool, in bytes. By
 * default all do: an sk_buff that is built around a page costs less than one
 * with memory of its own, whatever its length.
 */
#define HV_NETVSC_SHIM_COPYBREAK 0
#define HV_NETVSC_SHIM_COPYBREAK_MOST 2048

struct private {
	/* What the callbacks work with; set while the device is registered. */
	void *data;
	u8 checksums;
	/* Longest received frame that is not worth a page. */
	u32 copybreak;
	/* Sees received frames first. */
	struct bpf_prog __rcu *xdp;
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

extern const struct ethtool_ops hv_netvsc_shim_ethtool_ops;

netdev_tx_t hv_netvsc_shim_start_xmit(struct sk_buff *skb, struct net_device *dev);
u16 hv_netvsc_shim_select_queue(struct net_device *dev, struct sk_buff *skb,
				struct net_device *sb_dev);
netdev_features_t hv_netvsc_shim_features_check(struct sk_buff *skb, struct net_device *dev,
						netdev_features_t features);
bool hv_netvsc_shim_send(struct sk_buff *skb, struct net_device *dev);

u32 hv_netvsc_shim_xdp_run(struct hv_napi *queue);
int hv_netvsc_shim_bpf(struct net_device *dev, struct netdev_bpf *bpf);
bool hv_netvsc_shim_xdp_allows(struct net_device *dev, u32 mtu);
int hv_netvsc_shim_xdp_xmit(struct net_device *dev, int count, struct xdp_frame **frames,
			    u32 flags);

#endif
