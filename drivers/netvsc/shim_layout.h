/* SPDX-License-Identifier: GPL-2.0 */
/* What net/ffi.rs declares once more; net/ffi/layout.rs asserts the same numbers. */
#ifndef _HV_NETVSC_SHIM_LAYOUT_H
#define _HV_NETVSC_SHIM_LAYOUT_H

#include "../../vmbus/mirrored.h"
#include "shim.h"

HAS_BYTES(hv_netvsc_shim_card, 60);
HAS_FIELD(hv_netvsc_shim_card, permanent, 0, 6);
HAS_FIELD(hv_netvsc_shim_card, address, 6, 6);
HAS_FIELD(hv_netvsc_shim_card, ours, 12, 6);
HAS_FIELD(hv_netvsc_shim_card, joined, 18, 1);
HAS_FIELD(hv_netvsc_shim_card, usable, 19, 1);
HAS_FIELD(hv_netvsc_shim_card, same_net, 20, 1);
HAS_FIELD(hv_netvsc_shim_card, slot, 21, 32);
HAS_FIELD(hv_netvsc_shim_card, slot_len, 56, 4);

HAS_BYTES(hv_netvsc_shim_piece, 16);
HAS_FIELD(hv_netvsc_shim_piece, phys, 0, 8);
HAS_FIELD(hv_netvsc_shim_piece, len, 8, 4);
HAS_FIELD(hv_netvsc_shim_piece, unused, 12, 4);

HAS_BYTES(hv_netvsc_shim_tx, 320);
HAS_FIELD(hv_netvsc_shim_tx, data, 0, 8);
HAS_FIELD(hv_netvsc_shim_tx, phys, 8, 8);
HAS_FIELD(hv_netvsc_shim_tx, len, 16, 4);
HAS_FIELD(hv_netvsc_shim_tx, linear, 20, 4);
HAS_FIELD(hv_netvsc_shim_tx, pieces, 24, 4);
HAS_FIELD(hv_netvsc_shim_tx, hash, 28, 4);
HAS_FIELD(hv_netvsc_shim_tx, queue, 32, 2);
HAS_FIELD(hv_netvsc_shim_tx, vlan, 34, 2);
HAS_FIELD(hv_netvsc_shim_tx, mss, 36, 2);
HAS_FIELD(hv_netvsc_shim_tx, offset, 38, 2);
HAS_FIELD(hv_netvsc_shim_tx, task, 40, 1);
HAS_FIELD(hv_netvsc_shim_tx, ipv6, 41, 1);
HAS_FIELD(hv_netvsc_shim_tx, udp, 42, 1);
HAS_FIELD(hv_netvsc_shim_tx, tagged, 43, 1);
HAS_FIELD(hv_netvsc_shim_tx, more, 44, 1);
HAS_FIELD(hv_netvsc_shim_tx, linearized, 45, 1);
HAS_FIELD(hv_netvsc_shim_tx, piece, 48, 272);

HAS_BYTES(hv_netvsc_shim_rx, 12);
HAS_FIELD(hv_netvsc_shim_rx, hash, 0, 4);
HAS_FIELD(hv_netvsc_shim_rx, vlan, 4, 2);
HAS_FIELD(hv_netvsc_shim_rx, hashed, 6, 1);
HAS_FIELD(hv_netvsc_shim_rx, tagged, 7, 1);
HAS_FIELD(hv_netvsc_shim_rx, l4_good, 8, 1);
HAS_FIELD(hv_netvsc_shim_rx, fill_ip, 9, 1);

HAS_BYTES(hv_netvsc_shim_terms, 16);
HAS_FIELD(hv_netvsc_shim_terms, mtu, 0, 4);
HAS_FIELD(hv_netvsc_shim_terms, max_mtu, 4, 4);
HAS_FIELD(hv_netvsc_shim_terms, tso_max, 8, 4);
HAS_FIELD(hv_netvsc_shim_terms, checksums, 12, 1);
HAS_FIELD(hv_netvsc_shim_terms, tso4, 13, 1);
HAS_FIELD(hv_netvsc_shim_terms, tso6, 14, 1);
HAS_FIELD(hv_netvsc_shim_terms, coalesce, 15, 1);

HAS_BYTES(hv_netvsc_shim_config, 40);
HAS_FIELD(hv_netvsc_shim_config, address, 0, 8);
HAS_FIELD(hv_netvsc_shim_config, alias, 8, 8);
HAS_FIELD(hv_netvsc_shim_config, alias_len, 16, 4);
HAS_FIELD(hv_netvsc_shim_config, terms, 20, 16);

HAS_BYTES(hv_netvsc_shim_limits, 8);
HAS_FIELD(hv_netvsc_shim_limits, now, 0, 4);
HAS_FIELD(hv_netvsc_shim_limits, most, 4, 4);

HAS_BYTES(hv_netvsc_shim_sections, 16);
HAS_FIELD(hv_netvsc_shim_sections, receive, 0, 4);
HAS_FIELD(hv_netvsc_shim_sections, receive_most, 4, 4);
HAS_FIELD(hv_netvsc_shim_sections, send, 8, 4);
HAS_FIELD(hv_netvsc_shim_sections, send_most, 12, 4);

HAS_BYTES(hv_netvsc_shim_stats, 64);
HAS_FIELD(hv_netvsc_shim_stats, rx_packets, 0, 8);
HAS_FIELD(hv_netvsc_shim_stats, rx_bytes, 8, 8);
HAS_FIELD(hv_netvsc_shim_stats, rx_dropped, 16, 8);
HAS_FIELD(hv_netvsc_shim_stats, rx_errors, 24, 8);
HAS_FIELD(hv_netvsc_shim_stats, multicast, 32, 8);
HAS_FIELD(hv_netvsc_shim_stats, tx_packets, 40, 8);
HAS_FIELD(hv_netvsc_shim_stats, tx_bytes, 48, 8);
HAS_FIELD(hv_netvsc_shim_stats, tx_dropped, 56, 8);

static_assert(HV_NETVSC_SHIM_HEADROOM == 104);
static_assert(HV_NETVSC_SHIM_KEY == 40);

static_assert(HV_NETVSC_SHIM_CHECKSUM == 1);
static_assert(HV_NETVSC_SHIM_SEGMENT == 2);

static_assert(HV_NETVSC_SHIM_TCP4 == 1);
static_assert(HV_NETVSC_SHIM_UDP4 == 2);
static_assert(HV_NETVSC_SHIM_TCP6 == 4);
static_assert(HV_NETVSC_SHIM_UDP6 == 8);

static_assert(HV_NETVSC_SHIM_NO_MEMORY == 0);
static_assert(HV_NETVSC_SHIM_TOO_BIG == 1);
static_assert(HV_NETVSC_SHIM_VLAN == 2);

static_assert(HV_NETVSC_SHIM_UNICAST == 0);
static_assert(HV_NETVSC_SHIM_MULTICAST == 1);
static_assert(HV_NETVSC_SHIM_DROPPED == 2);
static_assert(HV_NETVSC_SHIM_XDP_DROPPED == 4);
static_assert(HV_NETVSC_SHIM_XDP_SENT == 5);
static_assert(HV_NETVSC_SHIM_XDP_REDIRECTED == 6);

static_assert(HV_NETVSC_SHIM_CARD_BEGINS == 0);
static_assert(HV_NETVSC_SHIM_CARD_APPEARS == 1);
static_assert(HV_NETVSC_SHIM_CARD_CLOSES == 3);
static_assert(HV_NETVSC_SHIM_CARD_GOES == 4);

#endif
