// SPDX-License-Identifier: GPL-2.0

//! Other cards that are joined to a device: virtual functions.
//!
//! What this promises, and why it holds:
//!
//! - **Events.** A [`Notifier`] exists while a device is registered, since it owns the
//!   [`Registration`], and drops that when no event is being told any more. So an event finds the
//!   device's data, and its parent bound. Events come under RTNL, which [`Rtnl`] shows.
//! - **A card** is the stack's: [`Card`] is borrowed for one event, in which the stack keeps it.
//! - **A card that is joined** has a reference of the stack, that of the [`UpperLink`], until that
//!   is given up. When it goes there is an event, also when the notifier does; whoever gets it
//!   gives [`Joined`] up with [`Joined::leave`], under RTNL, in that event. Not to do so leaks the
//!   card and the device: nothing is freed that somebody still uses, since [`RxHandler`] and
//!   [`UpperLink`] own a reference of the device that they do not drop by themselves.
//! - **Received frames** get the device as theirs while the [`RxHandler`] is there; the shim
//!   unregisters it, which waits for who runs it, before the link goes and with it the reference of
//!   the device.
//! - **Sent frames.** The shim has the card in pointers that it reads under RCU, sets them under
//!   RTNL for a card that is joined, and clears and waits for readers before it leaves.

use super::{
    device::{NetDevice, Registration, Rtnl},
    ffi::{self, card_event, RawCard, RawStats},
    ops::{driver, Driver, Operations},
};
use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};
use kernel::{error::to_result, ffi::c_void, prelude::*, sync::Arc};
use netvsc_protocol::vf;

/// What becomes of a card.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CardEvent {
    /// It is about to be registered.
    Begins,
    /// It is there.
    Appears,
    /// It is up, or down, or its link is.
    Changes,
    /// It is about to be brought down.
    Closes,
    /// It goes.
    Goes,
}

/// A card on a PCI bus, in an event. It is not of this driver.
pub(crate) struct Card<'a> {
    ptr: NonNull<ffi::net_device>,
    what: &'a RawCard,
    _thread: PhantomData<*mut ()>,
}

impl Card<'_> {
    /// What identifies it.
    pub(crate) fn identity(&self) -> vf::Card<'_> {
        let slot = self.what.slot.get(..self.what.slot_len as usize);

        vf::Card {
            slot: slot.filter(|slot| !slot.is_empty()),
            permanent: self.what.permanent,
            address: self.what.address,
        }
    }

    /// The address that the device was made with.
    pub(crate) fn ours(&self) -> [u8; 6] {
        self.what.ours
    }

    /// Whether it is joined to the device.
    pub(crate) fn is_joined(&self) -> bool {
        self.what.joined
    }

    /// Whether it is up and has a link.
    pub(crate) fn is_usable(&self) -> bool {
        self.what.usable
    }

    /// Whether it is in the device's network namespace.
    pub(crate) fn is_near(&self) -> bool {
        self.what.same_net
    }

    /// Nobody is to give it addresses of its own. For one that is about to be registered.
    pub(crate) fn mark(&self, _rtnl: &Rtnl<'_>) {
        // SAFETY: The card is valid in this event, and RTNL is held.
        unsafe { ffi::hv_netvsc_shim_vf_mark(self.ptr.as_ptr()) };
    }

    /// It is to be taken to the device's namespace by [`NetDevice::take_up`].
    pub(crate) fn follow(&self, _rtnl: &Rtnl<'_>, netdev: &NetDevice) {
        // SAFETY: Both are valid, and RTNL is held; the shim holds the card until it goes.
        unsafe { ffi::hv_netvsc_shim_vf_stray(netdev.as_ptr(), self.ptr.as_ptr()) };
    }
}

/// What a card receives is the device's.
///
/// # Invariants
///
/// `card` has the shim's handler for `netdev`, and stays until that is taken away by
/// [`Self::remove`].
struct RxHandler {
    card: NonNull<ffi::net_device>,
    netdev: ManuallyDrop<Arc<NetDevice>>,
}

impl RxHandler {
    fn new(_rtnl: &Rtnl<'_>, card: &Card<'_>, netdev: &Arc<NetDevice>) -> Result<Self> {
        // SAFETY: Both are valid, and RTNL is held.
        to_result(unsafe {
            ffi::hv_netvsc_shim_rx_handler_add(card.ptr.as_ptr(), netdev.as_ptr())
        })?;
        // INVARIANT: It has the handler. It cannot go without an event, in which `remove` is
        // called; if it is not, its reference of the upper link keeps it.
        Ok(Self {
            card: card.ptr,
            netdev: ManuallyDrop::new(netdev.clone()),
        })
    }

    /// Takes it away; it runs nowhere any more then. May sleep.
    fn remove(self, _rtnl: &Rtnl<'_>) {
        // SAFETY: By the type invariant; RTNL is held.
        unsafe { ffi::hv_netvsc_shim_rx_handler_del(self.card.as_ptr()) };
        drop(ManuallyDrop::into_inner(self.netdev));
    }
}

/// A device is a card's master.
///
/// # Invariants
///
/// `netdev` is the master of `card`, which keeps both, until [`Self::remove`].
struct UpperLink {
    card: NonNull<ffi::net_device>,
    netdev: ManuallyDrop<Arc<NetDevice>>,
}

impl UpperLink {
    fn new(_rtnl: &Rtnl<'_>, card: &Card<'_>, netdev: &Arc<NetDevice>) -> Result<Self> {
        // SAFETY: Both are valid and registered, and RTNL is held.
        to_result(unsafe { ffi::hv_netvsc_shim_upper_add(card.ptr.as_ptr(), netdev.as_ptr()) })?;
        // INVARIANT: The call has linked them.
        Ok(Self {
            card: card.ptr,
            netdev: ManuallyDrop::new(netdev.clone()),
        })
    }

    fn remove(self, _rtnl: &Rtnl<'_>) {
        // SAFETY: By the type invariant; RTNL is held.
        unsafe { ffi::hv_netvsc_shim_upper_del(self.card.as_ptr(), self.netdev.as_ptr()) };
        drop(ManuallyDrop::into_inner(self.netdev));
    }
}

/// A card that is joined to a device. To be given up in the event that it goes with.
///
/// # Invariants
///
/// The shim has the card as the device's function; the parts are of the same two.
#[must_use]
pub(crate) struct Joined {
    handler: RxHandler,
    link: UpperLink,
}

// SAFETY: What is done with it is done under RTNL, by any thread.
unsafe impl Send for Joined {}

impl Joined {
    /// Joins a card that has just appeared. `EBUSY` when it is somebody else's. May sleep.
    pub(crate) fn new(rtnl: &Rtnl<'_>, card: &Card<'_>, netdev: &Arc<NetDevice>) -> Result<Self> {
        let handler = RxHandler::new(rtnl, card, netdev)?;
        let link = match UpperLink::new(rtnl, card, netdev) {
            Ok(link) => link,
            Err(error) => {
                handler.remove(rtnl);
                return Err(error);
            }
        };

        // INVARIANT: The call makes it the device's function.
        //
        // SAFETY: Both are valid and linked, and RTNL is held.
        unsafe { ffi::hv_netvsc_shim_vf_joined(netdev.as_ptr(), card.ptr.as_ptr()) };
        Ok(Self { handler, link })
    }

    /// Gives it up; nobody sends by it or receives from it any more then. May sleep.
    pub(crate) fn leave(self, rtnl: &Rtnl<'_>) {
        let Self { handler, link } = self;

        // SAFETY: By the type invariants both are valid, and the card is the device's; RTNL is
        // held.
        unsafe { ffi::hv_netvsc_shim_vf_left(link.netdev.as_ptr(), link.card.as_ptr()) };
        handler.remove(rtnl);
        link.remove(rtnl);
    }
}

impl NetDevice {
    /// Takes the card that is joined up, or moves one that is to be. Takes RTNL; may sleep.
    pub(crate) fn take_up(&self) {
        // SAFETY: The device is valid by the type invariant.
        unsafe { ffi::hv_netvsc_shim_vf_take_up(self.as_ptr()) };
    }

    /// Frames are sent by the card that is joined, if there is one, or not.
    pub(crate) fn set_path(&self, _rtnl: &Rtnl<'_>, function: bool) {
        // SAFETY: The device is valid by the type invariant, and RTNL is held.
        unsafe { ffi::hv_netvsc_shim_vf_path(self.as_ptr(), function) };
    }

    /// The same, as `function` says under RTNL, which this takes. May sleep.
    pub(crate) fn set_path_with_rtnl(&self, function: impl FnOnce() -> bool) {
        self.with_rtnl(|| {
            // SAFETY: The device is valid by the type invariant, and RTNL is held.
            unsafe { ffi::hv_netvsc_shim_vf_path(self.as_ptr(), function()) };
        });
    }

    /// Frames are not sent by the card any more. Any context.
    pub(crate) fn leave_path(&self) {
        // SAFETY: The device is valid by the type invariant.
        unsafe { ffi::hv_netvsc_shim_vf_leave_path(self.as_ptr()) };
    }
}

/// A registered device that hears of cards. Dropping ends that, after the driver was told that all
/// of them go, and then the registration. May sleep; not under RTNL.
///
/// # Invariants
///
/// `ptr` is a notifier of the shim, for the device of `registration`.
pub(crate) struct Notifier<'bound> {
    ptr: NonNull<ffi::notifier>,
    // Behind what uses it: fields are dropped after `drop`.
    _registration: Registration<'bound>,
}

// SAFETY: A notifier is not bound to a thread.
unsafe impl Send for Notifier<'_> {}

impl<'bound> Notifier<'bound> {
    /// The driver is told of the cards that there are before this returns. May sleep; not under
    /// RTNL.
    pub(crate) fn new(registration: Registration<'bound>) -> Result<Self> {
        // SAFETY: The device is valid and registered.
        let ptr = unsafe { ffi::hv_netvsc_shim_notifier_add(registration.netdev().as_ptr()) };

        // INVARIANT: It is new, or there is none.
        Ok(Self {
            ptr: NonNull::new(ptr).ok_or(ENOMEM)?,
            _registration: registration,
        })
    }
}

impl Drop for Notifier<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, once. The device is still registered.
        unsafe { ffi::hv_netvsc_shim_notifier_del(self.ptr.as_ptr()) };
    }
}

/// Whether the host is kept away from the guest's memory. Functions of such a host are not used.
pub(crate) fn is_isolated() -> bool {
    // SAFETY: No requirements.
    unsafe { ffi::hv_netvsc_shim_isolated() }
}

/// # Safety
///
/// The shim calls this with the data of a registered device that has a notifier, under RTNL, in an
/// event of `card`, or while that is registered.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_vf_event(
    data: *mut c_void,
    card: NonNull<ffi::net_device>,
    what: &RawCard,
    event: u32,
) {
    let event = match event {
        card_event::BEGINS => CardEvent::Begins,
        card_event::APPEARS => CardEvent::Appears,
        card_event::CLOSES => CardEvent::Closes,
        card_event::GOES => CardEvent::Goes,
        _ => CardEvent::Changes,
    };
    // SAFETY: By the requirements of this function. A notifier ends before the registration of its
    // device, and so before its parent is unbound.
    let (driver, card) = unsafe {
        (
            driver(data),
            Card {
                ptr: card,
                what,
                _thread: PhantomData,
            },
        )
    };
    // SAFETY: RTNL is held, and the device is registered: so its parent is bound.
    let rtnl = unsafe { driver.parent().rtnl() };

    Driver::on_card(driver, &rtnl, &card, event);
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_vf_follow(data: *mut c_void) {
    // SAFETY: By the requirements of this function.
    Driver::on_moved(unsafe { driver(data) });
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_cpu_stats(data: *mut c_void, cpu: u32, stats: &mut RawStats) {
    // SAFETY: By the requirements of this function.
    *stats = unsafe { driver(data) }.cpu_stats(cpu);
}
