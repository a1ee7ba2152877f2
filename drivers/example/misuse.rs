// SPDX-License-Identifier: GPL-2.0

//! What a driver must not do with its channels, so that a test sees what the core makes of it.

use crate::{ask, module_parameters, packet, Answer, CONFIG};
use core::mem;
use kernel::{
    device,
    prelude::*,
    sync::{aref::ARef, Arc},
};
use vmbus::{abstractions::RcuArc, OpenChannel, Sender, SubChannel, SubChannels};

/// What sends on the channel of a binding that is over.
static KEPT: RcuArc<Sender> = RcuArc::empty();

/// What makes a SCSI controller offer a sub-channel, after it has begun: version 6.2, properties,
/// end of the initialisation, one sub-channel.
const STEPS: [[u8; 64]; 4] = [version(), packet(10, 0), packet(8, 0), packet(13, 1)];

const fn version() -> [u8; 64] {
    let mut packet = packet(9, 2);

    packet[13] = 6;
    packet
}

/// Does with an open channel what the parameter says: with 0, gives it back.
pub(crate) fn pass(
    dev: &device::Device,
    channel: OpenChannel,
    answer: &Answer,
) -> Result<Option<OpenChannel>> {
    if let Some(old) = KEPT.unpublish() {
        let sent = old.send_inband(&packet(0, 0), 0);

        dev_info!(dev, "sent on the channel of before: {:?}\n", sent);
        return Ok(Some(channel));
    }
    match module_parameters::leave_open.value() {
        0 => return Ok(Some(channel)),
        1 => {
            mem::forget(channel);
            return Err(EIO);
        }
        _ => {}
    }
    for step in &STEPS {
        ask(dev, &channel, answer, step)?;
    }
    channel.accept_sub_channels(Arc::new(Forget(dev.into()), GFP_KERNEL)?)?;
    KEPT.publish(Arc::new(channel.sender(), GFP_KERNEL)?)?;
    mem::forget(channel);
    Ok(None)
}

/// Opens sub-channels and forgets them.
struct Forget(ARef<device::Device>);

impl SubChannels for Forget {
    fn offered(&self, channel: SubChannel) {
        let opened = Answer::new().and_then(|answer| channel.open(answer, &CONFIG));

        dev_info!(
            self.0,
            "sub-channel forgotten: {:?}\n",
            opened.map(mem::forget)
        );
        mem::forget(channel);
    }

    fn rescinded(&self, _relid: u32) {}
}
