// SPDX-License-Identifier: GPL-2.0

//! Logical units that come, go or change.
//!
//! The host says that something changed, or a command finds it out; what has to be done then sleeps.
//! Events are kept in a place of fixed size, and one work item takes them out. The item exists before
//! the channel is open, so a notice at any time is kept; before the midlayer knows the host it only
//! waits there.

use crate::shared::{Shared, UNITS};
use kernel::{prelude::*, sync::Arc, workqueue::WorkItem};
use storvsc_protocol::{events::Event, outcome::Followup, packet::Address};
use vmbus::{abstractions::workqueue, ratelimited};

/// The host changed the set of logical units. Any context but NMI.
pub(crate) fn on_change(shared: &Arc<Shared>) {
    shared.events.lock().scan_bus();
    wake(shared);
}

/// A command found out something about its logical unit. Any context but NMI.
pub(crate) fn on_followup(shared: &Arc<Shared>, address: Address, followup: Followup) {
    shared.events.lock().unit(address, followup);
    wake(shared);
}

/// Has the events dealt with. Any context but NMI.
pub(crate) fn wake(shared: &Arc<Shared>) {
    if shared.is_added() {
        // An error means that it is about to run anyway, or that the device is unbound.
        let _ = workqueue::system_dfl_long().enqueue::<_, UNITS>(shared.clone());
    }
}

impl WorkItem<UNITS> for Shared {
    type Pointer = Arc<Shared>;

    fn run(this: Arc<Shared>) {
        while !this.is_dead() {
            let event = this.events.lock().take();

            match event {
                Some(Event::ScanBus) => {
                    // A unit that is not there any more answers so, and that removes it.
                    this.host.test_units();
                    this.host.scan();
                }
                Some(Event::Unit(address, Followup::Rescan)) => {
                    this.host.rescan_unit(address);
                }
                Some(Event::Unit(address, Followup::Remove)) => {
                    // Commands of the removal itself find the unit gone again.
                    if this.host.remove_unit(address) {
                        ratelimited!(dev_info!(
                            this.dev,
                            "unit {}:{}:{} is gone\n",
                            address.channel,
                            address.target,
                            address.lun
                        ));
                    }
                }
                None => return,
            }
        }
    }
}
