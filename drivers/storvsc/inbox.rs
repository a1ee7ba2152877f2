// SPDX-License-Identifier: GPL-2.0

//! The packets that come through a channel, and what becomes of it.

use crate::{channels::PRIMARY, luns, probe, reset, routes::reroute, shared::Shared};
use kernel::{prelude::*, sync::Arc};
use storvsc_protocol::{
    inbound::Status, luns::is_sign_of_life, outcome::outcome, Inbound, Outcome,
};
use vmbus::{abstractions::Shown, CallbackContext, Handler, Packet, Sender};

/// Takes the packets of one channel.
pub(crate) struct Inbox {
    shared: Arc<Shared>,
    number: u16,
}

impl Inbox {
    /// For the channel with this number.
    pub(crate) fn new(shared: Arc<Shared>, number: u16) -> Self {
        Self { shared, number }
    }

    /// A command ended, with this transaction id.
    #[inline]
    fn on_command(&self, id: u64, status: &Status) {
        let shared = &self.shared;

        match shared.slots.take(id, self.number) {
            Ok(command) => {
                let result = outcome(&command.sent(), status);

                let is_sign_of_life = is_sign_of_life(command.sent().opcode, status);

                if !is_sign_of_life {
                    if status.scsi != 0 || status.srb != 1 {
                        self.on_failure(id, command.sent().opcode, status, &result);
                    }
                    if let Some(followup) = result.followup {
                        luns::on_followup(shared, command.address(), followup);
                    }
                }
                command.finish(&result, status.sense(), is_sign_of_life);
            }
            Err(error) => {
                shared.counters.refused.count();
                if shared.packet_lines.allow(&shared.dev) {
                    dev_warn!(
                        shared.dev,
                        "answer with id {:#x} ignored: {}\n",
                        id,
                        Shown(&error)
                    );
                }
            }
        }
    }

    #[cold]
    fn on_failure(&self, id: u64, opcode: u8, status: &Status, result: &Outcome) {
        let shared = &self.shared;

        shared.counters.failed.count();
        if shared.logs(result.log) && shared.command_lines.allow(&shared.dev) {
            let slot = (id & 0xffff_ffff).saturating_sub(1);
            let depth = u64::from(shared.settings.depth);

            dev_warn!(
                shared.dev,
                "tag#{} cmd {:#x} status: {}\n",
                slot.checked_rem(depth).unwrap_or(slot),
                opcode,
                Shown(status)
            );
        }
    }
}

impl Handler for Inbox {
    const CONTEXT: CallbackContext = CallbackContext::Interrupt;

    #[inline]
    fn on_packet(&self, sender: &Sender, packet: &Packet<'_>) {
        let shared = &self.shared;
        let error = match Inbound::parse(packet.transaction_id(), packet.payload()) {
            Ok(Inbound::Command(id, status)) => return self.on_command(id, &status),
            Ok(Inbound::Rescan) => return luns::on_notice(shared),
            Ok(Inbound::Internal(id, status)) => {
                if !shared.internal.on_answer(id, status) {
                    shared.counters.refused.count();
                    if shared.packet_lines.allow(&shared.dev) {
                        dev_warn!(shared.dev, "answer to no command ignored\n");
                    }
                }
                return;
            }
            Ok(Inbound::Reset(status)) => {
                if !reset::on_answer(shared, status) {
                    shared.counters.refused.count();
                    if shared.packet_lines.allow(&shared.dev) {
                        dev_warn!(shared.dev, "answer to no reset ignored\n");
                    }
                }
                return;
            }
            Ok(Inbound::Init {
                id,
                operation,
                status,
                body,
            }) => {
                let next = shared.init.lock().on_answer(id, operation, status, &body);

                if let Some(step) = next {
                    probe::send_step(shared, sender, step);
                }
                return shared.step.complete();
            }
            Err(error) => error,
        };

        shared.counters.refused.count();
        if shared.packet_lines.allow(&shared.dev) {
            dev_warn!(shared.dev, "ignored: {}\n", Shown(&error));
        }
    }

    fn on_broken(&self) {
        self.shared.give_up();
    }

    fn on_rescind(&self) {
        // A sub-channel that goes alone is dealt with in `rescinded`.
        if self.number == PRIMARY {
            self.shared.give_up();
        }
    }

    fn on_moved(&self) {
        match reroute(&self.shared) {
            // There is none when the device is being ended.
            Ok(()) | Err(ENODEV) => {}
            Err(error) => dev_warn!(
                self.shared.dev,
                "I/O stays on the channels it is on: {:?}\n",
                error
            ),
        }
    }
}
