// SPDX-License-Identifier: GPL-2.0

//! The primary channels of devices that drivers of ours have.
//!
//! The C core calls back with the address of a channel; this is where it is looked up, so that no
//! call comes too late.

use super::{
    raw::{Identity, RawChannel},
    session::Session,
    watch, Channel,
};
use crate::abstractions::Shown;
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, global_lock, Arc},
};

global_lock! {
    // SAFETY: Initialized by `init` before any driver can be registered. Nothing of the C core is
    // called with it held.
    unsafe(uninit) static BOUND: Mutex<KVec<Arc<Channel>>> = KVec::new();
}

/// Makes the list usable.
///
/// # Safety
///
/// Must be called once, before any driver is registered.
pub(crate) unsafe fn init() {
    // SAFETY: By the requirements of this function.
    unsafe { BOUND.init() };
}

/// The primary channel of a device that a driver has.
pub(crate) fn find(channel: Identity) -> Option<Arc<Channel>> {
    let bound = BOUND.lock();

    bound
        .iter()
        .find(|bound| bound.raw.identity() == channel)
        .cloned()
}

/// One of them after the other: the one at `index`.
pub(super) fn nth(index: usize) -> Option<Arc<Channel>> {
    BOUND.lock().get(index).cloned()
}

/// The session of now of a channel, primary or not.
pub(super) fn session_of(channel: Identity) -> Option<Arc<Session>> {
    if let Some(primary) = find(channel) {
        return primary.session.lock().clone();
    }
    let of = |primary: &Arc<Channel>| {
        let subs = primary.subs.lock();

        subs.iter()
            .find(|session| session.channel.raw.identity() == channel)
            .cloned()
    };

    BOUND.lock().iter().find_map(of)
}

/// A driver has a device, or is about to have it.
pub(crate) struct Binding(Option<Arc<Channel>>);

impl Binding {
    /// From here on the primary channel may be opened.
    pub(crate) fn new(raw: RawChannel) -> Result<Self> {
        let channel = Channel::new(raw)?;

        channel.bound.store(true, Relaxed);
        BOUND.lock().push(channel.clone(), GFP_KERNEL)?;
        watch::wake();
        Ok(Self(Some(channel)))
    }

    /// The driver has the device: [`Self::of`] finds it.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }

    /// That of a device that its driver has.
    pub(crate) fn of(channel: Identity) -> Self {
        Self(find(channel))
    }

    /// Tells the driver that the host has taken the device back, if it has. The watch would do so
    /// later.
    pub(crate) fn tell_rescind(&self) {
        if let Some(channel) = &self.0 {
            channel.look();
        }
    }
}

impl Drop for Binding {
    /// The driver does not have the device any more: nothing is opened, and what it left open is
    /// closed. May sleep.
    fn drop(&mut self) {
        let Some(channel) = self.0.take() else {
            return;
        };
        let session = {
            let current = channel.session.lock();

            channel.bound.store(false, Relaxed);
            current.clone()
        };

        if let Some(session) = session {
            pr_warn!(
                "{}: the driver left its channel open; closed\n",
                Shown(&channel.offer.instance)
            );
            let _ = session.close();
        }
        let mut bound = BOUND.lock();
        let at = bound.iter().position(|other| Arc::ptr_eq(other, &channel));
        let removed = at.and_then(|at| bound.remove(at).ok());

        if bound.is_empty() {
            *bound = KVec::new();
        }
        drop(bound);
        drop(removed);
        // Whatever its driver still has of it.
        drop(channel.acceptor.lock().take());
        channel.raw.let_go();
    }
}
