// SPDX-License-Identifier: GPL-2.0

//! C functions that `kernel::bindings` does not have: those of `shim.h`, and exports of the SCSI
//! midlayer, whose headers it does not cover.

use core::{
    mem::{offset_of, size_of},
    ptr::NonNull,
};
use kernel::{
    bindings::{device, phys_addr_t, scatterlist},
    ffi::{c_char, c_int, c_uint, c_void},
};
use static_assertions::const_assert_eq;

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
const_assert_eq!(size_of::<View>(), 56);
const_assert_eq!(offset_of!(View, sgl), 0);
const_assert_eq!(offset_of!(View, first), 8);
const_assert_eq!(offset_of!(View, cdb), 16);
const_assert_eq!(offset_of!(View, first_len), 24);
const_assert_eq!(offset_of!(View, data_len), 28);
const_assert_eq!(offset_of!(View, sg_count), 32);
const_assert_eq!(offset_of!(View, tag), 36);
const_assert_eq!(offset_of!(View, queue), 40);
const_assert_eq!(offset_of!(View, channel), 42);
const_assert_eq!(offset_of!(View, target), 43);
const_assert_eq!(offset_of!(View, lun), 44);
const_assert_eq!(offset_of!(View, cdb_len), 45);
const_assert_eq!(offset_of!(View, direction), 46);
const_assert_eq!(offset_of!(View, tagged), 47);
const_assert_eq!(offset_of!(View, last), 48);
const_assert_eq!(offset_of!(View, from_eh), 49);

const_assert_eq!(size_of::<RawOps>(), 48);
const_assert_eq!(offset_of!(RawOps, queue), 0);
const_assert_eq!(offset_of!(RawOps, commit), 8);
const_assert_eq!(offset_of!(RawOps, reset), 16);
const_assert_eq!(offset_of!(RawOps, timed_out), 24);
const_assert_eq!(offset_of!(RawOps, configure), 32);
const_assert_eq!(offset_of!(RawOps, geometry), 40);

const_assert_eq!(size_of::<RawLimits>(), 32);
const_assert_eq!(offset_of!(RawLimits, max_lun), 0);
const_assert_eq!(offset_of!(RawLimits, max_id), 8);
const_assert_eq!(offset_of!(RawLimits, max_channel), 12);
const_assert_eq!(offset_of!(RawLimits, max_sectors), 16);
const_assert_eq!(offset_of!(RawLimits, can_queue), 20);
const_assert_eq!(offset_of!(RawLimits, hw_queues), 24);
const_assert_eq!(offset_of!(RawLimits, segments), 28);

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
