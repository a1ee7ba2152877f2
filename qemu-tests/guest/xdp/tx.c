// SPDX-License-Identifier: GPL-2.0
/* The answer goes back at once; the stack does not see the question. */
#include "xdp.h"

PROGRAM int program(struct xdp_md *frame)
{
	struct ping *ping = question(frame);

	if (!ping)
		return XDP_PASS;
	answer(ping);
	return XDP_TX;
}
