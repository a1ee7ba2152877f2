// SPDX-License-Identifier: GPL-2.0

//! What the midlayer is told of logical units: to remove, to rescan and to find them
//! ([`luns`](crate::luns) says why, and which).

use crate::{
    luns::{interview, is_present, wake, wake_units},
    shared::{Shared, LATER, UNITS},
};
use kernel::{prelude::*, sync::Arc, workqueue::WorkItem};
use storvsc_protocol::{identity::Found, luns::Task, packet::Address};
use vmbus::abstractions::workqueue;

/// How often to look whether the host has done the last command of a unit that is gone, in
/// milliseconds.
const BUSY_EVERY_MS: u32 = 200;

impl WorkItem<UNITS> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        this.with_luns(|luns| luns.try_again());
        while !this.is_dead() {
            match this.with_luns(|luns| luns.take()) {
                Some(Task::Remove(unit)) if this.host.is_unit_busy(unit.into()) => {
                    this.with_luns(|luns| luns.put_off(unit));
                }
                Some(Task::Remove(unit)) => remove(&this, unit),
                Some(Task::Rescan(unit)) => rescan(&this, unit),
                Some(Task::LookAtAll { channel, target }) => look_at_all(&this, channel, target),
                Some(Task::ScanBus) => this.host.scan(),
                None => break,
            }
        }
        if !this.is_dead() && this.with_luns(|luns| luns.have_put_off()) {
            let queue = workqueue::system_dfl_long();
            let _ = workqueue::enqueue_delayed::<_, LATER>(queue, this, BUSY_EVERY_MS);
        }
    }
}

impl WorkItem<LATER> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        wake_units(&this);
    }
}

/// Has the midlayer forget a unit, and looks what is there now.
fn remove(shared: &Arc<Shared>, unit: Address) {
    if shared.host.remove_unit(unit.into()) {
        shared.counters.units_gone.count();
        dev_info!(
            shared.dev,
            "unit {}:{}:{} is gone\n",
            unit.channel,
            unit.target,
            unit.lun
        );
    }
    let mut identities = shared.identities.lock();

    identities.forget(unit);
    let is_mute = shared.with_luns(|luns| {
        luns.forget(unit);
        luns.is_mute(unit)
    });
    drop(identities);
    if !is_mute {
        // There is no unit, or it was found already: either is as good.
        let _ = shared.host.add_unit(unit.into());
    }
}

/// Has the midlayer read a unit's properties again.
fn rescan(shared: &Arc<Shared>, unit: Address) {
    let mut identities = shared.identities.lock();

    shared.with_luns(|luns| luns.on_rescan(unit));
    if let (Some(known), Ok(found)) = (identities.get(unit), interview(shared, unit)) {
        match found {
            Found::Unit { identity, .. } if known.is_same_but_size(&identity) => {
                known.adopt(&identity);
            }
            _ => shared.with_luns(|luns| luns.on_doubt(unit)),
        }
    }
    drop(identities);
    wake(shared);
    shared.host.rescan_unit(unit.into());
}

/// Looks at each unit of a target.
fn look_at_all(shared: &Arc<Shared>, channel: u8, target: u8) {
    for lun in 0..=u8::MAX {
        let unit = Address {
            channel,
            target,
            lun,
        };

        if shared.with_luns(|luns| luns.is_known(unit)) {
            continue;
        }
        match is_present(shared, unit) {
            Ok(true) => drop(shared.host.add_unit(unit.into())),
            Ok(false) => {}
            Err(_) => return,
        }
    }
}
