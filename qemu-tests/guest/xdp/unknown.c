// SPDX-License-Identifier: GPL-2.0
/* Wants what there is not. */
#include "xdp.h"

PROGRAM int program(struct xdp_md *frame)
{
	return question(frame) ? 77 : XDP_PASS;
}
