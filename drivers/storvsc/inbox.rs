// SPDX-License-Identifier: GPL-2.0

//! The packets that come through a channel, and what becomes of it.

use crate::{channels::PRIMARY, luns, probe, reset, routes::reroute, scsi::End, shared::Shared};
use kernel::{prelude::*, sync::Arc};
use storvsc_protocol::{
    inbound::Status, luns::is_sign_of_life, outcome::outcome, own::Answer, Inbound, Outcome,
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

        match shared.host.slots().take(id, self.number) {
            Ok(command) => {
                let sent = command.of_driver();
                let result = outcome(&sent, status);
                let is_sign_of_life = is_sign_of_life(sent.opcode, status);

                if !is_sign_of_life {
                    if status.scsi != 0 || status.srb != 1 {
                        self.on_failure(id, sent.opcode, status, &result);
                    }
                    if let Some(followup) = result.followup {
                        luns::on_followup(shared, command.address().into(), followup);
                    }
                }
                command.finish(&End {
                    result: result.result(),
                    residual: result.residual,
                    sense: if result.sense { status.sense() } else { &[] },
                    is_sign_of_life,
                });
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

    /// An answer to nothing.
    #[cold]
    fn on_unknown(&self, what: &str) {
        let shared = &self.shared;

        shared.counters.refused.count();
        if shared.packet_lines.allow(&shared.dev) {
            dev_warn!(shared.dev, "{}\n", what);
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
                return match shared.internal.on_answer(id, status) {
                    Answer::Expected => {}
                    Answer::Late(unit) => luns::on_voice(shared, unit),
                    // A unit that is still mute is listened for again.
                    Answer::Flushed => luns::wake(shared),
                    // The next notice has it listened for again: the host may do so every time.
                    Answer::Failed => {}
                    Answer::Unknown => self.on_unknown("answer to no command ignored"),
                };
            }
            Ok(Inbound::Reset(status)) => {
                if !reset::on_answer(shared, status) {
                    self.on_unknown("answer to no reset ignored");
                }
                return;
            }
            Ok(Inbound::Init {
                id,
                operation,
                status,
                body,
            }) => {
                // One that answers nothing gives the host no more time.
                let (next, counts) = {
                    let mut init = shared.init.lock();
                    let before = init.state();
                    let next = init.on_answer(id, operation, status, &body);

                    (next, init.state() != before)
                };

                if let Some(step) = next {
                    probe::send_step(shared, sender, step);
                }
                if counts {
                    shared.step.complete();
                }
                return;
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
