// SPDX-License-Identifier: GPL-2.0
/*
 * Moves both ends of each question by as much as a random number says, often by
 * more than there is, then does with it whatever that says, too.
 */
#include "xdp.h"

PROGRAM int program(struct xdp_md *frame)
{
	__u32 number = random_number();
	struct ping *ping;

	if (!question(frame))
		return XDP_PASS;
	/* What cannot be done leaves the frame as it is. */
	adjust_head(frame, (int)(number & 1023) - 512);
	adjust_tail(frame, (int)((number >> 10) & 8191) - 4096);
	switch (number >> 29) {
	case 0:
		adjust_tail(frame, 16 - (int)length(frame));
		return XDP_PASS;
	case 1:
		adjust_tail(frame, 14 - (int)length(frame));
		return XDP_TX;
	case 2:
		return redirect(frame->ingress_ifindex, 0);
	case 3:
		return XDP_DROP;
	case 4:
		return XDP_TX;
	default:
		ping = question(frame);
		if (ping)
			answer(ping);
		return XDP_PASS;
	}
}
