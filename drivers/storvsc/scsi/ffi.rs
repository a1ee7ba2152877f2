// SPDX-License-Identifier: GPL-2.0

//! C functions that `kernel::bindings` does not have: those of `shim.h`, and exports of the SCSI
//! midlayer, whose headers it does not cover.

use core::ptr::NonNull;
use kernel::{
    bindings::{device, phys_addr_t, scatterlist},
    ffi::{c_char, c_int, c_uint, c_void},
};

/// Bytes of a command block that are read.
pub(crate) const CDB_BYTES: usize = 16;

/// `struct Scsi_Host`, seen as a whole only.
#[repr(C)]
pub(super) struct Scsi_Host([u8; 0]);

/// `struct scsi_cmnd`, seen as a whole only.
#[repr(C)]
pub(super) struct scsi_cmnd([u8; 0]);

/// `struct scsi_device`, seen as a whole only.
#[repr(C)]
pub(super) struct scsi_device([u8; 0]);

/// `struct hv_scsi_shim_view`.
#[repr(C)]
pub(super) struct View {
    pub(super) sgl: *mut scatterlist,
    pub(super) first: phys_addr_t,
    pub(super) cdb: *const [u8; CDB_BYTES],
    pub(super) first_len: u32,
    pub(super) data_len: u32,
    pub(super) sg_count: u32,
    pub(super) tag: u32,
    pub(super) queue: u16,
    pub(super) channel: u8,
    pub(super) target: u8,
    pub(super) lun: u8,
    pub(super) cdb_len: u8,
    pub(super) direction: u8,
    pub(super) tagged: bool,
    pub(super) last: bool,
    pub(super) from_eh: bool,
}

/// `struct hv_scsi_shim_ops`.
#[repr(C)]
pub(super) struct RawOps {
    pub(super) queue: unsafe extern "C" fn(*mut c_void, NonNull<scsi_cmnd>, &View) -> c_int,
    pub(super) commit: unsafe extern "C" fn(*mut c_void, u16),
    pub(super) reset: unsafe extern "C" fn(*mut c_void) -> bool,
    pub(super) timed_out: unsafe extern "C" fn(*mut c_void, u32) -> bool,
    pub(super) configure: unsafe extern "C" fn(*mut c_void, NonNull<scsi_device>),
    pub(super) geometry: unsafe extern "C" fn(u64, *mut c_int),
}

/// `struct hv_scsi_shim_limits`.
#[repr(C)]
pub(super) struct RawLimits {
    pub(super) max_lun: u64,
    pub(super) max_id: u32,
    pub(super) max_channel: u32,
    pub(super) max_sectors: u32,
    pub(super) can_queue: u32,
    pub(super) hw_queues: u32,
    pub(super) segments: u16,
}

// The C compiler lays both out with the same numbers: `shim.c` asserts them too.
vmbus::mirrored! {
    View, 56;
    sgl: 0, 8;
    first: 8, 8;
    cdb: 16, 8;
    first_len: 24, 4;
    data_len: 28, 4;
    sg_count: 32, 4;
    tag: 36, 4;
    queue: 40, 2;
    channel: 42, 1;
    target: 43, 1;
    lun: 44, 1;
    cdb_len: 45, 1;
    direction: 46, 1;
    tagged: 47, 1;
    last: 48, 1;
    from_eh: 49, 1;
}

vmbus::mirrored! {
    RawOps, 48;
    queue: 0, 8;
    commit: 8, 8;
    reset: 16, 8;
    timed_out: 24, 8;
    configure: 32, 8;
    geometry: 40, 8;
}

vmbus::mirrored! {
    RawLimits, 32;
    max_lun: 0, 8;
    max_id: 8, 4;
    max_channel: 12, 4;
    max_sectors: 16, 4;
    can_queue: 20, 4;
    hw_queues: 24, 4;
    segments: 28, 2;
}

/// The result with host byte `DID_NO_CONNECT`.
pub(super) const NO_CONNECT: c_int = 0x01 << 16;

/// `SCSI_MLQUEUE_DEVICE_BUSY` (`include/scsi/scsi.h`).
pub(super) const DEVICE_BUSY: c_int = 0x1056;

/// The logical unit that each target has.
pub(super) const LUN_0: u64 = 0;

// Generated types have members of types that are empty in this configuration, which C does not
// have; only pointers to them go over.
#[allow(improper_ctypes)]
extern "C" {
    pub(super) fn hv_scsi_shim_done(
        cmd: *mut scsi_cmnd,
        result: c_int,
        resid: u32,
        sign_of_life: bool,
    );
    pub(super) fn hv_scsi_shim_sense(cmd: *mut scsi_cmnd, sense: *const u8, len: u32);
    pub(super) fn hv_scsi_shim_unit_of(cmd: *mut scsi_cmnd) -> *mut scsi_device;
    pub(super) fn hv_scsi_shim_is_for_shutdown(cmd: *mut scsi_cmnd) -> bool;
    pub(super) fn hv_scsi_shim_activity(
        cmd: *mut scsi_cmnd,
        pending: *mut u32,
        silent_ms: *mut u32,
    );
    pub(super) fn hv_scsi_shim_unit(
        sdev: *mut scsi_device,
        channel: *mut u8,
        target: *mut u8,
        lun: *mut u8,
    );
    pub(super) fn hv_scsi_shim_host_alloc(ops: *const RawOps, private_bytes: u32)
        -> *mut Scsi_Host;
    pub(super) fn hv_scsi_shim_host_private(host: *mut Scsi_Host) -> *mut c_void;
    pub(super) fn hv_scsi_shim_host_number(host: *mut Scsi_Host) -> u32;
    pub(super) fn hv_scsi_shim_host_add(
        host: *mut Scsi_Host,
        dev: *mut device,
        limits: *const RawLimits,
    ) -> c_int;
    pub(super) fn hv_scsi_shim_set_units_running(host: *mut Scsi_Host);
    pub(super) fn hv_scsi_shim_is_busy(sdev: *mut scsi_device) -> bool;
    pub(super) fn hv_scsi_shim_vendor(sdev: *mut scsi_device) -> *const c_char;
    pub(super) fn hv_scsi_shim_configure(
        sdev: *mut scsi_device,
        spc3: bool,
        no_write_same: bool,
        timeout_secs: u32,
    );

    // drivers/scsi
    pub(super) fn scsi_host_put(host: *mut Scsi_Host);
    pub(super) fn scsi_remove_host(host: *mut Scsi_Host);
    pub(super) fn scsi_scan_host(host: *mut Scsi_Host);
    pub(super) fn scsi_add_device(
        host: *mut Scsi_Host,
        channel: c_uint,
        target: c_uint,
        lun: u64,
    ) -> c_int;
    pub(super) fn scsi_device_lookup(
        host: *mut Scsi_Host,
        channel: c_uint,
        target: c_uint,
        lun: u64,
    ) -> *mut scsi_device;
    pub(super) fn scsi_device_put(sdev: *mut scsi_device);
    pub(super) fn scsi_remove_device(sdev: *mut scsi_device);
    pub(super) fn scsi_rescan_device(sdev: *mut scsi_device) -> c_int;
}
