// SPDX-License-Identifier: GPL-2.0

//! The bus reset.

use crate::{scsi::Parameters, shared::Shared};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Full, Relaxed},
        Arc,
    },
    time::{delay::fsleep, Delta, Instant, Monotonic},
};
use storvsc_protocol::{inbound::RESET_ID, limits::RESET_TRIES, packet::Packet, ANSWER_TIMEOUT_MS};
use vmbus::{OutgoingPacket, Sender};
use vmbus_protocol::packet::PacketFlags;

/// Time that a host always has, whatever the administrator said.
const PATIENCE_MIN_MS: u32 = 2_000;

/// How often to look whether all commands came back.
const LOOK_EVERY_MS: i64 = 10;

/// Resets the bus, and returns whether all commands came back. Tries that [`RESET_TRIES`] times. May
/// sleep, for twice as many times [`patience_ms`] at most.
///
/// The midlayer reuses the commands' memory afterwards, whatever is returned. So if the host does not
/// answer, or does not finish all commands, the device is ended: then it cannot write there any more.
/// If it does not even confirm that, this waits until it does.
pub(crate) fn run(shared: &Arc<Shared>, sender: &Sender) -> bool {
    let _one = shared.reset.lock();

    if !shared.is_dead() {
        shared.counters.resets.count();
        for _ in 0..RESET_TRIES {
            if ask(shared, sender) && drain(shared) {
                return true;
            }
            if shared.is_dead() {
                break;
            }
            dev_warn!(shared.dev, "the host does not get done with a bus reset\n");
        }
        dev_err!(shared.dev, "bus reset failed, the device is given up\n");
        shared.give_up();
    }
    // Whoever ends it already is waited for.
    shared.end();
    shared.wait_for_commands();
    false
}

/// How long the host may take to answer a reset, and then to get done with all commands, in
/// milliseconds.
pub(crate) fn patience_ms() -> u32 {
    Parameters::answer_secs().map_or(ANSWER_TIMEOUT_MS, |limit| {
        limit
            .get()
            .saturating_mul(1000)
            .clamp(PATIENCE_MIN_MS, ANSWER_TIMEOUT_MS)
    })
}

/// The host answered the reset. Any context but NMI.
pub(crate) fn on_answer(shared: &Shared, status: u32) -> bool {
    if !shared.resetting.xchg(false, Full) {
        return false;
    }
    shared.reset_status.store(status, Relaxed);
    shared.reset_done.complete();
    true
}

fn ask(shared: &Shared, sender: &Sender) -> bool {
    let packet = Packet::reset_bus(0);

    // Nobody signals it now: no reset is under way, and the device is alive.
    while shared.reset_done.try_wait() {}
    shared.resetting.store(true, Relaxed);
    let sent = sender.send(&OutgoingPacket::inband(
        PacketFlags::COMPLETION_REQUESTED,
        RESET_ID,
        &[packet.bytes()],
    ));
    let answered = sent.is_ok() && shared.reset_done.wait_timeout(patience_ms());
    // An answer that comes now is too late.
    let unanswered = shared.resetting.xchg(false, Full);
    let status = shared.reset_status.load(Relaxed);

    if answered && !unanswered && status != 0 {
        dev_err!(
            shared.dev,
            "the host refused a bus reset: status {:#x}\n",
            status
        );
    }
    answered && !unanswered && status == 0
}

fn drain(shared: &Shared) -> bool {
    let limit = i64::from(patience_ms());
    let start = Instant::<Monotonic>::now();

    while shared.slots.in_flight() != 0 || shared.internal.is_pending() {
        if shared.is_dead() || start.elapsed().as_millis() >= limit {
            return false;
        }
        fsleep(Delta::from_millis(LOOK_EVERY_MS));
    }
    // The midlayer reuses them, with their slots.
    shared.slots.wait_for_completions();
    true
}
