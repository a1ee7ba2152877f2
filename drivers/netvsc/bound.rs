// SPDX-License-Identifier: GPL-2.0

//! The binding of a device: its interface, and in which order all of it ends.

use crate::{
    adapter::Adapter,
    connection::Frames,
    net::{self, Notifier, Registration},
    work::{AGAIN, END, LINK, MODE, PATH, RECOVER, REST, SHOW, SPREAD, TAKE_UP},
};
use kernel::{device, prelude::*, sync::Arc};
use netvsc_protocol::terms::Terms;
use vmbus::{abstractions::workqueue, Device};

/// A device that is bound, or on its way to be. Dropping it ends the binding.
pub(crate) struct Bound<'bound> {
    adapter: Arc<Adapter>,
    registration: Option<Registered<'bound>>,
}

/// An interface that the stack knows.
enum Registered<'bound> {
    /// It hears of cards that may be virtual functions.
    Listening { _notifier: Notifier<'bound> },
    /// It does not.
    Alone { _registration: Registration<'bound> },
}

impl<'bound> Bound<'bound> {
    /// From now on dropping it ends the device.
    pub(crate) fn new(adapter: Arc<Adapter>) -> Self {
        Self {
            adapter,
            registration: None,
        }
    }

    /// Makes the interface known to the stack. May sleep.
    pub(crate) fn register(&mut self, device: &'bound Device<device::Bound>) -> Result {
        let adapter = &self.adapter;
        let connection = adapter.connection()?;
        let agreed = connection.agreed.as_ref().ok_or(ENODEV)?;
        let terms = Terms::of(agreed, agreed.mtu, agreed.mtu);

        *adapter.offered.lock() = terms.offloads;
        let config = net::Config {
            agreed,
            terms: &terms,
        };
        let registration = Registration::new(device, &adapter.netdev, adapter, &config)?;

        adapter.path_connected();
        self.registration = Some(if net::is_isolated() {
            Registered::Alone {
                _registration: registration,
            }
        } else {
            Registered::Listening {
                _notifier: Notifier::new(registration)?,
            }
        });
        adapter.show_link();
        Ok(())
    }
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        let adapter = &self.adapter;

        let hurry = || {
            self.adapter
                .connection
                .with(|connection| connection.hurry())
        };

        // Nobody waits any longer for a host that is known to be silent, or is found to be so.
        hurry();
        // From here on the stack uses nothing of it.
        drop(self.registration.take());
        workqueue::disable_delayed_sync::<Adapter, AGAIN>(adapter);
        workqueue::disable_delayed_sync::<Adapter, REST>(adapter);
        workqueue::disable_delayed_sync::<Adapter, SHOW>(adapter);
        // Of another connection, maybe.
        hurry();
        workqueue::disable_sync::<Adapter, MODE>(adapter);
        workqueue::disable_delayed_sync::<Adapter, LINK>(adapter);
        workqueue::disable_sync::<Adapter, SPREAD>(adapter);
        workqueue::disable_sync::<Adapter, END>(adapter);
        workqueue::disable_sync::<Adapter, RECOVER>(adapter);
        workqueue::disable_sync::<Adapter, PATH>(adapter);
        workqueue::disable_delayed_sync::<Adapter, TAKE_UP>(adapter);
        if let Some(connection) = adapter.connection.unpublish() {
            connection.leave(Frames::Waited);
        }
    }
}
