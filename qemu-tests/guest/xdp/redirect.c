// SPDX-License-Identifier: GPL-2.0
/* The same, as if another device sent it. */
#include "xdp.h"

PROGRAM int program(struct xdp_md *frame)
{
	struct ping *ping = question(frame);

	if (!ping)
		return XDP_PASS;
	answer(ping);
	return redirect(frame->ingress_ifindex, 0);
}
