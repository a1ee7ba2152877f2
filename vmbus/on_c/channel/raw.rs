// SPDX-License-Identifier: GPL-2.0

//! A channel of the C core. This file is one of the rooms where `unsafe` lives.

use super::{bound, sub};
use crate::{
    abstractions::{RcuArc, Shown},
    c_core::Call,
    ffi,
};
use core::ptr::NonNull;
use kernel::{prelude::*, sync::Arc};
use vmbus_protocol::{Guid, Relid};

/// A reference to a `struct vmbus_channel`: to its device, if it is a primary one.
///
/// Given up in process context: the last one may be what the C core waits for to hand the relid
/// back.
///
/// # Invariants
///
/// The channel exists as long as this object.
pub(super) struct Held(NonNull<ffi::VmbusChannel>);

// SAFETY: References to the objects of the driver model can be given up by any thread.
unsafe impl Send for Held {}
// SAFETY: What is done through a shared reference, the C core or a `Claim` keeps apart.
unsafe impl Sync for Held {}

impl Held {
    pub(super) fn ptr(&self) -> *mut ffi::VmbusChannel {
        self.0.as_ptr()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; the reference is ours.
        unsafe { ffi::vmbus_on_c_put(self.ptr()) };
    }
}

/// Which channel it is, to compare; nothing is read through it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(usize);

impl Identity {
    /// That of the channel at this address.
    pub(crate) fn of(channel: *const ffi::VmbusChannel) -> Self {
        Self(channel.addr())
    }
}

/// A channel of the C core, until it is let go of: whatever handles its driver keeps after that,
/// the C core does not wait for them.
pub(crate) struct RawChannel {
    pub(super) held: RcuArc<Held>,
    identity: Identity,
    instance: Guid,
    relid: Relid,
    index: u16,
    primary: bool,
}

impl RawChannel {
    /// Takes a reference. May sleep.
    ///
    /// # Safety
    ///
    /// `channel` exists, and so does its device if it is a primary one.
    pub(crate) unsafe fn new(channel: NonNull<ffi::VmbusChannel>) -> Result<Self> {
        let ptr = channel.as_ptr();
        let mut instance = [0; 16];
        let held = RcuArc::empty();

        // SAFETY: By the requirements of this function.
        unsafe {
            ffi::vmbus_on_c_get(ptr);
            ffi::vmbus_on_c_instance(ptr, &raw mut instance);
        }
        // INVARIANT: The reference was just taken.
        held.publish(Arc::new(Held(channel), GFP_KERNEL)?)?;
        Ok(Self {
            held,
            identity: Identity::of(ptr),
            instance: Guid(instance),
            // SAFETY: By the requirements of this function.
            relid: Relid(unsafe { ffi::vmbus_on_c_relid(ptr) }),
            // SAFETY: As above.
            index: unsafe { ffi::vmbus_on_c_index(ptr) },
            // SAFETY: As above; it does not change after the channel was offered.
            primary: unsafe { ffi::vmbus_on_c_primary(ptr) }.is_null(),
        })
    }

    /// Lets go of it: nothing is done with it any more. May sleep.
    pub(super) fn let_go(&self) {
        let held = self.held.unpublish();

        // Its close did that, but a driver may have asked for them later.
        if let Some(held) = held.filter(|_| self.primary) {
            // SAFETY: By the invariant of `Held`; the function accepts any channel. The driver that
            // was bound to the device is ours, and no other is yet.
            unsafe { ffi::vmbus_set_sc_create_callback(held.ptr(), None) };
        }
    }

    /// Which one it is.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// The GUID of its device.
    pub(super) fn instance(&self) -> Guid {
        self.instance
    }

    /// Its number in messages.
    pub(super) fn relid(&self) -> Relid {
        self.relid
    }

    /// Its index among the channels of the device, as the host says.
    pub(super) fn index(&self) -> u16 {
        self.index
    }

    /// Whether it is the primary channel of its device.
    pub(super) fn is_primary(&self) -> bool {
        self.primary
    }

    /// The CPU that the host interrupts for it.
    pub(super) fn target_cpu(&self) -> u32 {
        let cpu = self.held.with(|held| {
            // SAFETY: By the invariant of `Held`.
            unsafe { ffi::vmbus_on_c_target_cpu(held.ptr()) }
        });

        cpu.unwrap_or(0)
    }

    /// The NUMA node of that CPU.
    pub(super) fn node(&self) -> i32 {
        let node = self.held.with(|held| {
            // SAFETY: By the invariant of `Held`.
            unsafe { ffi::vmbus_on_c_node(held.ptr()) }
        });

        node.unwrap_or(-1)
    }

    /// The host has taken it back, as far as is known.
    pub(super) fn is_rescinded(&self) -> bool {
        let rescinded = self.held.with(|held| {
            // SAFETY: By the invariant of `Held`.
            unsafe { ffi::vmbus_on_c_rescinded(held.ptr()) }
        });

        rescinded.unwrap_or(false)
    }

    /// Tells the host that there is something in the outgoing ring. Any context but NMI.
    pub(super) fn signal(&self) {
        self.held.with(|held| {
            // SAFETY: By the invariant of `Held`.
            unsafe { ffi::vmbus_on_c_signal(held.ptr()) };
        });
    }

    /// Tells the host that there is room in the incoming ring. Any context but NMI.
    pub(super) fn signal_room(&self) {
        self.held.with(|held| {
            // SAFETY: By the invariant of `Held`.
            unsafe { ffi::vmbus_on_c_signal_room(held.ptr()) };
        });
    }

    /// Counts a packet that did not fit into the outgoing ring, `first` if there was room before.
    pub(super) fn count_full(&self, first: bool) {
        self.held.with(|held| {
            // SAFETY: By the invariant of `Held`.
            unsafe { ffi::vmbus_on_c_count_full(held.ptr(), first) };
        });
    }

    /// Has [`sub::offered`] called for each sub-channel that is offered, until the channel is
    /// closed.
    pub(super) fn take_sub_channels(&self) {
        self.held.with(|held| {
            // SAFETY: By the invariant of `Held`; the function accepts any channel.
            unsafe { ffi::vmbus_set_sc_create_callback(held.ptr(), Some(on_offered)) };
        });
    }
}

impl Drop for RawChannel {
    fn drop(&mut self) {
        drop(self.held.take_mut());
    }
}

/// The host offers a sub-channel. Process context; a rescind of it waits for this.
extern "C" fn on_offered(channel: *mut ffi::VmbusChannel) {
    let _call = Call::begin();
    let Some(channel) = NonNull::new(channel) else {
        return;
    };
    // SAFETY: The C core passes a channel that exists during the call.
    let primary = unsafe { ffi::vmbus_on_c_primary(channel.as_ptr()) };
    let Some(primary) = bound::find(Identity::of(primary)) else {
        return;
    };

    // SAFETY: As above. It is a sub-channel.
    let raw = unsafe { RawChannel::new(channel) };

    if let Err(error) = raw.and_then(|raw| sub::offered(&primary, raw)) {
        let instance = &primary.offer.instance;

        if primary.lines.allow_about(instance) {
            pr_warn!(
                "{}: a sub-channel was not announced: {:?}\n",
                Shown(instance),
                error
            );
        }
    }
}
