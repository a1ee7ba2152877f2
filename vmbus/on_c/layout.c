// SPDX-License-Identifier: GPL-2.0
/*
 * Sizes and offsets that Rust has to know when it is compiled. Kbuild makes
 * crate hv_layout of the assembler output, as the kernel makes asm-offsets.h.
 */
#include <linux/hyperv.h>
#include <linux/kbuild.h>

int main(void);

int main(void)
{
	DEFINE(HV_DRIVER_BYTES, sizeof(struct hv_driver));
	DEFINE(HV_DRIVER_ALIGN, __alignof__(struct hv_driver));
	DEFINE(HV_DRIVER_DRIVER, offsetof(struct hv_driver, driver));
	DEFINE(HV_DEVICE_DEVICE, offsetof(struct hv_device, device));
	return 0;
}
