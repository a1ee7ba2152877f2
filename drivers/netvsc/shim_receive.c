// SPDX-License-Identifier: GPL-2.0
/* What receiving takes: polling, and frames on their way to the stack. */
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <net/ip.h>

#include "shim_private.h"

struct hv_napi {
	struct napi_struct napi;
	void *data;
};

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
