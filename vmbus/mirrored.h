/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Layouts of structures that C declares and Rust once more, which asserts the
 * same numbers (abstractions/mirrored.rs): so a change on one side alone does not
 * compile.
 */
#ifndef VMBUS_MIRRORED_H
#define VMBUS_MIRRORED_H

#include <linux/build_bug.h>
#include <linux/stddef.h>

#define HAS_BYTES(type, bytes) static_assert(sizeof(struct type) == (bytes))
#define HAS_FIELD(type, field, offset, bytes)			\
	static_assert(offsetof(struct type, field) == (offset) && \
		      sizeof_field(struct type, field) == (bytes))

#endif
