// SPDX-License-Identifier: GPL-2.0

//! Network devices, their frames and their polling: what the driver needs of
//! the network stack, which has no Rust abstraction.
//!
//! This is the only folder of the driver with `unsafe` code. What it promises,
//! and why it holds:
//!
//! - **Private data.** The callbacks of a device work with an `Arc` that
//!   [`Registration`] owns and whose address the device has. Dropping the
//!   registration unregisters first, which returns when the device is closed, no
//!   callback runs and nobody holds the device; only then the `Arc` goes. The
//!   data does not own the registration, so there is no cycle.
//! - **The device's memory** is freed by the last `Arc<NetDevice>`. Whatever
//!   points at it ([`Registration`], [`Napi`]) owns one.
//! - **Frames.** An [`SkBuff`] is owned by one variable; dropping it frees the
//!   frame. The stack gives one up with [`Operations::transmit`], and gets it
//!   back by [`Transmit::Busy`] alone. Devices are registered without
//!   `IFF_TX_SKB_SHARING`, or a frame could be sent that somebody else sends too.
//!   [`TxFrame`] takes addresses after all that can move the frame's head was
//!   done.
//! - **Polling.** [`Poll::poll`] gets `&mut` of what one at a time uses, which a flag makes sure
//!   of: NAPI runs one poll at a time, but netpoll may come in between. The shim ends a poll with
//!   `napi_complete_done()` after `poll` has returned. While polling is disabled, and only then,
//!   [`Napi::with_disabled`] gives it to others. [`PollContext`] cannot leave the poll, so frames
//!   are filled and delivered there only; [`rx`] has more of that.
//! - **RTNL.** [`Rtnl`] exists in callbacks that the stack makes under RTNL, and cannot leave them
//!   or their thread. Such a callback is of a registered device, whose registration does not
//!   outlive the binding of the device on the bus; so that can be had from it.
//! - **Other cards.** [`vf`] has what lets a virtual function be joined to a device.
//! - **Module text.** The callbacks are this module's. They end with
//!   [`Registration`] and [`Napi`], which belong to a bound device, and a module
//!   with a bound device is not unloaded.
//!
//! A NAPI cannot be scheduled without its reference:
//!
//! ```ignore
//! fn on_event(napi: &Arc<Napi>) {
//!     napi.schedule(); // fine: the reference keeps it
//! }
//! ```
//!
//! and a context does not outlive its poll:
//!
//! ```compile_fail
//! struct Keep(Option<PollContext<'static>>);
//! impl Poll for Keep {
//!     fn poll(&mut self, context: PollContext<'_>) -> Polled {
//!         self.0 = Some(context); // does not live long enough
//!         Polled::Idle(0)
//!     }
//! }
//! ```

mod device;
mod ffi;
mod napi;
mod ops;
mod page;
mod rx;
mod settings;
mod tx;
mod vf;

pub(crate) use device::{Config, NetDevice, Parent, Registration, Rtnl};
pub(crate) use napi::{Napi, Poll, PollContext, Polled};
pub(crate) use ops::{Dropped, Limits, Operations, Sections, Stats, Transmit};
pub(crate) use page::HostPage;
pub(crate) use rx::Delivered;
pub(crate) use tx::{Account, SkBuff, TxFrame};
pub(crate) use vf::{is_isolated, Card, CardEvent, Joined, Notifier};

/// CPUs that are online.
pub(crate) fn cpus_online() -> u32 {
    // SAFETY: No requirements.
    unsafe { ffi::hv_netvsc_shim_cpus() }
}

/// Queues that a network device has by default.
pub(crate) fn default_queues() -> u32 {
    // SAFETY: No requirements.
    unsafe { ffi::hv_netvsc_shim_default_queues() }
}

/// Fills in the key that spreads frames over queues, which all devices share.
pub(crate) fn rss_key(key: &mut [u8; netvsc_protocol::rss::KEY_LEN]) {
    // SAFETY: The key has as many bytes.
    unsafe { ffi::hv_netvsc_shim_rss_key(key.as_mut_ptr(), key.len() as u32) };
}

/// Pages of a ring, as the module parameter says.
pub(crate) fn ring_pages() -> u32 {
    // SAFETY: A parameter that is read only, and written before the module starts.
    unsafe { ffi::hv_netvsc_shim_ring_size }
}
