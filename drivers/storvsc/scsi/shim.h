/* SPDX-License-Identifier: GPL-2.0 */
/* Declared once more in ffi.rs: keep the two in step. */
#ifndef _HV_SCSI_SHIM_H
#define _HV_SCSI_SHIM_H

#include <linux/types.h>

struct Scsi_Host;
struct device;
struct scatterlist;
struct scsi_cmnd;
struct scsi_device;

/* Bytes of a command block that are read. */
#define HV_SCSI_SHIM_CDB 16

/* What queuing a command needs to know of it. */
struct hv_scsi_shim_view {
	struct scatterlist *sgl;
	/* The first entry of the list: address and bytes. */
	phys_addr_t first;
	const u8 *cdb;
	u32 first_len;
	u32 data_len;
	u32 sg_count;
	u32 tag;
	u16 queue;
	u8 channel;
	u8 target;
	u8 lun;
	u8 cdb_len;
	u8 direction;
	bool tagged;
	bool last;
	bool from_eh;
};

/* The callbacks of a driver, with the driver's part of the host. */
struct hv_scsi_shim_ops {
	int (*queue)(void *host_private, struct scsi_cmnd *cmd,
		     const struct hv_scsi_shim_view *view);
	void (*commit)(void *host_private, u16 queue);
	bool (*reset)(void *host_private);
	bool (*timed_out)(void *host_private, u32 age_secs);
	void (*configure)(void *host_private, struct scsi_device *sdev);
	void (*geometry)(u64 capacity, int *info);
};

/* What a host has to be told before it is added. */
struct hv_scsi_shim_limits {
	u64 max_lun;
	u32 max_id;
	u32 max_channel;
	u32 max_sectors;
	u32 can_queue;
	u32 hw_queues;
	u16 segments;
};

void hv_scsi_shim_done(struct scsi_cmnd *cmd, int result, u32 resid, bool sign_of_life);
void hv_scsi_shim_sense(struct scsi_cmnd *cmd, const u8 *sense, u32 len);
struct scsi_device *hv_scsi_shim_unit_of(struct scsi_cmnd *cmd);
void hv_scsi_shim_unit(struct scsi_device *sdev, u8 *channel, u8 *target, u8 *lun);
bool hv_scsi_shim_is_for_shutdown(struct scsi_cmnd *cmd);
void hv_scsi_shim_activity(struct scsi_cmnd *cmd, u32 *pending, u32 *silent_ms);

struct Scsi_Host *hv_scsi_shim_host_alloc(const struct hv_scsi_shim_ops *ops,
					     u32 private_bytes);
void *hv_scsi_shim_host_private(struct Scsi_Host *host);
u32 hv_scsi_shim_host_number(struct Scsi_Host *host);
int hv_scsi_shim_host_add(struct Scsi_Host *host, struct device *dev,
			     const struct hv_scsi_shim_limits *limits);
void hv_scsi_shim_set_units_running(struct Scsi_Host *host);
bool hv_scsi_shim_is_busy(struct scsi_device *sdev);
const char *hv_scsi_shim_vendor(struct scsi_device *sdev);
void hv_scsi_shim_configure(struct scsi_device *sdev, bool spc3, bool no_write_same,
			       u32 timeout_secs);

#endif
