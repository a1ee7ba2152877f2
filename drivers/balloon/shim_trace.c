// SPDX-License-Identifier: GPL-2.0
/*
 * What tools know from the C driver and Rust cannot make: the trace event, and a
 * name at the top of debugfs.
 */
#include <linux/dcache.h>
#include <linux/debugfs.h>
#include <linux/err.h>

#include "shim.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

void hv_balloon_shim_trace_status(const struct hv_balloon_shim_status *status)
{
	trace_balloon_status(status);
}

/*
 * Makes @name lead to @target, both in debugfs; NULL if there is something of this name, or no
 * debugfs.
 */
struct dentry *hv_balloon_shim_link(const char *name, const char *target)
{
	struct dentry *link = debugfs_lookup(name, NULL);

	if (IS_ERR(link))
		return NULL;
	if (link) {
		dput(link);
		return NULL;
	}
	link = debugfs_create_symlink(name, NULL, target);
	if (IS_ERR(link))
		return NULL;
	/* the C driver removes this name when it goes, whoever made it */
	return dget(link);
}

/* With what hv_balloon_shim_link() returned, once. */
void hv_balloon_shim_unlink(struct dentry *link)
{
	debugfs_remove(link);
	dput(link);
}
