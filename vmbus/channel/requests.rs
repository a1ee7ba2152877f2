// SPDX-License-Identifier: GPL-2.0

//! Requests that the host completes: the core owns their transaction ids.

use super::Sender;
use crate::abstractions::Shown;
use kernel::{prelude::*, sync::atomic::Relaxed};
use vmbus_protocol::{
    packet::{PacketFlags, PacketType},
    requests::{RequestTable, Slot},
};
use vmbus_ring::{Outgoing, Packet};

/// The requests of a channel that are under way, each with its driver's cookie.
pub(super) type Requests = RequestTable<u64, KVec<Slot<u64>>>;

/// A table for `count` requests.
pub(super) fn new_table(count: usize) -> Result<Requests> {
    let mut slots = KVec::with_capacity(count, GFP_KERNEL)?;

    for _ in 0..count {
        slots.push(Slot::new(), GFP_KERNEL)?;
    }
    Ok(RequestTable::new(slots))
}

impl Sender {
    /// Sends a packet and asks the host to complete it; `cookie` comes back from
    /// [`Self::complete`].
    ///
    /// Any context but NMI. `EBUSY` when as many requests as the channel was opened for are under
    /// way; other errors as for [`Self::send`], and then nothing is under way.
    pub fn request(
        &self,
        packet_type: PacketType,
        header: &[&[u8]],
        payload: &[&[u8]],
        cookie: u64,
    ) -> Result {
        self.send_with(|tx| {
            let transaction_id = tx.requests.alloc(cookie).map_err(|_| EBUSY)?;
            let sent = tx.writer.send(&Outgoing {
                packet_type,
                flags: PacketFlags::COMPLETION_REQUESTED,
                transaction_id,
                header,
                payload,
            });

            if sent.is_err() {
                // Just allocated, so this gives the cookie back.
                let _ = tx.requests.complete(transaction_id);
            }
            Ok(sent)
        })
    }

    /// Ends the request that a completion packet names and returns its cookie.
    ///
    /// `None` when the host names a request that is not under way: unknown, completed before, or of
    /// an earlier use of the same place. That is counted and reported, and changes nothing.
    pub fn complete(&self, packet: &Packet<'_>) -> Option<u64> {
        let channel = &self.0;
        let result = {
            let mut tx = channel.tx.lock();

            (*tx).as_mut()?.requests.complete(packet.transaction_id())
        };

        match result {
            Ok(cookie) => Some(cookie),
            Err(error) => {
                channel.dropped.fetch_add(1u64, Relaxed);
                crate::ratelimited!(pr_warn!(
                    "{}: completion of {:#x}: {}\n",
                    Shown(&channel.offer.instance),
                    packet.transaction_id(),
                    Shown(&error)
                ));
                None
            }
        }
    }
}
