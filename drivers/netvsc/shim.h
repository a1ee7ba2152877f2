/* SPDX-License-Identifier: GPL-2.0 */
/* Declared once more in net/ffi.rs: keep the two in step, and shim_layout.h. */
#ifndef _HV_NETVSC_SHIM_H
#define _HV_NETVSC_SHIM_H

#include <linux/types.h>

struct device;
struct napi_struct;
struct net_device;
struct sk_buff;

extern unsigned int hv_netvsc_shim_ring_size;

/* Most pieces of memory of an sk_buff beside its linear part. */
#define HV_NETVSC_SHIM_FRAGS 17
/* Room for a header before the frame: 92 bytes, and 7 to align it. */
#define HV_NETVSC_SHIM_HEADROOM 104

/* What the host does to a frame. */
enum hv_netvsc_shim_task {
	HV_NETVSC_SHIM_NOTHING,
	HV_NETVSC_SHIM_CHECKSUM,
	HV_NETVSC_SHIM_SEGMENT,
};

/* Seconds for which a host may do nothing with what a stopped queue has sent. */
#define HV_NETVSC_SHIM_TIMEOUT 10
/*
 * Seconds after which a host that has done nothing is not just slow. Less: it may have done
 * something right after the last frame was sent.
 */
#define HV_NETVSC_SHIM_IDLE 5

/* Bytes of the key that received frames are spread by. */
#define HV_NETVSC_SHIM_KEY 40

/* Checksums that the host can fill in. */
#define HV_NETVSC_SHIM_TCP4 1
#define HV_NETVSC_SHIM_UDP4 2
#define HV_NETVSC_SHIM_TCP6 4
#define HV_NETVSC_SHIM_UDP6 8

/* Why a frame was dropped before the driver saw it. */
enum hv_netvsc_shim_drop {
	HV_NETVSC_SHIM_NO_MEMORY,
	HV_NETVSC_SHIM_TOO_BIG,
	HV_NETVSC_SHIM_VLAN,
	HV_NETVSC_SHIM_OTHER,
};

struct hv_netvsc_shim_piece {
	u64 phys;
	u32 len;
	u32 unused;
};

/* What sending a frame needs to know of it. */
struct hv_netvsc_shim_tx {
	/* The linear part: address, and the same for the device. */
	u8 *data;
	u64 phys;
	u32 len;
	u32 linear;
	u32 pieces;
	u32 hash;
	u16 queue;
	u16 vlan;
	u16 mss;
	/* Where the TCP or UDP header starts. */
	u16 offset;
	u8 task;
	bool ipv6;
	bool udp;
	bool tagged;
	bool more;
	bool linearized;
	struct hv_netvsc_shim_piece piece[HV_NETVSC_SHIM_FRAGS];
};

/* What delivering a frame needs to know of it. */
struct hv_netvsc_shim_rx {
	u32 hash;
	u16 vlan;
	bool hashed;
	bool tagged;
	bool l4_good;
	/* The IPv4 header's checksum has to be computed. */
	bool fill_ip;
};

/* What kind of frame it was. */
enum hv_netvsc_shim_cast {
	HV_NETVSC_SHIM_UNICAST,
	HV_NETVSC_SHIM_MULTICAST,
	/* It is not one. */
	HV_NETVSC_SHIM_DROPPED,
	/* No memory. */
	HV_NETVSC_SHIM_NOT_BUILT,
	/* What a program did with it. */
	HV_NETVSC_SHIM_XDP_DROPPED,
	HV_NETVSC_SHIM_XDP_SENT,
	HV_NETVSC_SHIM_XDP_REDIRECTED,
	/* Nothing; for the shim alone. */
	HV_NETVSC_SHIM_XDP_PASSED,
};

/* What was agreed on with the host, as far as it matters to the stack. */
struct hv_netvsc_shim_terms {
	u32 mtu;
	u32 max_mtu;
	u32 tso_max;
	/* HV_NETVSC_SHIM_TCP4 and so on. */
	u8 checksums;
	bool tso4;
	bool tso6;
	bool coalesce;
};

/* What a device has to be told before it is registered. */
struct hv_netvsc_shim_config {
	const u8 *address;
	const u8 *alias;
	u32 alias_len;
	struct hv_netvsc_shim_terms terms;
};

struct hv_netvsc_shim_stats {
	u64 rx_packets;
	u64 rx_bytes;
	u64 rx_dropped;
	u64 rx_errors;
	u64 multicast;
	u64 tx_packets;
	u64 tx_bytes;
	u64 tx_dropped;
};

struct hv_netvsc_shim_limits {
	u32 now;
	u32 most;
};

struct hv_netvsc_shim_sections {
	u32 receive;
	u32 receive_most;
	u32 send;
	u32 send_most;
};

/* A card that may be a virtual function. */
struct hv_netvsc_shim_card {
	/* Its own address, the one it has now, and the device's own. */
	u8 permanent[6];
	u8 address[6];
	u8 ours[6];
	/* It is joined to the device; it is up and has a link; it is in the device's namespace. */
	bool joined;
	bool usable;
	bool same_net;
	/* Name of its slot, and how long that is; none if it is empty. */
	u8 slot[32];
	u32 slot_len;
};

/* What becomes of a card. */
enum hv_netvsc_shim_card_event {
	/* It is about to be registered. */
	HV_NETVSC_SHIM_CARD_BEGINS,
	HV_NETVSC_SHIM_CARD_APPEARS,
	/* It is up, or down, or its link is. */
	HV_NETVSC_SHIM_CARD_CHANGES,
	/* It is about to be brought down. */
	HV_NETVSC_SHIM_CARD_CLOSES,
	HV_NETVSC_SHIM_CARD_GOES,
};

struct hv_netvsc_shim_vf_stats {
	u64 rx_packets;
	u64 rx_bytes;
	u64 tx_packets;
	u64 tx_bytes;
	u64 tx_dropped;
};

struct hv_netvsc_shim_notifier;

struct net_device *hv_netvsc_shim_alloc(struct device *parent, u32 queues);
int hv_netvsc_shim_register(struct net_device *dev, void *data,
			    const struct hv_netvsc_shim_config *config);
void hv_netvsc_shim_unregister(struct net_device *dev);
bool hv_netvsc_shim_agree(struct net_device *dev, const struct hv_netvsc_shim_terms *terms);
u32 hv_netvsc_shim_mtu(const struct net_device *dev);
void hv_netvsc_shim_dealloc(struct net_device *dev);
void hv_netvsc_shim_recover(struct net_device *dev);
void hv_netvsc_shim_notify_peers(struct net_device *dev);
void hv_netvsc_shim_carrier(struct net_device *dev, bool on);
u32 hv_netvsc_shim_flags(struct net_device *dev);

void hv_netvsc_shim_tx_stop(struct net_device *dev, u32 queue);
bool hv_netvsc_shim_tx_stopped(struct net_device *dev, u32 queue);
void hv_netvsc_shim_tx_wake(struct net_device *dev, u32 queue);
void hv_netvsc_shim_tx_wake_all(struct net_device *dev);
void hv_netvsc_shim_tx_disable(struct net_device *dev);
bool hv_netvsc_shim_tx_sent(struct net_device *dev, u32 queue, u32 bytes, bool more);
bool hv_netvsc_shim_has_own_table(struct net_device *dev);
bool hv_netvsc_shim_tx_completed(struct net_device *dev, u32 queue, u32 packets, u32 bytes);
bool hv_netvsc_shim_tx_stalled(struct net_device *dev, u32 queue);
void hv_netvsc_shim_tx_reset(struct net_device *dev);
void hv_netvsc_shim_tx_end(struct net_device *dev, u32 queue);
void hv_netvsc_shim_use_queues(struct net_device *dev, u32 queues);
void hv_netvsc_shim_barrier(void);

void hv_netvsc_shim_free(struct sk_buff *skb);
void hv_netvsc_shim_consume(struct sk_buff *skb, int budget);
int hv_netvsc_shim_copy(struct sk_buff *skb, void *to, u32 len);

struct napi_struct *hv_netvsc_shim_napi_add(struct net_device *dev, u32 index, void *data);
void hv_netvsc_shim_napi_del(struct napi_struct *napi);
void hv_netvsc_shim_napi_schedule(struct napi_struct *napi);
void hv_netvsc_shim_napi_kick(struct napi_struct *napi);

void *hv_netvsc_shim_rx_begin(struct napi_struct *napi, u32 len, u32 *room);
void *hv_netvsc_shim_rx_more(struct napi_struct *napi, u32 len, u32 *room);
void hv_netvsc_shim_rx_abort(struct napi_struct *napi);
u32 hv_netvsc_shim_rx_end(struct napi_struct *napi, const struct hv_netvsc_shim_rx *rx);

u64 hv_netvsc_shim_phys(const void *address);
u32 hv_netvsc_shim_cpus(void);
u32 hv_netvsc_shim_default_queues(void);
void hv_netvsc_shim_rss_key(u8 *key, u32 len);

bool hv_netvsc_shim_isolated(void);
struct hv_netvsc_shim_notifier *hv_netvsc_shim_notifier_add(struct net_device *dev);
void hv_netvsc_shim_notifier_del(struct hv_netvsc_shim_notifier *notifier);
int hv_netvsc_shim_rx_handler_add(struct net_device *card, struct net_device *dev);
void hv_netvsc_shim_rx_handler_del(struct net_device *card);
int hv_netvsc_shim_upper_add(struct net_device *card, struct net_device *dev);
void hv_netvsc_shim_upper_del(struct net_device *card, struct net_device *dev);
void hv_netvsc_shim_vf_mark(struct net_device *card);
void hv_netvsc_shim_vf_joined(struct net_device *dev, struct net_device *card);
void hv_netvsc_shim_vf_left(struct net_device *dev, struct net_device *card);
void hv_netvsc_shim_vf_stray(struct net_device *dev, struct net_device *card);
void hv_netvsc_shim_vf_take_up(struct net_device *dev);
void hv_netvsc_shim_vf_path(struct net_device *dev, bool function);
void hv_netvsc_shim_vf_leave_path(struct net_device *dev);

/* The callbacks, in net/ops.rs, net/vf.rs and net/napi.rs. */
void hv_netvsc_rust_vf_event(void *data, struct net_device *card,
			     const struct hv_netvsc_shim_card *what, u32 event);
void hv_netvsc_rust_vf_follow(void *data);
void hv_netvsc_rust_cpu_stats(void *data, u32 cpu, struct hv_netvsc_shim_stats *stats);
void hv_netvsc_rust_queue_stats(void *data, u32 queue, struct hv_netvsc_shim_stats *stats);
int hv_netvsc_rust_open(void *data);
void hv_netvsc_rust_stop(void *data);
bool hv_netvsc_rust_xmit(void *data, struct sk_buff *skb, const struct hv_netvsc_shim_tx *tx);
void hv_netvsc_rust_dropped(void *data, u32 queue, u32 why);
u32 hv_netvsc_rust_select(void *data, u32 hash);
void hv_netvsc_rust_xdp_sent(void *data, u32 queue, u32 sent);
void hv_netvsc_rust_timed_out(void *data, u32 queue);
int hv_netvsc_rust_recover(void *data);
void hv_netvsc_rust_rx_mode(void *data);
int hv_netvsc_rust_set_coalesce(void *data, bool on);
int hv_netvsc_rust_set_address(void *data, const u8 *address);
void hv_netvsc_rust_stats(void *data, struct hv_netvsc_shim_stats *stats);
u32 hv_netvsc_rust_speed(void *data);
u32 hv_netvsc_rust_stat_count(void *data);
void hv_netvsc_rust_stat_name(void *data, u32 index, u8 *name, u32 len);
u64 hv_netvsc_rust_stat_value(void *data, u32 index);
int hv_netvsc_rust_change_mtu(void *data, u32 mtu, u32 *agreed);
void hv_netvsc_rust_channels(void *data, struct hv_netvsc_shim_limits *limits);
int hv_netvsc_rust_set_channels(void *data, u32 channels);
void hv_netvsc_rust_sections(void *data, struct hv_netvsc_shim_sections *sections);
int hv_netvsc_rust_set_sections(void *data, u32 receive, u32 send);
u32 hv_netvsc_rust_table_len(void *data);
void hv_netvsc_rust_spread(void *data, u32 *table, u32 len, u8 *key);
int hv_netvsc_rust_set_spread(void *data, const u32 *table, u32 len, const u8 *key);
int hv_netvsc_rust_poll(void *data, struct napi_struct *napi, int budget);

#endif
