/* SPDX-License-Identifier: GPL-2.0 */
/* The trace event of pressure reports: name and fields are those that the C driver has. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM hyperv

#if !defined(_HV_BALLOON_RUST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _HV_BALLOON_RUST_TRACE_H

#include <linux/tracepoint.h>

#include "shim.h"

TRACE_EVENT(balloon_status,
	TP_PROTO(const struct hv_balloon_shim_status *status),
	TP_ARGS(status),
	TP_STRUCT__entry(
		__field(u64, available)
		__field(u64, committed)
		__field(unsigned long, vm_memory_committed)
		__field(unsigned long, pages_ballooned)
		__field(unsigned long, pages_added)
		__field(unsigned long, pages_onlined)
	),
	TP_fast_assign(
		__entry->available = status->available;
		__entry->committed = status->committed;
		__entry->vm_memory_committed = status->vm_memory_committed;
		__entry->pages_ballooned = status->pages_ballooned;
		__entry->pages_added = status->pages_added;
		__entry->pages_onlined = status->pages_onlined;
	),
	TP_printk("available %llu, committed %llu; vm_memory_committed %lu; pages_ballooned %lu, pages_added %lu, pages_onlined %lu",
		__entry->available, __entry->committed, __entry->vm_memory_committed,
		__entry->pages_ballooned, __entry->pages_added, __entry->pages_onlined)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
