// SPDX-License-Identifier: GPL-2.0

//! Sending packets to the host.

use super::{requests::Requests, Channel};
use crate::{abstractions::Shown, memory::RingMap};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
};
use vmbus_protocol::packet::PacketFlags;
use vmbus_ring::{Outgoing, SendError, Sent, Writer};

/// What sending needs while a channel is open.
pub(super) struct Transmitter {
    pub(super) writer: Writer<RingMap>,
    pub(super) requests: Requests,
}

/// The sending side of a channel. Clones send on the same channel.
///
/// Outlives the channel: sending fails with `ENODEV` once it is closed or rescinded.
#[derive(Clone)]
pub struct Sender(pub(super) Arc<Channel>);

impl Sender {
    /// Sends one packet. Any context but NMI; the order of packets is that of the calls.
    ///
    /// - `ENODEV`: the channel is closed, rescinded or broken.
    /// - `EAGAIN`: the ring is full.
    /// - `EMSGSIZE`: the packet can never fit.
    /// - `EIO`: the host corrupted the ring; the channel is broken from now on.
    #[inline]
    pub fn send(&self, packet: &Outgoing<'_>) -> Result {
        self.send_with(|tx| Ok(tx.writer.send(packet)))
    }

    /// Runs `write` with the ring locked and does what its outcome demands.
    #[inline]
    pub(super) fn send_with(
        &self,
        write: impl FnOnce(&mut Transmitter) -> Result<Result<Sent, SendError>>,
    ) -> Result {
        let channel = &self.0;

        if channel.dead.load(Relaxed) {
            return Err(ENODEV);
        }
        let result = {
            let mut tx = channel.tx.lock();

            write((*tx).as_mut().ok_or(ENODEV)?)?
        };

        match result {
            Ok(sent) => {
                if sent.signal {
                    channel.signal_host();
                }
                Ok(())
            }
            Err(SendError::Full { .. }) => {
                channel.ring_full.fetch_add(1u64, Relaxed);
                Err(EAGAIN)
            }
            Err(SendError::TooLarge) => Err(EMSGSIZE),
            Err(error @ SendError::Corrupt { .. }) => {
                pr_err!(
                    "{}: {}; channel given up\n",
                    Shown(&channel.offer.instance),
                    Shown(&error)
                );
                channel.mark_dead();
                Err(EIO)
            }
        }
    }

    /// Sends `payload` in band, without asking for a completion.
    ///
    /// `transaction_id` is for the host's log only. Errors as for [`Self::send`].
    pub fn send_inband(&self, payload: &[u8], transaction_id: u64) -> Result {
        self.send(&Outgoing::inband(
            PacketFlags::empty(),
            transaction_id,
            &[payload],
        ))
    }

    /// Whether packets can still be sent.
    pub fn is_alive(&self) -> bool {
        !self.0.dead.load(Relaxed)
    }
}
