/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the XDP programs of the scenarios share. Each is compiled twice: for
 * frames in one piece, and (FRAGS) for frames in several.
 */
#ifndef _XDP_H
#define _XDP_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/in.h>

#define SECTION(name) __attribute__((section(name), used))
#ifdef FRAGS
#define PROGRAM SECTION("xdp.frags")
#else
#define PROGRAM SECTION("xdp")
#endif

#define BIG_ENDIAN16(value) ((__u16)__builtin_bswap16(value))

static long (*const redirect)(__u32 device, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*const adjust_head)(struct xdp_md *frame, int by) = (void *)BPF_FUNC_xdp_adjust_head;
static long (*const adjust_tail)(struct xdp_md *frame, int by) = (void *)BPF_FUNC_xdp_adjust_tail;
static __u64 (*const length)(struct xdp_md *frame) = (void *)BPF_FUNC_xdp_get_buff_len;
static __u32 (*const random_number)(void) = (void *)BPF_FUNC_get_prandom_u32;

char program_license[] SECTION("license") = "GPL";

/* The kernel's header for ICMP needs a libc for this machine. */
#define ICMP_ECHO 8
#define ICMP_ECHOREPLY 0

struct ping {
	struct ethhdr ethernet;
	struct iphdr ip;
	__u8 type;
	__u8 code;
	__u16 checksum;
} __attribute__((packed));

/* The headers of a frame that asks for an answer, or nothing. */
static inline __attribute__((always_inline)) struct ping *question(struct xdp_md *frame)
{
	struct ping *ping = (void *)(long)frame->data;

	if ((void *)(ping + 1) > (void *)(long)frame->data_end)
		return 0;
	if (ping->ethernet.h_proto != BIG_ENDIAN16(ETH_P_IP) || ping->ip.ihl != 5 ||
	    ping->ip.protocol != IPPROTO_ICMP || ping->type != ICMP_ECHO)
		return 0;
	return ping;
}

/* Makes it the answer. */
static inline __attribute__((always_inline)) void answer(struct ping *ping)
{
	__u8 address[ETH_ALEN];
	__u32 from = ping->ip.saddr;
	__u32 sum;

	__builtin_memcpy(address, ping->ethernet.h_source, ETH_ALEN);
	__builtin_memcpy(ping->ethernet.h_source, ping->ethernet.h_dest, ETH_ALEN);
	__builtin_memcpy(ping->ethernet.h_dest, address, ETH_ALEN);
	ping->ip.saddr = ping->ip.daddr;
	ping->ip.daddr = from;
	ping->type = ICMP_ECHOREPLY;
	/* The type is 8 less, in the upper half of the first word. */
	sum = (__u32)ping->checksum + BIG_ENDIAN16(ICMP_ECHO << 8);
	ping->checksum = (__u16)(sum + (sum >> 16));
}

#endif
