// SPDX-License-Identifier: GPL-2.0

//! Changes that take another connection: of MTU, of the buffers, of the number of channels.

use crate::{
    adapter::{Adapter, Settings},
    channels, connect,
    net::Rtnl,
};
use kernel::{prelude::*, sync::Arc};
use netvsc_protocol::query::Filter;

/// Connects anew, with these settings; with the old ones when that fails. Process context, under RTNL.
///
/// A host that does not take part at all is noticed before anything changes.
pub(crate) fn reconfigure(adapter: &Arc<Adapter>, rtnl: &Rtnl<'_>, new: Settings) -> Result {
    if new == *adapter.settings.lock() {
        return Ok(());
    }
    reconnect(adapter, rtnl, new)
}

/// Connects anew with the same settings, after frames were sent that the host does nothing with, unless
/// it has got to them meanwhile. Process context, under RTNL.
///
/// A host that does not answer either is given up.
pub(crate) fn recover(adapter: &Arc<Adapter>, rtnl: &Rtnl<'_>) -> Result {
    let connection = adapter.connection()?;
    let settings = *adapter.settings.lock();

    if connection.queues.iter().all(|queue| queue.in_flight() == 0) {
        return Ok(());
    }
    drop(connection);
    let result = reconnect(adapter, rtnl, settings);

    if let Err(error) = result {
        dev_err!(adapter.dev, "the host does not send frames: {:?}\n", error);
    }
    result
}

fn reconnect(adapter: &Arc<Adapter>, rtnl: &Rtnl<'_>, new: Settings) -> Result {
    let old = *adapter.settings.lock();
    let connection = adapter.connection()?;

    adapter.netdev.disable_transmit();
    if let Err(error) = connection.control.set_filter(&connection, Filter::NONE) {
        adapter.netdev.wake_all();
        return Err(error);
    }
    drop(connection);
    adapter.netdev.set_carrier(false);
    if let Some(connection) = adapter.connection.unpublish() {
        connection.leave();
    }
    // Nothing is sent now, and what was is done with or left.
    adapter.netdev.reset_queues(rtnl);
    adapter.netdev.use_queues(rtnl, 1);

    *adapter.settings.lock() = new;
    let result = connect::connect(adapter, rtnl.device());

    if let Err(error) = result {
        dev_warn!(adapter.dev, "back to the former settings: {:?}\n", error);
        *adapter.settings.lock() = old;
        connect::connect(adapter, rtnl.device())?;
    }
    resume(adapter)?;
    result
}

/// The interface goes on with a new connection.
fn resume(adapter: &Arc<Adapter>) -> Result {
    let connection = adapter.connection()?;

    if adapter.is_up() {
        connection
            .control
            .apply_mode(&connection, adapter.netdev.mode())?;
        adapter.netdev.wake_all();
    }
    adapter.show_link();
    channels::spread(&connection);
    Ok(())
}
