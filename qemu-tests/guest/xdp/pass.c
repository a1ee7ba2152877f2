// SPDX-License-Identifier: GPL-2.0
/* Everything goes to the stack. */
#include "xdp.h"

PROGRAM int program(struct xdp_md *frame)
{
	return XDP_PASS;
}
