// SPDX-License-Identifier: GPL-2.0

//! Changes that take another connection: of MTU, of the buffers, of the number of channels.

use crate::{
    adapter::{Adapter, Settings},
    channels, connect,
    connection::{Connection, Frames},
    control::{is_silence, Wait},
    net::{Operations, Rtnl},
};
use kernel::{prelude::*, sync::Arc};
use netvsc_protocol::{silence::Question, terms::Terms};
use vmbus::abstractions::Shown;

/// Connects anew, with these settings; with the old ones when that fails. Process context, under
/// RTNL.
///
/// A host that does not take part at all is noticed before anything changes.
pub(crate) fn reconfigure(adapter: &Arc<Adapter>, rtnl: &Rtnl<'_>, new: Settings) -> Result {
    if new == *adapter.settings.lock() {
        return Ok(());
    }
    renew(adapter, rtnl, new)
}

/// The same, also when the settings are what they were.
pub(crate) fn renew(adapter: &Arc<Adapter>, rtnl: &Rtnl<'_>, new: Settings) -> Result {
    let connection = adapter.connection()?;

    adapter.netdev.disable_transmit();
    if let Err(error) = connection.control.deliver_nothing(&connection) {
        adapter.netdev.wake_all();
        // It may have done so, and be late with the answer.
        adapter.renew_mode();
        return Err(error);
    }
    drop(connection);
    reconnect(adapter, rtnl, new)
}

/// Connects anew with the same settings, after frames were sent that the host does nothing with,
/// unless it does meanwhile; or since there is no connection, when the last one could not be made.
/// Process context, under RTNL. What is stuck is not waited for.
pub(crate) fn recover(adapter: &Arc<Adapter>, rtnl: &Rtnl<'_>) -> Result {
    if let Some(connection) = adapter.connection.get() {
        if connection.is_dead() || !adapter.is_up() {
            return Ok(());
        }
        if !connection.is_stuck() {
            connection.set_useful();
            return Ok(());
        }
        adapter.begin_recovery();
        adapter.netdev.disable_transmit();
        leave(adapter, rtnl, Frames::Left);
    }
    let connected = connect(adapter, rtnl);

    if let Err(error) = connected {
        dev_err!(adapter.dev, "not connected anew: {:?}\n", error);
        try_later(adapter, error);
        return Err(error);
    }
    connected.map(|connection| go_on(adapter, rtnl, &connection))
}

fn reconnect(adapter: &Arc<Adapter>, rtnl: &Rtnl<'_>, new: Settings) -> Result {
    let old = *adapter.settings.lock();

    leave(adapter, rtnl, Frames::Waited);
    *adapter.settings.lock() = new;
    let first = connect(adapter, rtnl);
    let connection = match &first {
        Ok(connection) => connection.clone(),
        Err(error) => {
            dev_warn!(adapter.dev, "back to the former settings: {:?}\n", error);
            *adapter.settings.lock() = old;
            connect(adapter, rtnl).inspect_err(|error| try_later(adapter, *error))?
        }
    };

    go_on(adapter, rtnl, &connection);
    // Or who looks next finds one queue, and tools that put back what they found would leave it so.
    channels::await_all(&connection, rtnl);
    first.map(drop)
}

/// There is no connection. One that could not be made since the host did not answer, or for want of
/// memory, is tried again.
fn try_later(adapter: &Arc<Adapter>, error: Error) {
    if is_silence(error) || error == ENOMEM {
        adapter.ask_again(Question::Recovery);
    }
}

/// Tells the stack what was agreed on with the host, which may be less than before, or more.
fn announce(adapter: &Arc<Adapter>, rtnl: &Rtnl<'_>, connection: &Connection) {
    let Some(agreed) = connection.agreed.as_ref() else {
        return;
    };
    let asked = adapter.settings.lock().mtu;
    // While an MTU that is asked for is less than that of the device, the latter is of before.
    let used = adapter.netdev.mtu().min(asked);
    let terms = Terms::of(agreed, asked, used);
    let offloads = core::mem::replace(&mut *adapter.offered.lock(), terms.offloads);
    let former = Terms {
        offloads,
        mtu: used,
        ..terms
    };

    say(adapter, &former, &terms);
    let coalesce = adapter.netdev.agree(rtnl, &terms);

    // The host has begun with what was wanted before.
    if let Err(error) = Adapter::set_coalesce(adapter.as_arc_borrow(), coalesce) {
        dev_warn!(
            adapter.dev,
            "the host coalesces frames as before: {:?}\n",
            error
        );
    }
}

/// Says what differs, if something does: a host may agree on something else each time.
fn say(adapter: &Adapter, former: &Terms, terms: &Terms) {
    let (less, more) = (former.beyond(terms), terms.beyond(former));

    if less.is_none() && more.is_none() || !adapter.event_lines.allow(&adapter.dev) {
        return;
    }
    if let Some(lost) = less {
        dev_warn!(
            adapter.dev,
            "the host agrees on less than before, without {}\n",
            Shown(&lost)
        );
    }
    if let Some(won) = more {
        dev_info!(
            adapter.dev,
            "the host agrees on more than before, with {}\n",
            Shown(&won)
        );
    }
}

/// The interface goes on with another connection.
fn go_on(adapter: &Arc<Adapter>, rtnl: &Rtnl<'_>, connection: &Arc<Connection>) {
    announce(adapter, rtnl, connection);
    if adapter.is_up() {
        adapter.netdev.wake_all();
    }
    adapter.show_link();
    adapter.on_connected();
    let own_table = adapter.netdev.has_own_table(rtnl);

    adapter.spread.lock().on_other_row(own_table);
    channels::spread(connection);
    // Behind that: who holds RTNL does not wait for who asks for a path.
    adapter.path_connected();
}

/// Ends the connection.
fn leave(adapter: &Adapter, rtnl: &Rtnl<'_>, frames: Frames) {
    adapter.path_disconnected();
    let connection = adapter.connection.unpublish();

    // There is none without a connection.
    adapter.show_link();
    if let Some(connection) = connection {
        connection.leave(frames);
    }
    // Nothing is sent now, and what was is done with or left.
    adapter.netdev.reset_queues(rtnl);
    adapter.netdev.use_queues(rtnl, 1);
}

/// Connects, and has the host deliver frames if the interface is up. There is no connection after
/// an error.
fn connect(adapter: &Arc<Adapter>, rtnl: &Rtnl<'_>) -> Result<Arc<Connection>> {
    connect::connect(adapter, rtnl.device())?;
    let delivers = adapter.connection().and_then(|connection| {
        if adapter.is_up() {
            connection.control.apply_mode(&connection, Wait::Brief)?;
        }
        Ok(connection)
    });

    if delivers.is_err() {
        leave(adapter, rtnl, Frames::Left);
    }
    delivers
}
