// SPDX-License-Identifier: GPL-2.0
/* How a virtual function follows the device that it is joined to. */
#include <linux/bpf.h>
#include <linux/etherdevice.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/netdev_lock.h>

#include "shim_private.h"

/* Flags that are counted, or follow from what is done elsewhere. */
#define COUNTED_FLAGS (IFF_PROMISC | IFF_ALLMULTI)

/* Which frames the function wants besides its own. Under RTNL. */
void hv_netvsc_shim_vf_flags(struct net_device *dev)
{
	struct private *private = netdev_priv(dev);
	struct net_device *card = function_of(dev);
	bool promiscuous = dev->flags & IFF_PROMISC, allmulti = dev->flags & IFF_ALLMULTI;

	if (!card)
		return;
	if (promiscuous != private->vf_promiscuous &&
	    !dev_set_promiscuity(card, promiscuous ? 1 : -1))
		private->vf_promiscuous = promiscuous;
	if (allmulti != private->vf_allmulti && !dev_set_allmulti(card, allmulti ? 1 : -1))
		private->vf_allmulti = allmulti;
}

/* In any context that may set addresses. */
void hv_netvsc_shim_vf_addresses(struct net_device *dev)
{
	struct net_device *card;

	rcu_read_lock();
	card = rcu_dereference(private_of(dev)->function);
	if (card) {
		dev_uc_sync(card, dev);
		dev_mc_sync(card, dev);
	}
	rcu_read_unlock();
}

int hv_netvsc_shim_vf_open(struct net_device *dev)
{
	struct net_device *card = function_of(dev);
	int err;

	if (!card)
		return 0;
	hv_netvsc_shim_vf_flags(dev);
	err = dev_open(card, NULL);
	if (err)
		netdev_warn(card, "not brought up with %s: %d\n", dev->name, err);
	return err;
}

void hv_netvsc_shim_vf_close(struct net_device *dev)
{
	struct net_device *card = function_of(dev);

	if (card)
		dev_close(card);
}

int hv_netvsc_shim_vf_mtu(struct net_device *dev, int mtu)
{
	struct net_device *card = function_of(dev);

	return card ? dev_set_mtu(card, mtu) : 0;
}

int hv_netvsc_shim_vf_address(struct net_device *dev, void *address)
{
	struct net_device *card = function_of(dev);

	return card ? dev_set_mac_address(card, address, NULL) : 0;
}

void hv_netvsc_shim_vf_features(struct net_device *dev, netdev_features_t features)
{
	struct net_device *card = function_of(dev);

	if (!card)
		return;
	netdev_lock_ops(card);
	card->wanted_features = features;
	netdev_update_features(card);
	netdev_unlock_ops(card);
}

/*
 * The program is the function's too, where that has a place for one. Under RTNL, with the card's
 * lock if it has one.
 */
int hv_netvsc_shim_vf_xdp(struct net_device *dev, struct net_device *card, struct bpf_prog *prog,
			  struct netlink_ext_ack *extack)
{
	struct netdev_bpf bpf = { .command = XDP_SETUP_PROG, .prog = prog, .extack = extack };
	int err;

	if (!card->netdev_ops->ndo_bpf)
		return prog ? -EOPNOTSUPP : 0;
	if (prog)
		bpf_prog_inc(prog);
	err = netif_xdp_propagate(card, &bpf);
	if (err && prog)
		bpf_prog_put(prog);
	return err;
}

static void move(struct net_device *dev, struct net_device *card)
{
	int err = dev_change_net_namespace(card, dev_net(dev), "eth%d");

	if (err)
		netdev_err(card, "cannot be moved to the namespace of %s: %d\n", dev->name, err);
	else
		netdev_info(card, "moved to the namespace of %s\n", dev->name);
}

/*
 * The device has come to where a card is that is to be joined, as when their namespace has ended.
 */
static void met(struct net_device *dev, struct net_device *card)
{
	netdev_lock_ops(card);
	hv_netvsc_shim_vf_tell(dev, card, HV_NETVSC_SHIM_CARD_APPEARS);
	hv_netvsc_shim_vf_tell(dev, card, HV_NETVSC_SHIM_CARD_CHANGES);
	netdev_unlock_ops(card);
}

static void set_up(struct net_device *dev, struct net_device *card)
{
	const u32 kept = IFF_UP | COUNTED_FLAGS;

	if (dev_set_mtu(card, dev->mtu))
		netdev_warn(card, "the MTU of %s, %u, is not for it\n", dev->name, dev->mtu);
	dev_change_flags(card, (netif_get_flags(card) & kept) | (dev->flags & ~kept) | IFF_SLAVE,
			 NULL);
	netif_addr_lock_bh(dev);
	dev_uc_sync(card, dev);
	dev_mc_sync(card, dev);
	netif_addr_unlock_bh(dev);
	if (netif_running(dev))
		hv_netvsc_shim_vf_open(dev);
	else
		hv_netvsc_shim_vf_flags(dev);
}

/*
 * Takes a card up that was joined, or moves one to where the device is; then it is joined in the
 * event of that. A moment after it has appeared: who gives it its name wants it to be down. Process
 * context.
 */
void hv_netvsc_shim_vf_take_up(struct net_device *dev)
{
	struct private *private = netdev_priv(dev);
	struct net_device *card;

	rtnl_lock();
	card = function_of(dev);
	if (dev->reg_state != NETREG_REGISTERED)
		goto out;
	if (card && !net_eq(dev_net(dev), dev_net(card))) {
		move(dev, card);
	} else if (card) {
		set_up(dev, card);
	} else if (private->stray) {
		card = private->stray;
		private->stray = NULL;
		if (card->reg_state == NETREG_REGISTERED && net_eq(dev_net(dev), dev_net(card)))
			met(dev, card);
		else if (card->reg_state == NETREG_REGISTERED)
			move(dev, card);
		dev_put(card);
	}
out:
	rtnl_unlock();
}
