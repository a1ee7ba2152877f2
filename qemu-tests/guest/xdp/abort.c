// SPDX-License-Identifier: GPL-2.0
/* Nobody is answered, and that is a mistake. */
#include "xdp.h"

PROGRAM int program(struct xdp_md *frame)
{
	return question(frame) ? XDP_ABORTED : XDP_PASS;
}
