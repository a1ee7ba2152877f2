// SPDX-License-Identifier: GPL-2.0
/*
 * A virtual function: another card that is joined to the device. How it is found and joined;
 * shim_vf_follow.c has how it follows the device, shim_vf_frames.c what goes by it.
 */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/if_vlan.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <net/netdev_lock.h>

#include <asm/mshyperv.h>

#include "shim_private.h"

struct hv_netvsc_shim_notifier {
	struct notifier_block block;
	struct net_device *dev;
};

bool hv_netvsc_shim_isolated(void)
{
	return hv_is_isolation_supported();
}

/*
 * What a card is. Only one that is on a PCI bus is looked at: no bond, VLAN, macvlan or tun is, nor
 * a device of this driver.
 */
static bool describe(struct net_device *dev, struct net_device *card, u32 event,
		     struct hv_netvsc_shim_card *to)
{
	bool comes = event == HV_NETVSC_SHIM_CARD_BEGINS || event == HV_NETVSC_SHIM_CARD_APPEARS;
	const struct pci_slot *slot;

	if (card == dev || card->type != ARPHRD_ETHER || card->addr_len != ETH_ALEN ||
	    card->netdev_ops == dev->netdev_ops || is_vlan_dev(card) ||
	    netif_is_bond_master(card) || netif_is_macvlan(card))
		return false;
	if (!card->dev.parent || !dev_is_pci(card->dev.parent))
		return false;
	memset(to, 0, sizeof(*to));
	ether_addr_copy(to->ours, dev->perm_addr);
	ether_addr_copy(to->permanent, card->perm_addr);
	ether_addr_copy(to->address, card->dev_addr);
	/* Later the slot may go, with the driver that knows of it. */
	slot = comes ? to_pci_dev(card->dev.parent)->slot : NULL;
	if (slot) {
		ssize_t len = strscpy(to->slot, pci_slot_name(slot), sizeof(to->slot));

		/* One that is cut off is no number. */
		to->slot_len = len > 0 ? len : 0;
	}
	to->joined = function_of(dev) == card;
	to->usable = netif_running(card) && netif_carrier_ok(card);
	to->same_net = net_eq(dev_net(dev), dev_net(card));
	return true;
}

static void forget_stray(struct net_device *dev)
{
	struct private *private = netdev_priv(dev);

	if (private->stray)
		dev_put(private->stray);
	private->stray = NULL;
}

/*
 * Tells the driver of a card, if that may be a function. Under RTNL, with the card's lock if it has
 * one.
 */
void hv_netvsc_shim_vf_tell(struct net_device *dev, struct net_device *card, u32 event)
{
	struct hv_netvsc_shim_card what;

	if (describe(dev, card, event, &what))
		hv_netvsc_rust_vf_event(data_of(dev), card, &what, event);
}

/* Under RTNL. With some events the card's own lock is held, if it has one. */
static int on_event(struct notifier_block *block, unsigned long event, void *info)
{
	struct net_device *dev = container_of(block, struct hv_netvsc_shim_notifier, block)->dev;
	struct net_device *card = netdev_notifier_info_to_dev(info);
	u32 kind;

	switch (event) {
	case NETDEV_POST_INIT:
		kind = HV_NETVSC_SHIM_CARD_BEGINS;
		break;
	case NETDEV_REGISTER:
		kind = HV_NETVSC_SHIM_CARD_APPEARS;
		break;
	case NETDEV_UNREGISTER:
		kind = HV_NETVSC_SHIM_CARD_GOES;
		break;
	case NETDEV_GOING_DOWN:
		kind = HV_NETVSC_SHIM_CARD_CLOSES;
		break;
	case NETDEV_UP:
	case NETDEV_DOWN:
	case NETDEV_CHANGE:
		kind = HV_NETVSC_SHIM_CARD_CHANGES;
		break;
	default:
		return NOTIFY_DONE;
	}
	if (card == dev) {
		/* It has gone to another namespace, where the function has to follow. */
		if (event == NETDEV_REGISTER)
			hv_netvsc_rust_vf_follow(data_of(dev));
		return NOTIFY_DONE;
	}
	if (event == NETDEV_UNREGISTER && card == private_of(dev)->stray)
		forget_stray(dev);
	hv_netvsc_shim_vf_tell(dev, card, kind);
	return NOTIFY_DONE;
}

/*
 * For a registered device. Tells of the cards that there are, too. Process context, without RTNL.
 */
struct hv_netvsc_shim_notifier *hv_netvsc_shim_notifier_add(struct net_device *dev)
{
	struct hv_netvsc_shim_notifier *notifier = kzalloc_obj(*notifier, GFP_KERNEL);

	if (!notifier)
		return NULL;
	notifier->block.notifier_call = on_event;
	notifier->dev = dev;
	if (register_netdevice_notifier(&notifier->block)) {
		kfree(notifier);
		return NULL;
	}
	return notifier;
}

/* Tells that all cards go before it returns. Process context, without RTNL. */
void hv_netvsc_shim_notifier_del(struct hv_netvsc_shim_notifier *notifier)
{
	unregister_netdevice_notifier(&notifier->block);
	kfree(notifier);
}

/* Before it is registered: nobody gives it addresses of its own. Under RTNL. */
void hv_netvsc_shim_vf_mark(struct net_device *card)
{
	card->flags |= IFF_SLAVE;
	card->priv_flags |= IFF_NO_ADDRCONF;
}

int hv_netvsc_shim_rx_handler_add(struct net_device *card, struct net_device *dev)
{
	return netdev_rx_handler_register(card, hv_netvsc_shim_vf_receive, dev);
}

/* Under RTNL. The handler runs nowhere any more when this returns. */
void hv_netvsc_shim_rx_handler_del(struct net_device *card)
{
	netdev_rx_handler_unregister(card);
}

int hv_netvsc_shim_upper_add(struct net_device *card, struct net_device *dev)
{
	return netdev_master_upper_dev_link(card, dev, NULL, NULL, NULL);
}

void hv_netvsc_shim_upper_del(struct net_device *card, struct net_device *dev)
{
	netdev_upper_dev_unlink(card, dev);
}

/* The card is joined. Under RTNL, in a NETDEV_REGISTER event of it. */
void hv_netvsc_shim_vf_joined(struct net_device *dev, struct net_device *card)
{
	struct private *private = netdev_priv(dev);

	hv_netvsc_shim_vf_mark(card);
	rcu_assign_pointer(private->function, card);
	dev->needed_headroom = max_t(unsigned short, HV_NETVSC_SHIM_HEADROOM, card->needed_headroom);
	card->wanted_features = dev->features;
	netdev_update_features(card);
	if (hv_netvsc_shim_vf_xdp(dev, card, rtnl_dereference(private->xdp), NULL))
		netdev_warn(card, "the program of %s does not see what this card receives\n", dev->name);
	call_netdevice_notifiers(NETDEV_JOIN, card);
	netdev_info(card, "joined to %s\n", dev->name);
}

/*
 * It is not any more. Under RTNL, in a NETDEV_UNREGISTER event of it. Nobody takes it up when this
 * returns.
 */
void hv_netvsc_shim_vf_left(struct net_device *dev, struct net_device *card)
{
	struct private *private = netdev_priv(dev);

	hv_netvsc_shim_vf_path(dev, false);
	RCU_INIT_POINTER(private->function, NULL);
	/* Nobody sends by it, or gives it addresses, any more. */
	synchronize_net();
	/* Or the next one would not get those that this one has. */
	dev_uc_unsync(card, dev);
	dev_mc_unsync(card, dev);
	if (private->vf_promiscuous)
		dev_set_promiscuity(card, -1);
	if (private->vf_allmulti)
		dev_set_allmulti(card, -1);
	private->vf_promiscuous = false;
	private->vf_allmulti = false;
	if (rtnl_dereference(private->xdp)) {
		netdev_lock_ops(card);
		hv_netvsc_shim_vf_xdp(dev, card, NULL, NULL);
		netdev_unlock_ops(card);
	}
	card->flags &= ~IFF_SLAVE;
	card->priv_flags &= ~IFF_NO_ADDRCONF;
	dev->needed_headroom = HV_NETVSC_SHIM_HEADROOM;
	netdev_info(card, "left %s\n", dev->name);
}

/* A card that is to be joined is in another namespace: it is taken along. Under RTNL. */
void hv_netvsc_shim_vf_stray(struct net_device *dev, struct net_device *card)
{
	forget_stray(dev);
	dev_hold(card);
	private_of(dev)->stray = card;
}

/* Frames are not sent by the function any more; who has begun to may still do. Any context. */
void hv_netvsc_shim_vf_leave_path(struct net_device *dev)
{
	RCU_INIT_POINTER(private_of(dev)->path, NULL);
}

/* By which path frames are sent. How long they may be follows. Under RTNL. */
void hv_netvsc_shim_vf_path(struct net_device *dev, bool function)
{
	struct private *private = netdev_priv(dev);
	struct net_device *card = function ? function_of(dev) : NULL;

	rcu_assign_pointer(private->path, card);
	if (card)
		hv_netvsc_shim_set_tso_max(dev, card->tso_max_size);
	else if (private->tso_of_function)
		hv_netvsc_shim_set_tso_max(dev, private->tso_max);
	private->tso_of_function = card;
}
