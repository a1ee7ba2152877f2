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

/// Tries whether the host answers again. May sleep.
fn revive(shared: &Arc<Shared>) {
    let Some(closed) = closed_channels(shared) else {
        return try_later(shared);
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
            return;
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
        return shared.give_up();
    }
    shared.revivals.store(0, Relaxed);
    shared.counters.revived.count();
    shared.host.set_units_running();
    luns::wake(shared);
    dev_info!(shared.dev, "the host answers again\n");
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
        let _no_reset = this.reset.lock();

        revive(&this);
    }
}
