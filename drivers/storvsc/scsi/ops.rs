// SPDX-License-Identifier: GPL-2.0

//! The midlayer's callbacks.

use super::{
    command::{Command, QueueStatus},
    ffi::{self, View},
    host::{Private, Unit},
};
use core::ptr::NonNull;
use kernel::{
    ffi::{c_int, c_void},
    sync::{Arc, ArcBorrow},
};
use storvsc_protocol::{limits, HostByte, Outcome};

/// A driver of SCSI hosts.
///
/// A command that was published belongs to the device until it answers: the midlayer can go on
/// waiting or reset the host, but never just end the command, since it would reuse memory that the
/// device may write.
pub(crate) trait Operations: Sized + 'static {
    /// What the callbacks work with; see [`super::Host::publish`].
    type Data: Send + Sync + 'static;

    /// Takes a command. Atomic context, several at once.
    fn queue(data: ArcBorrow<'_, Self::Data>, command: Command<'_>) -> QueueStatus;

    /// A run of commands on hardware queue `queue` ended without one that said so. Atomic context.
    fn commit(data: ArcBorrow<'_, Self::Data>, queue: u16);

    /// Resets the host. Returns whether it worked, and then no command is in flight any more. May
    /// sleep.
    fn reset(data: Arc<Self::Data>) -> bool;

    /// A command takes long; the midlayer had it `age_secs` seconds ago. Atomic context.
    fn timed_out(data: ArcBorrow<'_, Self::Data>, age_secs: u32) -> TimeoutAction;

    /// Sets a new logical unit up. May sleep.
    fn configure(data: Arc<Self::Data>, unit: &Unit);
}

/// What is done about a command that takes long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeoutAction {
    /// Its time starts again.
    Wait,
    /// The host is reset when it has answered all commands that are not late.
    Reset,
}

/// The driver whose callbacks these are.
type Driver = crate::queue::Storvsc;

/// The published part of a host.
///
/// # Safety
///
/// `private` is the private part of a host of [`Driver`], which lives during `'a`.
#[inline]
unsafe fn private<'a>(private: *mut c_void) -> &'a Private<Driver> {
    // SAFETY: By the requirements of this function; it was initialised when the host was made.
    unsafe { &*private.cast() }
}

/// # Safety
///
/// The shim calls this with the private part of a host of ours, a command of that host which is being
/// queued, and a view of the command.
#[no_mangle]
unsafe extern "C" fn hv_storvsc_rust_queue(
    host_private: *mut c_void,
    cmd: NonNull<ffi::scsi_cmnd>,
    view: &View,
) -> c_int {
    // SAFETY: By the requirements of this function.
    let private = unsafe { private(host_private) };
    // SAFETY: By the requirements of this function.
    let mut command = Some(unsafe { Command::new(cmd, view) });
    let verdict = private
        .published
        .with(|data| command.take().map(|command| Driver::queue(data, command)))
        .flatten();

    match (verdict, command) {
        (Some(verdict), _) => verdict.0,
        (None, Some(command)) => {
            let outcome = Outcome::not_done(HostByte::NoConnect, command.data_len());

            command.complete(&outcome).0
        }
        (None, None) => 0,
    }
}

/// # Safety
///
/// The midlayer calls this with a host of ours.
#[no_mangle]
unsafe extern "C" fn hv_storvsc_rust_commit(host: *mut ffi::Scsi_Host, queue: u16) {
    // SAFETY: The host is ours and valid.
    let private = unsafe { private(ffi::hv_storvsc_shim_host_private(host)) };

    private.published.with(|data| Driver::commit(data, queue));
}

/// # Safety
///
/// The midlayer calls this with a host of ours, in process context.
#[no_mangle]
unsafe extern "C" fn hv_storvsc_rust_reset(host: *mut ffi::Scsi_Host) -> bool {
    // SAFETY: The host is ours and valid.
    let private = unsafe { private(ffi::hv_storvsc_shim_host_private(host)) };

    private.published.get().is_some_and(Driver::reset)
}

/// # Safety
///
/// The midlayer calls this with a host of ours.
#[no_mangle]
unsafe extern "C" fn hv_storvsc_rust_timed_out(host: *mut ffi::Scsi_Host, age_secs: u32) -> bool {
    // SAFETY: The host is ours and valid.
    let private = unsafe { private(ffi::hv_storvsc_shim_host_private(host)) };

    private
        .published
        .with(|data| Driver::timed_out(data, age_secs))
        == Some(TimeoutAction::Reset)
}

/// # Safety
///
/// The midlayer calls this with a unit of a host of ours, in process context.
#[no_mangle]
unsafe extern "C" fn hv_storvsc_rust_configure(sdev: *mut ffi::scsi_device) {
    // SAFETY: A unit keeps its host.
    let private = unsafe {
        private(ffi::hv_storvsc_shim_host_private(
            ffi::hv_storvsc_shim_device_host(sdev),
        ))
    };

    if let (Some(data), Some(sdev)) = (private.published.get(), NonNull::new(sdev)) {
        // INVARIANT: The midlayer configures the unit during this call.
        Driver::configure(data, &Unit(sdev));
    }
}

/// # Safety
///
/// The shim calls this with an array of three numbers.
#[no_mangle]
unsafe extern "C" fn hv_storvsc_rust_geometry(capacity: u64, info: *mut c_int) {
    // SAFETY: By the requirements of this function.
    unsafe { info.cast::<[c_int; 3]>().write(limits::geometry(capacity)) };
}
