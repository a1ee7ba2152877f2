// SPDX-License-Identifier: GPL-2.0

//! Devices whose driver gave up because the host was late are offered to the drivers again.
//!
//! A driver's `probe` waits for the host for a bounded time. A host under load that needs longer would cost the
//! machine a device for good. `drivers/hv` waits for some answers without end, and loses the device with others.

use crate::{
    abstractions::{workqueue, Shown},
    channel::{Channel, ATTACH},
};
use kernel::{
    ffi::c_int,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc,
    },
    time::Msecs,
};

/// How long until the second `probe`, and how long at most until another one. Each takes its own time.
const FIRST_MS: Msecs = 10_000;
const MOST_MS: Msecs = 160_000;

/// Whether and when a device is offered to the drivers again.
pub(crate) struct Attach {
    wanted: Atomic<bool>,
    pause_ms: Atomic<Msecs>,
}

impl Attach {
    /// It was not offered yet.
    pub(crate) const fn new() -> Self {
        Self {
            wanted: Atomic::new(false),
            pause_ms: Atomic::new(FIRST_MS),
        }
    }
}

/// A `probe` begins, or a driver was unbound: nobody waits any more.
pub(super) fn forget(channel: &Channel) {
    channel.attach_state().wanted.store(false, Relaxed);
}

/// A `probe` has ended.
pub(super) fn on_probe(channel: &Arc<Channel>, result: c_int) {
    let state = channel.attach_state();

    if result == 0 {
        return state.pause_ms.store(FIRST_MS, Relaxed);
    }
    // The second one: the host has not let go of what it was late with. The third: it had no room for a message.
    if ![ETIMEDOUT, EBUSY, EAGAIN]
        .map(Error::to_errno)
        .contains(&result)
    {
        return;
    }
    // One `probe` of a device runs at a time.
    let pause_ms = state.pause_ms.load(Relaxed);

    state
        .pause_ms
        .store(pause_ms.saturating_mul(2).min(MOST_MS), Relaxed);
    state.wanted.store(true, Relaxed);
    pr_notice!(
        "{}: the host was late; trying again in {} s\n",
        Shown(&channel.offer().instance),
        pause_ms / 1_000
    );
    // One that waits already will do.
    let _ = workqueue::enqueue_delayed::<_, ATTACH>(
        workqueue::system_dfl_long(),
        channel.clone(),
        pause_ms,
    );
}

/// The time has come. May sleep, for as long as a `probe` takes.
pub(crate) fn run(channel: &Arc<Channel>) {
    if !channel.attach_state().wanted.xchg(false, Full) {
        return;
    }
    let device = channel.device();

    if let Some(device) = device {
        device.find_driver();
    }
}
