// SPDX-License-Identifier: GPL-2.0

//! The bus reset.

use crate::{params::Parameters, shared::Shared};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Full, Relaxed},
        rcu, Arc,
    },
    time::{delay::fsleep, Delta, Instant, Monotonic},
};
use storvsc_protocol::{inbound::RESET_ID, limits::RESET_TRIES, packet::Packet, ANSWER_TIMEOUT_MS};
use vmbus::{abstractions::Reclaim, OutgoingPacket, Sender};
use vmbus_protocol::packet::PacketFlags;

/// Time that a host always has, whatever the administrator said.
const PATIENCE_MIN_MS: u32 = 2_000;

/// How often to look whether all commands came back.
const LOOK_EVERY_MS: i64 = 10;

/// How long a host that answered a reset may take to end the commands, when the midlayer did not
/// ask for it, in milliseconds. Other units wait meanwhile, as they do before that for the answer.
const FLUSH_MS: u32 = 10_000;

/// Resets the bus for error handling, and returns whether all commands came back. Tries that
/// [`RESET_TRIES`] times. May sleep, for twice as many times [`patience_ms`] at most.
///
/// The midlayer reuses the commands' memory afterwards, whatever is returned. So if the host does
/// not answer, or does not finish all commands, the device is ended: then it cannot write there any
/// more. If it does not even confirm that, this waits until it does.
pub(crate) fn run(shared: &Arc<Shared>, sender: &Sender) -> bool {
    // Memory may be waiting for writes that were not answered.
    let reclaim = Reclaim::new();
    let _one = shared.reset.lock();
    // The midlayer begins nothing now; what it is about to send is waited for.
    let _held = Hold::new(shared);

    if !shared.is_dead() {
        shared.counters.resets.count();
        for _ in 0..RESET_TRIES {
            if ask(shared, sender) && drain(shared, patience_ms()) {
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
    shared.end(&reclaim);
    shared.wait_for_commands();
    false
}

/// Resets the bus for a command of the driver itself that the host does not answer, unless it
/// `is_over` when its turn comes. May sleep, for [`RESET_TRIES`] times [`patience_ms`] and
/// [`flush_ms`] at most.
///
/// No other command is sent meanwhile. Those that do not come back are left to error handling: it
/// is enough that the host answers. If it does not even do that, the device is given up.
pub(crate) fn flush(shared: &Arc<Shared>, sender: &Sender, is_over: impl Fn() -> bool) {
    let _one = shared.reset.lock();

    if is_over() || shared.is_dead() {
        return;
    }
    let _held = Hold::new(shared);

    shared.counters.resets.count();
    for _ in 0..RESET_TRIES {
        if ask(shared, sender) {
            drain(shared, flush_ms());
            return;
        }
        if is_over() || shared.is_dead() {
            return;
        }
    }
    dev_err!(shared.dev, "bus reset failed, the device is given up\n");
    shared.give_up();
}

/// While it exists, the midlayer's commands are refused, which it then sends later.
struct Hold<'a>(&'a Shared);

impl<'a> Hold<'a> {
    /// When this returns, no command is on its way into a ring. May sleep.
    fn new(shared: &'a Shared) -> Self {
        shared.with_luns(|luns| luns.hold());
        // Commands are sent with an RCU lock held.
        rcu::synchronize_rcu();
        Self(shared)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.with_luns(|luns| luns.release());
    }
}

/// How long a command of the driver itself may take after a reset, in milliseconds.
pub(crate) fn flush_ms() -> u32 {
    patience_ms().min(FLUSH_MS)
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

/// Tells the host, when there is room in the ring within `patience` milliseconds of `start`.
fn send(
    shared: &Shared,
    sender: &Sender,
    packet: &Packet,
    start: Instant<Monotonic>,
    patience: u32,
) -> bool {
    let payload: &[&[u8]] = &[packet.bytes()];
    let packet = OutgoingPacket::inband(PacketFlags::COMPLETION_REQUESTED, RESET_ID, payload);

    loop {
        match sender.send(&packet) {
            Err(EAGAIN) if !shared.is_dead() && start.elapsed().as_millis() < patience.into() => {
                fsleep(Delta::from_millis(LOOK_EVERY_MS));
            }
            sent => return sent.is_ok(),
        }
    }
}

/// Resets the bus once; whether the host has done that. May sleep, for [`patience_ms`] at most.
fn ask(shared: &Shared, sender: &Sender) -> bool {
    let packet = Packet::reset_bus(0);

    // Nobody signals it now: no reset is under way, and the device is alive.
    while shared.reset_done.try_wait() {}
    shared.internal.on_reset();
    shared.resetting.store(true, Relaxed);
    let (start, patience) = (Instant::<Monotonic>::now(), patience_ms());
    let sent = send(shared, sender, &packet, start, patience);
    let waited = u32::try_from(start.elapsed().as_millis()).unwrap_or(u32::MAX);
    let left = patience.saturating_sub(waited);
    let answered = sent && shared.reset_done.wait_timeout(left);
    // An answer that comes now is too late.
    let unanswered = shared.resetting.xchg(false, Full);
    let status = shared.reset_status.load(Relaxed);

    shared.internal.on_reset_over();
    if answered && !unanswered && status != 0 {
        dev_err!(
            shared.dev,
            "the host refused a bus reset: status {:#x}\n",
            status
        );
    }
    answered && !unanswered && status == 0
}

/// Waits until all commands of the midlayer came back; whether they did within that time.
fn drain(shared: &Shared, limit_ms: u32) -> bool {
    let limit = i64::from(limit_ms);
    let start = Instant::<Monotonic>::now();

    while shared.host.slots().in_flight() != 0 {
        if shared.is_dead() || start.elapsed().as_millis() >= limit {
            return false;
        }
        fsleep(Delta::from_millis(LOOK_EVERY_MS));
    }
    true
}
