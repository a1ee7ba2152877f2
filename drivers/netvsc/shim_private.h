/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the shim share. */
#ifndef _HV_NETVSC_SHIM_PRIVATE_H
#define _HV_NETVSC_SHIM_PRIVATE_H

#include <linux/netdevice.h>

#include "shim.h"

struct private {
	/* What the callbacks work with; set while the device is registered. */
	void *data;
	u8 checksums;
};

static inline void *data_of(struct net_device *dev)
{
	return ((struct private *)netdev_priv(dev))->data;
}

extern const struct ethtool_ops hv_netvsc_shim_ethtool_ops;

netdev_tx_t hv_netvsc_shim_start_xmit(struct sk_buff *skb, struct net_device *dev);
u16 hv_netvsc_shim_select_queue(struct net_device *dev, struct sk_buff *skb,
				struct net_device *sb_dev);
netdev_features_t hv_netvsc_shim_features_check(struct sk_buff *skb, struct net_device *dev,
						netdev_features_t features);

#endif
