// SPDX-License-Identifier: GPL-2.0
/* Nobody is answered. */
#include "xdp.h"

PROGRAM int program(struct xdp_md *frame)
{
	return question(frame) ? XDP_DROP : XDP_PASS;
}
