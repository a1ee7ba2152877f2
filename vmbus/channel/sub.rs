// SPDX-License-Identifier: GPL-2.0

//! Sub-channels: further channels of a device, which the host offers after its driver asked for
//! them in the device's own protocol.
//!
//! Their offers are handled on a queue of their own: the removal of a device, on the other one,
//! waits for what is under way here. A driver may ask for sub-channels in its `probe`, and gets
//! them while it is still there. It must not wait for them: the host may offer fewer than it
//! granted, or none.

use super::{session::Session, Channel, OpenChannel, SubChannel, SubChannels, ADD, REMOVE};
use crate::{
    abstractions::{workqueue, NoIo},
    connection::Connection,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Full, Relaxed},
        Arc,
    },
};

impl OpenChannel {
    /// Takes the sub-channels of the device from now on, those that were offered before included.
    ///
    /// To be called once, on the primary channel.
    pub fn accept_sub_channels(&self, acceptor: Arc<dyn SubChannels>) -> Result {
        let connection = crate::connection::CONNECTION.get().ok_or(ENODEV)?;
        let primary = self.channel();

        *primary.acceptor.lock() = Some(acceptor);
        connection
            .channels
            .for_each_sub(primary, |channel| enqueue(&connection, channel));
        Ok(())
    }
}

/// Queues the announcement of a sub-channel to its driver.
pub(super) fn enqueue(connection: &Connection, channel: Arc<Channel>) {
    let _ = connection.queues.sub_channels.enqueue::<_, ADD>(channel);
}

/// Announces a sub-channel to the driver, once. Runs on the queue of sub-channels.
pub(super) fn announce(channel: &Arc<Channel>) {
    let Some(primary) = &channel.primary else {
        return;
    };
    let _one = primary.telling.lock();
    let acceptor = primary.acceptor.lock().clone();
    let session = primary.session.lock().clone();
    // Without a driver that takes it, it waits in the table.
    let (Some(acceptor), Some(session)) = (acceptor, session) else {
        return;
    };
    // The close of the primary channel waits for this, and it may be that of a disk.
    let _noio = NoIo::new();

    if channel.is_rescinded() {
        return;
    }
    if !channel.announced.xchg(true, Full) {
        add_folder(primary, channel);
        acceptor.offered(SubChannel {
            channel: channel.clone(),
            primary: session,
        });
    }
}

/// Adds the sysfs folder of an announced sub-channel, if the device is there already.
fn add_folder(primary: &Channel, channel: &Arc<Channel>) {
    if let Some(device) = &mut *primary.device.lock() {
        device.add_channel(channel.clone());
    }
}

/// Adds the sysfs folders of the sub-channels of a device that was just registered.
pub(super) fn add_folders(connection: &Connection, primary: &Arc<Channel>) {
    connection.channels.for_each_sub(primary, |channel| {
        if channel.announced.load(Relaxed) {
            add_folder(primary, &channel);
        }
    });
}

/// Tells the driver that a sub-channel is gone. Runs on the queue of sub-channels.
pub(super) fn withdraw(channel: &Arc<Channel>) {
    let Some(primary) = &channel.primary else {
        return;
    };
    let _one = primary.telling.lock();
    let acceptor = primary.acceptor.lock().clone();
    // As in `announce`.
    let _noio = NoIo::new();

    if let Some(acceptor) = acceptor {
        if channel.announced.xchg(false, Full) {
            acceptor.rescinded(channel.relid().raw());
        }
    }
    if let Some(device) = &mut *primary.device.lock() {
        device.remove_channel(channel.relid());
    }
}

/// Stops all announcements for a primary channel that is about to be closed, and begins to close
/// the sub-channels that its driver left open. May sleep.
pub(super) fn begin_stop(connection: &Connection, primary: &Arc<Channel>) {
    if primary.primary.is_some() {
        return;
    }
    let acceptor = primary.acceptor.lock().take();

    if acceptor.is_some() {
        // Those of this device only: another one's host may be slow.
        connection.channels.for_each_sub(primary, |channel| {
            workqueue::flush::<Channel, ADD>(&channel);
            workqueue::flush::<Channel, REMOVE>(&channel);
        });
        connection.channels.forget_announcements(primary);
    }
    for_each_session(connection, primary, |session| session.begin_close());
}

/// Waits until they are closed.
pub(super) fn finish_stop(connection: &Connection, primary: &Arc<Channel>) {
    if primary.primary.is_none() {
        for_each_session(connection, primary, |session| drop(session.close()));
    }
}

fn for_each_session(connection: &Connection, primary: &Arc<Channel>, f: impl Fn(&Arc<Session>)) {
    connection.channels.for_each_sub(primary, |channel| {
        let session = channel.session.lock().clone();

        if let Some(session) = session {
            f(&session);
        }
    });
}
