// SPDX-License-Identifier: GPL-2.0

//! Sub-channels: further channels of a device, which the host offers after its driver asked for
//! them in the device's own protocol.
//!
//! Their offers are handled on a queue of their own: the removal of a device, on the other one,
//! waits for what is under way here. A driver may ask for sub-channels in its `probe`, and gets
//! them while it is still there. It must not wait for them: the host may offer fewer than it
//! granted, or none.
//!
//! Memory may be waiting for the end of commands that were sent on a rescinded sub-channel of a
//! disk. So its driver is told on a third queue, which goes on without memory. What is there waits
//! for no lock that others hold while they ask for memory, as that of sysfs; nor does it stand
//! behind what does. The folder goes afterwards, on the queue of sub-channels, for which memory
//! does not wait.

use super::{session::Session, Channel, OpenChannel, SubChannel, SubChannels, ADD};
use crate::{
    abstractions::{NoIo, Reclaim},
    connection::Connection,
};
use kernel::{
    prelude::*,
    sync::{atomic::Full, Arc},
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

/// Announces a sub-channel to the driver, once, and adds its folder. Runs on the queue of
/// sub-channels.
pub(super) fn announce(channel: &Arc<Channel>) {
    let Some(primary) = &channel.primary else {
        return;
    };
    // The close of the primary channel waits for the driver, and it may be that of a disk.
    let _noio = NoIo::new();

    add_folder(primary, channel);
    let _one = primary.telling.lock();
    let acceptor = primary.acceptor.lock().clone();
    let session = primary.session.lock().clone();
    // Without a driver that takes it, it waits in the table.
    let (Some(acceptor), Some(session)) = (acceptor, session) else {
        return;
    };
    if channel.is_rescinded() {
        return;
    }
    if !channel.announced.xchg(true, Full) {
        acceptor.offered(SubChannel {
            channel: channel.clone(),
            primary: session,
        });
    }
}

/// Adds the sysfs folder of a sub-channel, if the device is there already. Not for a driver that is
/// told of the channel: its close would wait for sysfs, and that for memory.
fn add_folder(primary: &Channel, channel: &Arc<Channel>) {
    if let Some(device) = &mut *primary.device.lock() {
        // Whoever takes the folder away comes later for this lock.
        if !channel.is_rescinded() {
            device.add_channel(channel.clone());
        }
    }
}

/// Adds the sysfs folders of the sub-channels of a device that was just registered.
pub(super) fn add_folders(connection: &Connection, primary: &Arc<Channel>) {
    connection
        .channels
        .for_each_sub(primary, |channel| add_folder(primary, &channel));
}

/// Tells the driver that a sub-channel is gone. Runs on the queue of withdrawals or, if it is not
/// of disks, on that of sub-channels. May sleep, also while the driver opens another sub-channel of
/// the device.
pub(super) fn withdraw(channel: &Arc<Channel>) {
    let Some(primary) = &channel.primary else {
        return;
    };
    // Commands of a disk end here.
    let _reclaim = channel.is_of_disks().then(Reclaim::new);
    // As in `announce`.
    let _noio = NoIo::new();
    let _one = primary.telling.lock();
    let acceptor = primary.acceptor.lock().clone();

    if let Some(acceptor) = acceptor {
        if channel.announced.xchg(false, Full) {
            acceptor.rescinded(channel.relid().raw());
        }
    }
}

/// Removes the sysfs folder of a sub-channel. Runs on the queue of sub-channels.
pub(super) fn remove_folder(channel: &Channel) {
    if let Some(primary) = &channel.primary {
        if let Some(device) = &mut *primary.device.lock() {
            device.remove_channel(channel.relid());
        }
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
        // Whoever calls it has not seen that it is gone. Nothing else that is done for a
        // sub-channel is waited for.
        drop(primary.telling.lock());
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
