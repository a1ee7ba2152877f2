// SPDX-License-Identifier: GPL-2.0

//! The midlayer's callbacks.

use super::{
    command::{self, Command, QueueStatus},
    ffi::{self, RawOps, View},
    host::Private,
    unit::Unit,
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    error::VTABLE_DEFAULT_ERROR,
    ffi::{c_int, c_void},
    prelude::*,
    sync::{Arc, ArcBorrow},
};

/// A driver of SCSI hosts.
///
/// A command that was published belongs to the device until it answers: the midlayer can go on
/// waiting or reset the host, but never just end the command, since it would reuse memory that the
/// device may write.
#[vtable]
pub(crate) trait Operations: Sized + 'static {
    /// What the callbacks work with; see [`super::Host::publish`].
    type Data: Send + Sync + 'static;

    /// What the driver wants to know of a command when it comes back.
    type Sent: Copy + Send + 'static;

    /// Takes a command. Atomic context, several at once.
    fn queue<'a>(
        data: ArcBorrow<'_, Self::Data>,
        command: Command<'a, Self::Sent>,
    ) -> QueueStatus<'a>;

    /// A run of commands on hardware queue `queue` ended without one that said so. Atomic context.
    fn commit(_data: ArcBorrow<'_, Self::Data>, _queue: u16) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Resets the host. Returns whether it worked. May sleep.
    ///
    /// The midlayer uses the commands again afterwards, whatever is returned. So it hears of it
    /// only when none is in flight any more: the driver sees to it that this comes about.
    fn reset(data: Arc<Self::Data>) -> bool;

    /// A command takes long; the midlayer had it `age_secs` seconds ago. Atomic context. Without
    /// this function the host is reset.
    fn timed_out(_data: ArcBorrow<'_, Self::Data>, _age_secs: u32) -> TimeoutAction {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Sets a new logical unit up. May sleep.
    fn configure(data: Arc<Self::Data>, unit: &Unit);

    /// Heads, sectors of a track and cylinders of a disk of `capacity` sectors, for programs that
    /// still ask.
    fn geometry(capacity: u64) -> [c_int; 3];
}

/// What is done about a command that takes long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeoutAction {
    /// Its time starts again.
    Wait,
    /// The host is reset when it has answered all commands that are not late.
    Reset,
}

/// The callbacks of driver `T`, as the shim calls them: with the private part of a host that was
/// made for it.
pub(super) struct Callbacks<T>(PhantomData<T>);

impl<T: Operations> Callbacks<T> {
    /// What [`super::Host::new`] hands over.
    pub(super) const OPS: RawOps = RawOps {
        queue: Self::queue,
        commit: Self::commit,
        reset: Self::reset,
        timed_out: Self::timed_out,
        configure: Self::configure,
        geometry: Self::geometry,
    };

    /// The private part of a host.
    ///
    /// # Safety
    ///
    /// `private` is that of a host of `T`, which lives during `'a`.
    #[inline]
    unsafe fn private<'a>(private: *mut c_void) -> &'a Private<T> {
        // SAFETY: By the requirements of this function; it was initialised when the host was made.
        unsafe { &*private.cast() }
    }

    /// # Safety
    ///
    /// The shim calls this with a command of the host which is being queued, and a view of the
    /// command.
    unsafe extern "C" fn queue(
        private: *mut c_void,
        cmd: NonNull<ffi::scsi_cmnd>,
        view: &View,
    ) -> c_int {
        // SAFETY: The host is one of `T`, and lives as long as it has commands.
        let private = unsafe { Self::private(private) };
        let status = private.published.with(|published| {
            // SAFETY: By the requirements of this function; what is published in a host has its
            // slots.
            let command = unsafe { Command::new(cmd, view, &published.slots) };

            T::queue(published.data.as_arc_borrow(), command).into_raw()
        });

        match status {
            Some(status) => status,
            // SAFETY: By the requirements of this function; nobody took the command.
            None => unsafe { command::end(cmd, view, ffi::NO_CONNECT) },
        }
    }

    /// # Safety
    ///
    /// The shim calls this for the midlayer.
    unsafe extern "C" fn commit(private: *mut c_void, queue: u16) {
        if T::HAS_COMMIT {
            // SAFETY: The host is one of `T`, and lives during its callbacks.
            let private = unsafe { Self::private(private) };

            private
                .published
                .with(|published| T::commit(published.data.as_arc_borrow(), queue));
        }
    }

    /// # Safety
    ///
    /// The shim calls this for the midlayer, in process context.
    unsafe extern "C" fn reset(private: *mut c_void) -> bool {
        // SAFETY: The host is one of `T`, and lives during its callbacks.
        let private = unsafe { Self::private(private) };

        let worked = private
            .published
            .get()
            .is_some_and(|published| T::reset(published.data.clone()));

        if let Some(slots) = private.slots.get() {
            slots.wait_for_all();
        }
        worked
    }

    /// # Safety
    ///
    /// The shim calls this for the midlayer.
    unsafe extern "C" fn timed_out(private: *mut c_void, age_secs: u32) -> bool {
        if !T::HAS_TIMED_OUT {
            return true;
        }
        // SAFETY: The host is one of `T`, and lives during its callbacks.
        let private = unsafe { Self::private(private) };

        let action = private
            .published
            .with(|published| T::timed_out(published.data.as_arc_borrow(), age_secs));

        action == Some(TimeoutAction::Reset)
    }

    /// # Safety
    ///
    /// The shim calls this for the midlayer with a unit of the host, in process context.
    unsafe extern "C" fn configure(private: *mut c_void, sdev: NonNull<ffi::scsi_device>) {
        // SAFETY: The host is one of `T`, and a unit keeps its host.
        let private = unsafe { Self::private(private) };

        if let Some(published) = private.published.get() {
            // INVARIANT: The midlayer configures the unit during this call.
            T::configure(published.data.clone(), &Unit(sdev));
        }
    }

    /// # Safety
    ///
    /// The shim calls this with an array of three numbers.
    unsafe extern "C" fn geometry(capacity: u64, info: *mut c_int) {
        // SAFETY: By the requirements of this function.
        unsafe { info.cast::<[c_int; 3]>().write(T::geometry(capacity)) };
    }
}
