// SPDX-License-Identifier: GPL-2.0
/*
 * What Rust cannot express of SCSI hosts: the fields, inline functions and macros
 * of the SCSI midlayer, for which there are no bindings, and the host template,
 * whose callbacks go on to those that the host was made with. Nothing here decides
 * anything but what the template says, see mod.rs.
 */
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <scsi/scsi.h>
#include <scsi/scsi_cmnd.h>
#include <scsi/scsi_device.h>
#include <scsi/scsi_devinfo.h>
#include <scsi/scsi_eh.h>
#include <scsi/scsi_host.h>
#include <scsi/scsi_tcq.h>

#include "../../../vmbus/mirrored.h"
#include "shim.h"

#define HV_PAGE_MASK 4095UL

/* What ffi.rs declares once more, and asserts with the same numbers. */
HAS_BYTES(hv_scsi_shim_view, 56);
HAS_FIELD(hv_scsi_shim_view, sgl, 0, 8);
HAS_FIELD(hv_scsi_shim_view, first, 8, 8);
HAS_FIELD(hv_scsi_shim_view, cdb, 16, 8);
HAS_FIELD(hv_scsi_shim_view, first_len, 24, 4);
HAS_FIELD(hv_scsi_shim_view, data_len, 28, 4);
HAS_FIELD(hv_scsi_shim_view, sg_count, 32, 4);
HAS_FIELD(hv_scsi_shim_view, tag, 36, 4);
HAS_FIELD(hv_scsi_shim_view, queue, 40, 2);
HAS_FIELD(hv_scsi_shim_view, channel, 42, 1);
HAS_FIELD(hv_scsi_shim_view, target, 43, 1);
HAS_FIELD(hv_scsi_shim_view, lun, 44, 1);
HAS_FIELD(hv_scsi_shim_view, cdb_len, 45, 1);
HAS_FIELD(hv_scsi_shim_view, direction, 46, 1);
HAS_FIELD(hv_scsi_shim_view, tagged, 47, 1);
HAS_FIELD(hv_scsi_shim_view, last, 48, 1);
HAS_FIELD(hv_scsi_shim_view, from_eh, 49, 1);

HAS_BYTES(hv_scsi_shim_limits, 32);
HAS_FIELD(hv_scsi_shim_limits, max_lun, 0, 8);
HAS_FIELD(hv_scsi_shim_limits, max_id, 8, 4);
HAS_FIELD(hv_scsi_shim_limits, max_channel, 12, 4);
HAS_FIELD(hv_scsi_shim_limits, max_sectors, 16, 4);
HAS_FIELD(hv_scsi_shim_limits, can_queue, 20, 4);
HAS_FIELD(hv_scsi_shim_limits, hw_queues, 24, 4);
HAS_FIELD(hv_scsi_shim_limits, segments, 28, 2);

HAS_BYTES(hv_scsi_shim_ops, 48);
HAS_FIELD(hv_scsi_shim_ops, queue, 0, 8);
HAS_FIELD(hv_scsi_shim_ops, commit, 8, 8);
HAS_FIELD(hv_scsi_shim_ops, reset, 16, 8);
HAS_FIELD(hv_scsi_shim_ops, timed_out, 24, 8);
HAS_FIELD(hv_scsi_shim_ops, configure, 32, 8);
HAS_FIELD(hv_scsi_shim_ops, geometry, 40, 8);

static_assert(HV_SCSI_SHIM_CDB == 16);
static_assert(SCSI_MLQUEUE_DEVICE_BUSY == 0x1056);
static_assert(DID_NO_CONNECT == 0x01);

/* What stands in a host behind the midlayer's part. */
struct private {
	struct hv_scsi_shim_ops ops;
	unsigned long rust[];
};

static const struct hv_scsi_shim_ops *ops_of(struct Scsi_Host *host)
{
	return &((struct private *)shost_priv(host))->ops;
}

static void *private_of(struct Scsi_Host *host)
{
	return ((struct private *)shost_priv(host))->rust;
}

/* A unit's hostdata is the time of its last sign of life. */
void hv_scsi_shim_done(struct scsi_cmnd *cmd, int result, u32 resid, bool sign_of_life)
{
	if (sign_of_life)
		WRITE_ONCE(cmd->device->hostdata, (void *)jiffies);
	cmd->result = result;
	scsi_set_resid(cmd, resid);
	scsi_done(cmd);
}

void hv_scsi_shim_sense(struct scsi_cmnd *cmd, const u8 *sense, u32 len)
{
	memcpy(cmd->sense_buffer, sense, min_t(u32, len, SCSI_SENSE_BUFFERSIZE));
}

struct scsi_device *hv_scsi_shim_unit_of(struct scsi_cmnd *cmd)
{
	return cmd->device;
}

void hv_scsi_shim_unit(struct scsi_device *sdev, u8 *channel, u8 *target, u8 *lun)
{
	*channel = sdev->channel;
	*target = sdev->id;
	*lun = sdev->lun;
}

/* Of those that a unit gets when it is removed, or the machine goes to sleep. */
bool hv_scsi_shim_is_for_shutdown(struct scsi_cmnd *cmd)
{
	return scsi_cmd_to_rq(cmd)->rq_flags & RQF_PM;
}

/* Commands under way at the unit, and how long ago it last gave a sign of life. */
void hv_scsi_shim_activity(struct scsi_cmnd *cmd, u32 *pending, u32 *silent_ms)
{
	const struct scsi_device *sdev = cmd->device;
	unsigned long last = (unsigned long)READ_ONCE(sdev->hostdata);

	*pending = atomic_read(&sdev->iorequest_cnt) - atomic_read(&sdev->iodone_cnt);
	*silent_ms = jiffies_to_msecs(jiffies - last);
}

static enum scsi_qc_status queue_command(struct Scsi_Host *host, struct scsi_cmnd *cmd)
{
	const struct request *rq = scsi_cmd_to_rq(cmd);
	const struct scsi_device *sdev = cmd->device;
	struct scatterlist *sgl = scsi_sglist(cmd);
	struct hv_scsi_shim_view view = {
		.sgl = sgl,
		.cdb = cmd->cmnd,
		.data_len = scsi_bufflen(cmd),
		.sg_count = scsi_sg_count(cmd),
		.tag = rq->tag,
		.queue = rq->mq_hctx ? rq->mq_hctx->queue_num : 0,
		.channel = sdev->channel,
		.target = sdev->id,
		.lun = sdev->lun,
		.cdb_len = cmd->cmd_len,
		.direction = cmd->sc_data_direction,
		.tagged = sdev->tagged_supported,
		.last = cmd->flags & SCMD_LAST,
		.from_eh = cmd->submitter != SUBMITTED_BY_BLOCK_LAYER,
	};

	if (view.sg_count) {
		view.first = sg_phys(sgl);
		view.first_len = sgl->length;
	}

	/* The command block is read as a whole, whatever the command's length. */
	BUILD_BUG_ON(sizeof(cmd->cmnd) < HV_SCSI_SHIM_CDB);

	return ops_of(host)->queue(private_of(host), cmd, &view);
}

static void commit(struct Scsi_Host *host, u16 queue)
{
	ops_of(host)->commit(private_of(host), queue);
}

static int host_reset(struct scsi_cmnd *cmd)
{
	struct Scsi_Host *host = cmd->device->host;

	return ops_of(host)->reset(private_of(host)) ? SUCCESS : FAILED;
}

static enum scsi_timeout_action timed_out(struct scsi_cmnd *cmd)
{
	struct Scsi_Host *host = cmd->device->host;
	u32 age = jiffies_to_msecs(jiffies - cmd->jiffies_at_alloc) / MSEC_PER_SEC;

	return ops_of(host)->timed_out(private_of(host), age) ? SCSI_EH_NOT_HANDLED :
								SCSI_EH_RESET_TIMER;
}

static int sdev_init(struct scsi_device *sdev)
{
	sdev->sdev_bflags = BLIST_REPORTLUN2 | BLIST_TRY_VPD_PAGES;
	return 0;
}

static int sdev_configure(struct scsi_device *sdev, struct queue_limits *lim)
{
	ops_of(sdev->host)->configure(private_of(sdev->host), sdev);
	return 0;
}

static int change_queue_depth(struct scsi_device *sdev, int depth)
{
	return scsi_change_queue_depth(sdev, min(depth, sdev->host->can_queue));
}

static int bios_param(struct scsi_device *sdev, struct gendisk *unused, sector_t capacity,
		      int *info)
{
	ops_of(sdev->host)->geometry(capacity, info);
	return 0;
}

/*
 * Hardware queue n is for CPU n: the channel for it was chosen by that CPU. The block layer would
 * spread the queues in an order of its own.
 */
static void map_queues(struct Scsi_Host *host)
{
	struct blk_mq_queue_map *map = &host->tag_set.map[HCTX_TYPE_DEFAULT];
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		map->mq_map[cpu] = map->queue_offset + cpu % map->nr_queues;
}

static const struct scsi_host_template template = {
	.module = THIS_MODULE,
	.name = "storvsc_host_t",
	.proc_name = "storvsc_host",
	.queuecommand = queue_command,
	.commit_rqs = commit,
	.map_queues = map_queues,
	.eh_host_reset_handler = host_reset,
	.eh_timed_out = timed_out,
	.sdev_init = sdev_init,
	.sdev_configure = sdev_configure,
	.change_queue_depth = change_queue_depth,
	.bios_param = bios_param,
	.can_queue = 1,
	.cmd_per_lun = 2048,
	.this_id = -1,
	.virt_boundary_mask = HV_PAGE_MASK,
	.no_write_same = 1,
	.track_queue_depth = 1,
	/* All commands are back when the reset handler returns, and nothing has to spin up. */
	.skip_settle_delay = 1,
};

struct Scsi_Host *hv_scsi_shim_host_alloc(const struct hv_scsi_shim_ops *ops,
					     u32 private_bytes)
{
	struct Scsi_Host *host = scsi_host_alloc(&template, sizeof(struct private) + private_bytes);

	if (host)
		((struct private *)shost_priv(host))->ops = *ops;
	return host;
}

void *hv_scsi_shim_host_private(struct Scsi_Host *host)
{
	return private_of(host);
}

u32 hv_scsi_shim_host_number(struct Scsi_Host *host)
{
	return host->host_no;
}

int hv_scsi_shim_host_add(struct Scsi_Host *host, struct device *dev,
			     const struct hv_scsi_shim_limits *limits)
{
	dma_set_min_align_mask(dev, HV_PAGE_MASK);
	host->max_lun = limits->max_lun;
	host->max_id = limits->max_id;
	host->max_channel = limits->max_channel;
	host->max_cmd_len = 16;
	host->max_sectors = limits->max_sectors;
	host->sg_tablesize = limits->segments;
	host->can_queue = limits->can_queue;
	host->nr_hw_queues = limits->hw_queues;

	return scsi_add_host(host, dev);
}

void hv_scsi_shim_set_units_running(struct Scsi_Host *host)
{
	struct scsi_device *sdev;

	shost_for_each_device(sdev, host) {
		mutex_lock(&sdev->state_mutex);
		if (sdev->sdev_state == SDEV_OFFLINE)
			scsi_device_set_state(sdev, SDEV_RUNNING);
		mutex_unlock(&sdev->state_mutex);
	}
}

bool hv_scsi_shim_is_busy(struct scsi_device *sdev)
{
	return scsi_device_busy(sdev);
}

const char *hv_scsi_shim_vendor(struct scsi_device *sdev)
{
	return sdev->vendor;
}

void hv_scsi_shim_configure(struct scsi_device *sdev, bool spc3, bool no_write_same,
			       u32 timeout_secs)
{
	blk_queue_rq_timeout(sdev->request_queue, timeout_secs * HZ);
	/*
	 * To a unit that was busy once the midlayer would send no command until all that it has
	 * are done, and one may be withheld. The block layer tries again soon, and when one is.
	 */
	sdev->max_device_blocked = 0;
	sdev->no_report_opcodes = 1;
	sdev->no_write_same = no_write_same;
	if (spc3)
		sdev->scsi_level = SCSI_SPC_3;
}
