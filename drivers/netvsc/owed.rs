// SPDX-License-Identifier: GPL-2.0

//! What the host is owed for received packets: it uses their part of the receive buffer again when
//! it has an answer for each.

use crate::connection::Connection;
use kernel::prelude::*;
use netvsc_protocol::nvsp::rndis_complete;
use vmbus::{Doorbell, SendError, Sender};

/// Most answers before they are sent.
const MOST: usize = 64;

/// Packets that are done with, and whether all of their frames were taken.
pub(crate) struct Owed(KVec<(u64, bool)>);

impl Owed {
    /// Nothing. May sleep.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(KVec::with_capacity(MOST, GFP_KERNEL)?))
    }

    /// Whether another packet may be taken: the answer to it has a place.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.0.len() < MOST
    }

    /// A packet is done with. To be called when there is room, which is made sure of before the
    /// packet is taken.
    #[inline]
    pub(crate) fn push(&mut self, id: u64, all: bool) {
        let _ = self.0.push_within_capacity((id, all));
    }

    /// Sends what the host is owed, all at once. False when some of it had no room. A ring that the
    /// host broke ends the connection.
    pub(crate) fn settle(&mut self, connection: &Connection, sender: &Sender) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let sent = sender.lock().and_then(|mut outbox| {
            let mut batch = outbox.batch()?;
            let mut sent = 0usize;
            let mut broken = None;

            for (id, all) in self.0.iter() {
                match batch.push_completion(*id, &rndis_complete(*all)) {
                    Ok(()) => sent = sent.saturating_add(1),
                    Err(SendError::Full { .. }) => break,
                    Err(error) => {
                        broken = Some(error);
                        break;
                    }
                }
            }
            batch.commit();
            match broken {
                None => {
                    outbox.release(Doorbell::Ring);
                    Ok(sent)
                }
                Some(error) => Err(outbox.refuse(error)),
            }
        });

        match sent {
            Ok(sent) if sent < self.0.len() => {
                connection.adapter.counters.rx_comp_busy.count();
                let mut gone = sent;

                self.0.retain(|_| match gone.checked_sub(1) {
                    Some(left) => {
                        gone = left;
                        false
                    }
                    None => true,
                });
                false
            }
            Ok(_) => {
                self.0.clear();
                true
            }
            // Nobody is there any more who is owed something.
            Err(error) => {
                self.0.clear();
                if error != ENODEV {
                    connection.give_up();
                }
                true
            }
        }
    }
}
