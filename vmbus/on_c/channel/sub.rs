// SPDX-License-Identifier: GPL-2.0

//! Sub-channels: further channels of a device, which the host offers after its driver asked for
//! them in the device's own protocol.
//!
//! The C core tells of those that are offered while somebody takes them, on a queue of its own, and
//! handles a rescind of one after that. It does not tell of the rescind: see [`super::watch`].

use super::{raw::RawChannel, session::Session, Channel, OpenChannel, SubChannel, SubChannels};
use crate::abstractions::NoIo;
use kernel::{prelude::*, sync::Arc};

impl OpenChannel {
    /// Takes the sub-channels of the device from now on.
    ///
    /// To be called once, on the primary channel, before the host is asked for them: the C core
    /// does not tell of those that were offered before. `ENODEV` when the channel is closed.
    pub fn accept_sub_channels(&self, acceptor: Arc<dyn SubChannels>) -> Result {
        let primary = self.channel();
        let mut current = primary.acceptor.lock();

        // The close takes it out, and does so once.
        if self.session().is_closing() {
            return Err(ENODEV);
        }
        *current = Some(acceptor);
        drop(current);
        primary.raw.take_sub_channels();
        Ok(())
    }
}

/// Announces a sub-channel to the driver.
pub(super) fn offered(primary: &Arc<Channel>, raw: RawChannel) -> Result {
    // The close of the primary channel waits for this, and it may be that of a disk.
    let _noio = NoIo::new();
    let channel = Channel::new(raw)?;
    let _one = primary.telling.lock();
    let acceptor = primary.acceptor.lock().clone();
    let session = primary.session.lock().clone();

    if let (Some(acceptor), Some(session)) = (acceptor, session) {
        acceptor.offered(SubChannel {
            channel: channel.clone(),
            primary: session,
        });
    }
    // A rescind waits for this call, and for nobody who opens the channel later. Then the relid and
    // the name in sysfs are to be free: the host may use the relid again at once.
    if channel.claim() {
        channel.raw.let_go();
    }
    Ok(())
}

/// Tells the driver of sub-channels that are rescinded, unless it is being called: then later.
pub(super) fn look(primary: &Channel) {
    let Some(_one) = primary.telling.try_lock() else {
        return;
    };
    // As in `offered`.
    let _noio = NoIo::new();
    let acceptor = primary.acceptor.lock().clone();

    if let Some(acceptor) = acceptor {
        while let Some(relid) = next_rescinded(primary) {
            acceptor.rescinded(relid);
        }
    }
}

/// A sub-channel in use whose rescind its driver does not know of.
fn next_rescinded(primary: &Channel) -> Option<u32> {
    let subs = primary.subs.lock();

    subs.iter()
        .find(|session| session.attempted.is_done() && session.look())
        .map(|session| session.channel.relid().raw())
}

/// Stops all announcements for a primary channel that is about to be closed, and silences the
/// sub-channels that its driver left open. May sleep.
pub(super) fn stop(primary: &Channel) {
    let acceptor = primary.acceptor.lock().take();

    // Whoever calls it has not seen that it is gone.
    drop(primary.telling.lock());
    drop(acceptor);
    // None is added any more. Of one that somebody else is closing, the driver may be in the middle
    // of a packet still: the C core must not close it before that is over, nor the driver go.
    while let Some(session) = next_with_driver(primary) {
        session.begin_close();
        session.wait_until_silent();
    }
}

/// A sub-channel of which something of the driver may still run.
fn next_with_driver(primary: &Channel) -> Option<Arc<Session>> {
    let subs = primary.subs.lock();

    subs.iter()
        .find(|session| !session.silent.is_done())
        .cloned()
}

/// Ends the session of a sub-channel that did not open, and forgets the channel, which cannot be
/// opened after that: the C core has nothing to close, and the host may offer others without end.
pub(super) fn did_not_open(primary: &Channel, open: OpenChannel) {
    let session = open.session().clone();

    drop(open);
    let forgotten = {
        let mut subs = primary.subs.lock();
        let at = subs.iter().position(|other| Arc::ptr_eq(other, &session));

        at.and_then(|at| subs.remove(at).ok())
    };

    // Else the close of the primary channel has it.
    if let Some(session) = forgotten {
        session.channel.raw.let_go();
    }
}

/// Takes one of the sub-channels' sessions out, all of which the C core has closed.
pub(super) fn take_last(primary: &Channel) -> Option<Arc<Session>> {
    primary.subs.lock().pop()
}
