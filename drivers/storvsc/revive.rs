// SPDX-License-Identifier: GPL-2.0

//! A host that was given up, and answers again.
//!
//! Its channels were closed, and all commands have ended, with errors. From time to time the
//! channel is opened again, if the host has given back all memory. When the initialisation works,
//! the device is in use again, with those of its units that say they are the same.

use crate::{
    channels::Channels,
    luns, probe, routes,
    shared::{Shared, REVIVE},
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
    workqueue::WorkItem,
};
use storvsc_protocol::limits::{revive_pause_ms, transfer};
use vmbus::abstractions::{workqueue, NoIo};

/// Tries later whether the host answers again, unless the device is on its way out. Any context but
/// NMI.
pub(crate) fn try_later(shared: &Arc<Shared>) {
    if !shared.host.is_added() {
        return;
    }
    let pause = revive_pause_ms(shared.revivals.fetch_add(1u32, Relaxed));

    // An error means that it is about to be tried anyway, or that the device is unbound.
    let _ = workqueue::enqueue_delayed::<_, REVIVE>(
        workqueue::system_dfl_long(),
        shared.clone(),
        pause,
    );
}

/// The closed channels of a device that was given up, if the host has given back all memory.
fn closed_channels(shared: &Shared) -> Option<Channels> {
    let mut ended = shared.ended.lock();
    let is_over = shared.host.slots().in_flight() == 0 && !ended.withhold_any();

    (shared.is_dead() && is_over).then(|| ended.take())
}

/// Tries whether the host answers again, and returns whether it does. May sleep.
fn revive(shared: &Arc<Shared>) -> bool {
    let Some(closed) = closed_channels(shared) else {
        try_later(shared);
        return false;
    };
    let before = shared.init.lock().host().max_transfer_bytes;
    let channel = match closed.open_again(shared) {
        Ok(channel) => channel,
        Err(error) => {
            *shared.ended.lock() = closed;
            // Otherwise it is on its way out.
            if error != ENODEV {
                try_later(shared);
            }
            return false;
        }
    };

    drop(closed);
    shared.internal.forget();
    shared.set_alive();
    // Who the units are is asked before anything is sent there.
    luns::on_notice(shared);
    if probe::start(shared, channel).is_err()
        || !takes_as_much(shared, before)
        || routes::reroute(shared).is_err()
    {
        shared.give_up();
        return false;
    }
    shared.revivals.store(0, Relaxed);
    true
}

/// Whether the host takes commands of the size that the midlayer was told.
fn takes_as_much(shared: &Shared, before: u32) -> bool {
    let ring_bytes = shared.settings.ring_bytes;
    let now = shared.init.lock().host().max_transfer_bytes;
    let does = transfer(now, ring_bytes).bytes >= transfer(before, ring_bytes).bytes;

    if !does {
        dev_err!(shared.dev, "the host takes less in a command than before\n");
    }
    does
}

impl WorkItem<REVIVE> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        // Writes to its disks wait for this, and memory may be waiting for writes.
        let _noio = NoIo::new();
        let is_revived = {
            let _no_reset = this.reset.lock();

            revive(&this)
        };

        // Without the lock: one of the units may be on its way out, and what is waited for there
        // may wait for memory, which a reset must not wait for.
        if is_revived {
            this.counters.revived.count();
            this.host.set_units_running();
            luns::wake(&this);
            dev_info!(this.dev, "the host answers again\n");
        }
    }
}
