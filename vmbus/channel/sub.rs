// SPDX-License-Identifier: GPL-2.0

//! Sub-channels: further channels of a device, which the host offers after its driver asked for
//! them in the device's own protocol.
//!
//! Their offers are handled on a queue of their own, so that a driver may ask for sub-channels in
//! its `probe` and get them while it is still there. It must not wait for them: the host may offer
//! fewer than it granted, or none.
//!
//! What the driver gets is a token, [`SubChannel`]. It may open it at once, or on work of its own:
//! then a host that is slow with one device does not hold up the sub-channels of another.

use super::{
    open::{self, ChannelConfig, OpenChannel},
    receive::{Handler, Receiver, Signal},
    session::Session,
    Channel, ADD, REMOVE,
};
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

/// A sub-channel that was offered. It can be opened as long as the primary channel is open.
pub struct SubChannel {
    channel: Arc<Channel>,
    /// The session of the primary channel in which it was announced.
    primary: Arc<Session>,
}

impl SubChannel {
    /// Its number in messages; what [`SubChannels::rescinded`] names.
    pub fn relid(&self) -> u32 {
        self.channel.relid().raw()
    }

    /// Its index among the channels of the device; the primary channel has 0.
    pub fn index(&self) -> u16 {
        self.channel.offer.sub_channel_index
    }

    /// The CPU that the host interrupts for it.
    pub fn target_cpu(&self) -> u32 {
        self.channel.target_cpu()
    }

    /// Opens it. May sleep. Errors as for [`crate::Device::open`]; `ENODEV` also when the primary
    /// channel is closed.
    ///
    /// The driver drops the channel when it is rescinded. What is open when the primary channel is
    /// closed is closed with it.
    pub fn open<H: Handler>(
        &self,
        handler: Arc<H>,
        config: &ChannelConfig<'_>,
    ) -> Result<OpenChannel> {
        open::open(&self.channel, Some(&self.primary), handler, config)
    }

    /// As [`Self::open`], for a driver that takes its packets by itself.
    pub fn open_polled<S: Signal>(
        &self,
        signal: Arc<S>,
        config: &ChannelConfig<'_>,
    ) -> Result<(OpenChannel, Receiver)> {
        open::open_polled(&self.channel, Some(&self.primary), signal, config)
    }
}

/// What a driver does with the sub-channels of its device.
///
/// Process context, one call at a time, and none after the primary channel is closed.
pub trait SubChannels: Send + Sync + 'static {
    /// The host offers a sub-channel.
    fn offered(&self, channel: SubChannel);

    /// The host has taken the sub-channel `relid` back: drop it.
    fn rescinded(&self, relid: u32);
}

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

/// Stops all announcements for a primary channel that is about to be closed, and begins to close the
/// sub-channels that its driver left open. May sleep.
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
