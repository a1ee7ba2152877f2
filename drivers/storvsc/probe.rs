// SPDX-License-Identifier: GPL-2.0

//! The initialisation, and what the midlayer is told.

use crate::{
    channels::{self, PRIMARY},
    inbox::Inbox,
    luns,
    params::cpus_online,
    routes,
    scsi::Limits,
    shared::Shared,
    Kind,
};
use kernel::{
    device::{Bound, Core},
    prelude::*,
    sync::Arc,
};
use storvsc_protocol::{
    init::{InitError, State, Step},
    limits::{sub_channels, transfer},
    ANSWER_TIMEOUT_MS,
};
use vmbus::{abstractions::Shown, Device, OpenChannel, OutgoingPacket, Sender};
use vmbus_protocol::packet::PacketFlags;

/// Opens the channel and goes through the initialisation. May sleep.
///
/// Each step takes [`ANSWER_TIMEOUT_MS`] at most, and there are no more than six.
pub(crate) fn connect(shared: &Arc<Shared>, dev: &Device<Core<'_>>) -> Result {
    let inbox = Arc::new(Inbox::new(shared.clone(), PRIMARY), GFP_KERNEL)?;
    let dev: &Device<Bound> = dev;
    let channel = dev.open(inbox, &channels::config(shared))?;

    start(shared, channel)
}

/// Goes through the initialisation on the primary channel, which was just opened. May sleep.
pub(crate) fn start(shared: &Arc<Shared>, channel: OpenChannel) -> Result {
    let sender = channel.sender();

    shared.channels.lock().set_primary(channel);
    let first = shared.init.lock().start();

    run(shared, &sender, first)?;
    let (version, host) = {
        let init = shared.init.lock();
        (init.version(), init.host())
    };

    dev_info!(
        shared.dev,
        "storage protocol {}.{}, at most {} bytes a transfer\n",
        version.major(),
        version.minor(),
        host.max_transfer_bytes
    );
    if shared.settings.kind == Kind::Ide {
        return Ok(());
    }
    let wanted = sub_channels(cpus_online(), host.max_sub_channels);

    if wanted == 0 {
        return Ok(());
    }
    // Only those that are asked for are taken, and they may be offered before the answer.
    let step = shared.init.lock().ask_sub_channels(wanted);
    let acceptor = channels::acceptor(shared)?;

    shared.channels.lock().accept_sub_channels(acceptor)?;
    run(shared, &sender, step)?;
    if shared.init.lock().granted() == 0 {
        dev_warn!(shared.dev, "the host grants no sub-channels\n");
    }
    Ok(())
}

/// Sends a step of the initialisation. Any context but NMI.
pub(crate) fn send_step(shared: &Shared, sender: &Sender, step: Step) {
    let packet = step.packet();
    let sent = sender.send(&OutgoingPacket::inband(
        PacketFlags::COMPLETION_REQUESTED,
        step.id(),
        &[packet.bytes()],
    ));

    if sent.is_err() {
        shared.init.lock().on_channel_lost();
    }
}

/// Sends the first step, and waits until there is none left.
fn run(shared: &Shared, sender: &Sender, first: Option<Step>) -> Result {
    if let Some(step) = first {
        send_step(shared, sender, step);
    }
    loop {
        let state = shared.init.lock().state();

        if shared.is_dead() || !sender.is_alive() {
            return Err(ENODEV);
        }
        match state {
            State::Ready => return Ok(()),
            State::Failed(error) => {
                dev_err!(shared.dev, "initialisation failed: {}\n", Shown(&error));
                return Err(match error {
                    InitError::Timeout(_) => ETIMEDOUT,
                    InitError::Channel => EIO,
                    InitError::Refused { .. } | InitError::Protocol { .. } => EPROTO,
                    InitError::NoVersion => EINVAL,
                });
            }
            State::Idle | State::Waiting(_) => {}
        }
        if !shared.step.wait_timeout(ANSWER_TIMEOUT_MS) {
            shared.init.lock().on_timeout();
        }
    }
}

/// Tells the midlayer about the host, and looks for disks. May sleep.
pub(crate) fn register(shared: &Arc<Shared>, dev: &Device<Core<'_>>) -> Result {
    let settings = &shared.settings;
    let host_bytes = shared.init.lock().host().max_transfer_bytes;
    let transfer = transfer(host_bytes, settings.ring_bytes);
    let (luns, targets, channels) = match settings.kind {
        Kind::Scsi => (256, 2, 8),
        Kind::Ide => (64, 1, 1),
    };

    routes::reroute(shared)?;
    let device: &Device<Bound> = dev;

    shared.internal.prepare(device.as_ref())?;
    shared.host.add(
        device.as_ref(),
        &Limits {
            luns,
            targets,
            channels,
            sectors: transfer.bytes / 512,
            segments: transfer.segments,
        },
    )?;
    // One that was given up before the midlayer knew the host is not tried again by this driver.
    if shared.is_dead() {
        return Err(ETIMEDOUT);
    }
    match settings.kind {
        Kind::Scsi => shared.host.scan(),
        Kind::Ide => {
            let [_, _, _, _, low, high, ..] = dev.instance().to_bytes();

            shared
                .host
                .add_target(u16::from_le_bytes([low, high]).into())?;
        }
    }
    // Notices that came before the midlayer knew the host.
    luns::wake(shared);
    Ok(())
}
