// SPDX-License-Identifier: GPL-2.0

//! Offers and rescinds: how channels and their devices come and go.
//!
//! Messages arrive one after the other. What can be done at once is done in the message work,
//! which never waits for the host; devices are added and removed on the ordered queue
//! `vmbus_devices`. A driver's `probe` runs in a worker of the driver core, and the removal waits
//! for it. So a rescind wakes everybody who waits for the host about that channel before it queues
//! the removal: a `probe` that is stuck in a request does not keep it from running.

use super::{affinity, stock::Place, sub, Channel, ADD, FORGET, REMOVE};
use crate::{
    abstractions::Shown,
    bus::{attach, DeviceRegistration},
    connection::{Connection, CONNECTION},
    counters,
};
use kernel::{prelude::*, sync::Arc};
use vmbus_protocol::{
    channel::RescindAction,
    message::Offer,
    offers::{admit, Admission, Limits, Properties},
    Relid,
};

/// Takes an offer from the host.
pub(crate) fn on_offer(connection: &Arc<Connection>, offer: Offer) {
    let relid = offer.relid;
    let instance = offer.instance;

    if !connection.takes_offers() {
        counters::REFUSED_OFFERS.count();
        crate::ratelimited!(pr_warn!(
            "{}: offer while not connected\n",
            Shown(&instance)
        ));
        return;
    }
    let admitted = connection
        .channels
        .insert(|list| decide(connection, offer, list));

    match admitted {
        Ok(Some(channel)) if channel.is_refused() => {}
        Ok(Some(channel)) if channel.primary.is_some() => sub::enqueue(connection, channel),
        Ok(Some(channel)) => {
            let _ = connection.queues.devices.enqueue::<_, ADD>(channel);
        }
        Ok(None) => {}
        Err(error) => {
            counters::REFUSED_OFFERS.count();
            crate::ratelimited!(pr_err!(
                "{}: no channel for the offer with relid {}: {:?}\n",
                Shown(&instance),
                relid.raw(),
                error
            ));
        }
    }
}

/// Checks an offer against the live channels and makes a channel of it if it is to be one. Waits
/// for nothing; `ENOMEM` when there is no memory for it.
fn decide(
    connection: &Connection,
    offer: Offer,
    list: &[Arc<Channel>],
) -> Result<Option<Arc<Channel>>> {
    let live = list.iter().map(|channel| channel.live());

    match admit(&offer, live, &Limits::default()) {
        Admission::Primary(properties) => {
            let place = place(connection, offer.relid)?;

            Ok(Some(new_channel(
                connection, place, offer, properties, None, list,
            )))
        }
        Admission::SubChannel {
            primary_relid,
            properties,
        } => {
            let place = place(connection, offer.relid)?;
            let primary = list
                .iter()
                .find(|channel| channel.relid() == primary_relid)
                .cloned();

            Ok(Some(new_channel(
                connection, place, offer, properties, primary, list,
            )))
        }
        Admission::Refuse(error) => {
            counters::REFUSED_OFFERS.count();
            crate::ratelimited!(pr_warn!(
                "{}: offer refused: {}\n",
                Shown(&offer.instance),
                Shown(&error)
            ));
            if !error.has_relid() {
                return Ok(None);
            }
            // Known by its relid only, until the host takes it back.
            let place = place(connection, offer.relid).ok();

            Ok(place.map(|place| Channel::refused(connection, place, offer)))
        }
    }
}

/// Memory for the channel with this relid. Where there is none, the relid is kept in mind: it goes
/// back when the host has taken the offer back.
fn place(connection: &Connection, relid: Relid) -> Result<Place> {
    let place = connection.stock.take();

    connection.releases.keep(relid, place.is_none());
    place.ok_or(ENOMEM)
}

fn new_channel(
    connection: &Connection,
    place: Place,
    offer: Offer,
    properties: Properties,
    primary: Option<Arc<Channel>>,
    list: &[Arc<Channel>],
) -> Arc<Channel> {
    if let Some(id) = properties.bad_monitor_id {
        crate::ratelimited!(pr_warn!(
            "{}: monitor id {} out of range, using the hypercall\n",
            Shown(&offer.instance),
            id
        ));
    }
    let cpu = affinity::choose(list, &offer, Some(&properties), None);

    Channel::new(connection, place, offer, Some(properties), primary, cpu)
}

/// Takes a rescind from the host. A repeated one, or one of an unknown relid, changes nothing.
pub(crate) fn on_rescind(connection: &Arc<Connection>, relid: Relid) {
    let Some(channel) = connection.channels.get(relid) else {
        if connection.releases.on_rescind(relid) {
            return;
        }
        counters::BAD_RESCINDS.count();
        crate::ratelimited!(pr_warn!(
            "rescind of relid {}, which is not in use\n",
            relid.raw()
        ));
        return;
    };
    let action = channel.life.lock().rescind();

    if action == RescindAction::Ignore {
        counters::BAD_RESCINDS.count();
        return;
    }
    connection.gpadls.on_rescind(relid);
    connection.abort_requests(relid);
    let session = channel.session.lock().clone();

    if let Some(session) = session {
        session.on_rescind(connection);
    }
    let queue = match channel.primary {
        None => &connection.queues.devices,
        Some(_) if channel.is_of_disks() => &connection.queues.withdrawals,
        Some(_) => &connection.queues.sub_channels,
    };
    let _ = queue.enqueue::<_, REMOVE>(channel);
}

/// Makes the device of a new channel. Runs on the device queue.
pub(super) fn add_device(channel: &Arc<Channel>) {
    let Some(connection) = CONNECTION.get() else {
        return;
    };

    if channel.is_rescinded() {
        return;
    }
    let registered = attach::without_waiting(channel, || {
        let device = DeviceRegistration::register(&connection.root, channel.clone())?;

        *channel.device.lock() = Some(device);
        Ok::<_, Error>(())
    });

    match registered {
        // Those that were offered while the driver was in its probe.
        Ok(()) => sub::add_folders(&connection, channel),
        Err(error) => pr_err!(
            "{}: device could not be registered: {:?}\n",
            Shown(&channel.offer().instance),
            error
        ),
    }
}

/// Takes a rescinded channel from its driver and gives its relid back. Runs on the device queue; a
/// sub-channel is only taken from its driver, where [`on_rescind`] says, and the rest is done on
/// the queue of sub-channels.
pub(super) fn remove(channel: &Arc<Channel>) {
    let Some(connection) = CONNECTION.get() else {
        return;
    };

    if channel.primary.is_some() {
        sub::withdraw(channel);
        let _ = connection
            .queues
            .sub_channels
            .enqueue::<_, FORGET>(channel.clone());
        return;
    }
    take_down(channel);
    release(&connection, channel);
}

/// Removes the folder of a sub-channel that its driver has dropped, and gives its relid back. Runs
/// on the queue of sub-channels.
pub(super) fn forget(channel: &Arc<Channel>) {
    let Some(connection) = CONNECTION.get() else {
        return;
    };

    sub::remove_folder(channel);
    channel.life.lock().removed();
    release(&connection, channel);
}

/// Takes a channel from its driver and out of sysfs: of a primary channel, removes the device.
fn take_down(channel: &Arc<Channel>) {
    sub::withdraw(channel);
    sub::remove_folder(channel);
    // The lock is not held while the driver unbinds.
    let device = channel.device.lock().take();

    drop(device);
    channel.life.lock().removed();
}

/// Gives the relid back, once, when nothing uses it any more.
pub(super) fn release(connection: &Arc<Connection>, channel: &Arc<Channel>) {
    if !channel.life.lock().take_release() {
        return;
    }
    connection.channels.remove(channel);
    connection.releases.give(connection, channel.relid());
}

/// Takes all devices and channels down, the newest first. The host may be gone already.
pub(crate) fn take_everything_down(connection: &Connection) {
    while let Some(channel) = connection.channels.last() {
        take_down(&channel);
        connection.channels.remove(&channel);
    }
}
