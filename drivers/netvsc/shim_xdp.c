// SPDX-License-Identifier: GPL-2.0
/*
 * XDP: programs that see received frames before the stack does, and frames that
 * such programs send.
 *
 * There is one program for all queues. A poll reads which one it is when it
 * begins, and uses that to its end: polling keeps it alive, by RCU.
 */
#include <linux/bpf.h>
#include <linux/bpf_trace.h>
#include <linux/etherdevice.h>
#include <linux/filter.h>
#include <linux/if_vlan.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/skbuff.h>
#include <net/netdev_lock.h>
#include <net/xdp.h>

#include "shim_private.h"

/* Longest frame without its header that fits in one piece of memory. */
#define ONE_PIECE (SKB_WITH_OVERHEAD(PAGE_SIZE) - XDP_PACKET_HEADROOM - ETH_HLEN)

static bool takes_pieces(const struct bpf_prog *prog)
{
	return prog->aux->xdp_has_frags;
}

/*
 * Sends a frame that the stack does not know of, with the lock of its queue
 * held; it is gone afterwards. False when it was dropped. The host is told later.
 */
static bool send(struct net_device *dev, struct sk_buff *skb, u32 index)
{
	/* The stack has it without its header. */
	__skb_push(skb, ETH_HLEN);
	skb_set_queue_mapping(skb, index);
	/* A queue that is stopped has no room, or is about to go. */
	if (!netif_tx_queue_stopped(netdev_get_tx_queue(dev, index)) &&
	    hv_netvsc_shim_send(skb, dev))
		return true;
	hv_netvsc_rust_dropped(data_of(dev), index, HV_NETVSC_SHIM_OTHER);
	kfree_skb(skb);
	return false;
}

static u32 sending_queue(struct net_device *dev, u32 wanted)
{
	return wanted % READ_ONCE(dev->real_num_tx_queues);
}

/* Back to where it came from, with the tag that came beside it. The poll tells the host of it. */
static u32 bounce(struct hv_napi *queue, const struct hv_netvsc_shim_rx *rx)
{
	struct net_device *dev = queue->napi.dev;
	u32 index = sending_queue(dev, queue->rxq.queue_index);
	struct netdev_queue *to = netdev_get_tx_queue(dev, index);
	struct sk_buff *skb = xdp_build_skb_from_buff(&queue->frame);
	bool sent;

	if (!skb) {
		xdp_return_buff(&queue->frame);
		return HV_NETVSC_SHIM_XDP_DROPPED;
	}
	if (rx->tagged)
		__vlan_hwaccel_put_tag(skb, htons(ETH_P_8021Q), rx->vlan);
	__netif_tx_lock(to, smp_processor_id());
	sent = send(dev, skb, index);
	/* There are fewer queues than before: it is not the poll's. */
	if (unlikely(index != queue->rxq.queue_index))
		hv_netvsc_rust_xdp_sent(data_of(dev), index, 0);
	__netif_tx_unlock(to);
	return sent ? HV_NETVSC_SHIM_XDP_SENT : HV_NETVSC_SHIM_XDP_DROPPED;
}

/* Shows a frame to the program. Unless that lets it pass, the frame is gone afterwards. */
u32 hv_netvsc_shim_xdp_run(struct hv_napi *queue, const struct hv_netvsc_shim_rx *rx)
{
	struct net_device *dev = queue->napi.dev;
	struct bpf_prog *prog = queue->xdp;
	u32 act;

	/* A host that joins frames though it must not, or sends longer ones than it may. */
	if (unlikely(xdp_buff_has_frags(&queue->frame) && !takes_pieces(prog)))
		goto drop;
	act = bpf_prog_run_xdp(prog, &queue->frame);
	switch (act) {
	case XDP_PASS:
		return HV_NETVSC_SHIM_XDP_PASSED;
	case XDP_TX:
		act = bounce(queue, rx);
		if (act != HV_NETVSC_SHIM_XDP_SENT)
			trace_xdp_exception(dev, prog, XDP_TX);
		return act;
	case XDP_REDIRECT:
		if (!xdp_do_redirect(dev, &queue->frame, prog)) {
			queue->redirected = true;
			return HV_NETVSC_SHIM_XDP_REDIRECTED;
		}
		trace_xdp_exception(dev, prog, act);
		break;
	default:
		bpf_warn_invalid_xdp_action(dev, prog, act);
		fallthrough;
	case XDP_ABORTED:
		trace_xdp_exception(dev, prog, act);
		fallthrough;
	case XDP_DROP:
		break;
	}
drop:
	xdp_return_buff(&queue->frame);
	return HV_NETVSC_SHIM_XDP_DROPPED;
}

static int set_program(struct net_device *dev, struct netdev_bpf *bpf)
{
	struct bpf_prog *prog = bpf->prog;
	struct net_device *function;
	int err;

	if (prog && (dev->features & NETIF_F_LRO)) {
		NL_SET_ERR_MSG_MOD(bpf->extack, "the host may join frames (LRO)");
		return -EOPNOTSUPP;
	}
	if (prog && !takes_pieces(prog) && dev->mtu > ONE_PIECE) {
		NL_SET_ERR_MSG_MOD(bpf->extack,
				   "MTU too large for a program that takes frames in one piece");
		return -EOPNOTSUPP;
	}
	function = function_of(dev);
	if (function) {
		netdev_lock_ops(function);
		err = hv_netvsc_shim_vf_xdp(dev, function, prog, bpf->extack);
		/* The one before is not to go on without this one. */
		if (err == -EOPNOTSUPP)
			hv_netvsc_shim_vf_xdp(dev, function, NULL, NULL);
		netdev_unlock_ops(function);
		if (err == -EOPNOTSUPP)
			netdev_warn(dev, "the program does not see what %s receives\n", function->name);
		else if (err)
			return err;
	}
	prog = rcu_replace_pointer(private_of(dev)->xdp, prog, lockdep_rtnl_is_held());
	if (prog)
		bpf_prog_put(prog);
	return 0;
}

int hv_netvsc_shim_bpf(struct net_device *dev, struct netdev_bpf *bpf)
{
	return bpf->command == XDP_SETUP_PROG ? set_program(dev, bpf) : -EINVAL;
}

/* Whether the program takes frames that are so long. Under RTNL. */
bool hv_netvsc_shim_xdp_allows(struct net_device *dev, u32 mtu)
{
	struct bpf_prog *prog = rtnl_dereference(private_of(dev)->xdp);

	return !prog || takes_pieces(prog) || mtu <= ONE_PIECE;
}

/* Takes frames that programs of other devices send. What is not counted stays the caller's. */
int hv_netvsc_shim_xdp_xmit(struct net_device *dev, int count, struct xdp_frame **frames,
			    u32 flags)
{
	u32 index = sending_queue(dev, smp_processor_id());
	struct netdev_queue *queue = netdev_get_tx_queue(dev, index);
	int taken, sent = 0;

	if (flags & ~XDP_XMIT_FLAGS_MASK)
		return -EINVAL;
	if (!netif_running(dev) || !netif_carrier_ok(dev))
		return -ENETDOWN;
	__netif_tx_lock(queue, smp_processor_id());
	for (taken = 0; taken < count; taken++) {
		struct sk_buff *skb;

		if (netif_tx_queue_stopped(queue))
			break;
		skb = xdp_build_skb_from_frame(frames[taken], dev);
		if (!skb)
			break;
		sent += send(dev, skb, index);
	}
	/* The host is told of all of them at once. */
	hv_netvsc_rust_xdp_sent(data_of(dev), index, sent);
	__netif_tx_unlock(queue);
	return taken;
}
