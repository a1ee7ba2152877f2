// SPDX-License-Identifier: GPL-2.0
/*
 * A SCSI disk that completes every command at once, without a device: what a
 * read costs above it is what a real driver costs. The benchmarks measure it
 * (docs/testing.md); it is no part of the drivers.
 *
 * To the layers above it looks like a disk on hv_storvsc_rust with one CPU: the
 * template and the limits are those of drivers/storvsc/scsi/shim.c and
 * drivers/storvsc/shared.rs. Reads leave the memory as it is.
 */
#include <linux/blk-mq.h>
#include <linux/bottom_half.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/unaligned.h>
#include <scsi/scsi.h>
#include <scsi/scsi_cmnd.h>
#include <scsi/scsi_device.h>
#include <scsi/scsi_devinfo.h>
#include <scsi/scsi_host.h>
#include <scsi/scsi_proto.h>

#define PAGE_MASK_4K 4095UL
#define BLOCKS (2048U << 11) /* of 512 bytes: 2048 MiB */
#define CAN_QUEUE 316
#define SEGMENTS 257
#define MAX_SECTORS 2048
#define TIMEOUT_SECS 180

static struct platform_device *parent;
static struct Scsi_Host *host;

static const u8 inquiry[36] = {
	[2] = 5, /* SPC-3 */
	[3] = 2, /* the form of this answer */
	[4] = 31, /* bytes that follow */
	[7] = 2, /* command queueing */
	[8] = 'V', 'M', 'B', 'u', 's', ' ', ' ', ' ',
	[16] = 'F', 'l', 'o', 'o', 'r', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ',
	[32] = '1', ' ', ' ', ' ',
};

/* Mode parameters: a header, and the page about caches, of which there are none. */
static const u8 mode[24] = { [0] = 23, [4] = 0x08, [5] = 18 };

static void answer(struct scsi_cmnd *cmd, const u8 *data, size_t len)
{
	int done = scsi_sg_copy_from_buffer(cmd, (void *)data, len);

	scsi_set_resid(cmd, scsi_bufflen(cmd) - done);
}

static void perform(struct scsi_cmnd *cmd)
{
	u8 data[32] = {};

	switch (cmd->cmnd[0]) {
	case READ_10:
	case TEST_UNIT_READY:
	case SYNCHRONIZE_CACHE:
	case START_STOP:
		return;
	case INQUIRY:
		if (!(cmd->cmnd[1] & 1))
			return answer(cmd, inquiry, sizeof(inquiry));
		break;
	case READ_CAPACITY:
		put_unaligned_be32(BLOCKS - 1, data);
		put_unaligned_be32(512, data + 4);
		return answer(cmd, data, 8);
	case MODE_SENSE:
		return answer(cmd, mode, sizeof(mode));
	}
	/* invalid command operation code */
	scsi_build_sense(cmd, 0, ILLEGAL_REQUEST, 0x20, 0);
}

static enum scsi_qc_status queue_command(struct Scsi_Host *unused, struct scsi_cmnd *cmd)
{
	cmd->result = 0;
	if (cmd->cmnd[0] != READ_10)
		perform(cmd);

	/*
	 * Drivers complete commands in a bottom half, after which the block layer does its own
	 * part of a completion. Elsewhere it would wake a thread for that.
	 */
	local_bh_disable();
	scsi_done(cmd);
	local_bh_enable();
	return 0;
}

static int sdev_init(struct scsi_device *sdev)
{
	sdev->sdev_bflags = BLIST_REPORTLUN2 | BLIST_TRY_VPD_PAGES;
	return 0;
}

static int sdev_configure(struct scsi_device *sdev, struct queue_limits *lim)
{
	blk_queue_rq_timeout(sdev->request_queue, TIMEOUT_SECS * HZ);
	sdev->no_report_opcodes = 1;
	sdev->no_write_same = 1;
	return 0;
}

static int change_queue_depth(struct scsi_device *sdev, int depth)
{
	return scsi_change_queue_depth(sdev, min(depth, sdev->host->can_queue));
}

static const struct scsi_host_template template = {
	.module = THIS_MODULE,
	.name = "vmbus_floor",
	.proc_name = "vmbus_floor",
	.queuecommand = queue_command,
	.sdev_init = sdev_init,
	.sdev_configure = sdev_configure,
	.change_queue_depth = change_queue_depth,
	.can_queue = CAN_QUEUE,
	.cmd_per_lun = 2048,
	.this_id = -1,
	.virt_boundary_mask = PAGE_MASK_4K,
	.no_write_same = 1,
	.track_queue_depth = 1,
	.skip_settle_delay = 1,
};

static int __init floor_init(void)
{
	int error;

	parent = platform_device_register_simple("vmbus_floor", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(parent))
		return PTR_ERR(parent);
	error = dma_set_mask_and_coherent(&parent->dev, DMA_BIT_MASK(64));
	if (error)
		goto unregister;
	dma_set_min_align_mask(&parent->dev, PAGE_MASK_4K);

	host = scsi_host_alloc(&template, 0);
	if (!host) {
		error = -ENOMEM;
		goto unregister;
	}
	host->max_lun = 255;
	host->max_id = 2;
	host->max_channel = 7;
	host->max_cmd_len = 16;
	host->max_sectors = MAX_SECTORS;
	host->sg_tablesize = SEGMENTS;
	host->nr_hw_queues = 1;
	error = scsi_add_host(host, &parent->dev);
	if (error)
		goto put;
	error = scsi_add_device(host, 0, 0, 0);
	if (error)
		goto remove;
	return 0;

remove:
	scsi_remove_host(host);
put:
	scsi_host_put(host);
unregister:
	platform_device_unregister(parent);
	return error;
}

static void __exit floor_exit(void)
{
	scsi_remove_host(host);
	scsi_host_put(host);
	platform_device_unregister(parent);
}

module_init(floor_init);
module_exit(floor_exit);

MODULE_DESCRIPTION("SCSI disk that completes every command at once, for benchmarks");
MODULE_LICENSE("GPL");
