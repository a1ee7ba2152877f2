// SPDX-License-Identifier: GPL-2.0

//! What the host does after the guest has given up waiting for it, and what it has not been told.
//!
//! A host under load may take longer than the guest waits, and does what it was asked for all the
//! same. A channel that it opens then is closed, and memory that it takes then is asked for again:
//! a CLOSECHANNEL or GPADL_TEARDOWN that came before the host was that far may have had no effect.
//! Nor has one for which the host had no room.

use super::{Channel, LATE};
use crate::{
    abstractions::{workqueue, Shown},
    connection::{Connection, CONNECTION},
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, Arc},
    time::Msecs,
};
use vmbus_protocol::{
    channel::LateOpen,
    message::{CloseChannel, GpadlTeardown},
    reply::{Reply, ReplyKey},
    GpadlHandle, Relid,
};
use zerocopy::IntoBytes;

/// A reply to a request that was given up. Returns whether it is of use to anybody. Waits for
/// nothing.
pub(crate) fn on_reply(connection: &Connection, key: ReplyKey, reply: Reply) -> bool {
    match (key, reply) {
        (ReplyKey::Open { relid, open_id }, Reply::Status(status)) => {
            on_open_result(connection, relid, open_id, status)
        }
        (ReplyKey::GpadlCreated { relid, gpadl }, Reply::Status(status)) => {
            let known = connection.gpadls.on_late_created(gpadl, status);

            if let Some(channel) = connection.channels.get(relid).filter(|_| known) {
                schedule(channel);
            }
            known
        }
        (ReplyKey::GpadlTorndown { gpadl, .. }, _) => on_torndown(connection, gpadl),
        _ => false,
    }
}

fn on_open_result(connection: &Connection, relid: Relid, open_id: u32, status: u32) -> bool {
    let Some(channel) = connection.channels.get(relid) else {
        return false;
    };
    let demand = channel.life.lock().open_late(open_id, status);

    if let LateOpen::Close { ring } = demand {
        pr_info!(
            "{}: opened after all, and closed again\n",
            Shown(&channel.offer.instance)
        );
        connection.gpadls.ask_again(ring);
        schedule(channel);
    }
    true
}

/// The host has let go of memory for which nobody waits any more. Returns whether it was left to
/// it. Waits for nothing.
pub(crate) fn on_torndown(connection: &Connection, gpadl: GpadlHandle) -> bool {
    let Some(relid) = connection.gpadls.on_late_torndown(gpadl) else {
        return false;
    };

    if let Some(channel) = connection.channels.get(relid) {
        channel.life.lock().let_go(gpadl);
    }
    pr_info!("GPADL {:#x} is torn down after all\n", gpadl.raw());
    true
}

/// How long until the host is told again what it did not take, the first time and at most: each
/// pause is twice the one before.
pub(super) const AGAIN_MS: Msecs = 10_000;
const LONGEST_MS: Msecs = 160_000;

/// Has the host told, by a work item.
pub(super) fn schedule(channel: Arc<Channel>) {
    // An item that is queued already will see this, too.
    let _ = workqueue::enqueue_delayed::<_, LATE>(workqueue::reclaim(), channel, 0);
}

/// Closes a channel that was opened late or could not be closed, and asks for memory that was taken
/// late or could not be asked for. May sleep, for seconds. What the host does not take is tried
/// again and again, for as long as the channel is there: nobody may want to open it while its
/// memory is left to the host.
pub(super) fn make_good(channel: &Arc<Channel>) {
    let Some(connection) = CONNECTION.get() else {
        return;
    };

    match tell(&connection, channel) {
        Ok(()) => channel.late_pause_ms.store(AGAIN_MS, Relaxed),
        // It has let go of everything.
        Err(error) if error == ENODEV => {}
        Err(error) => {
            let instance = &channel.offer.instance;

            if channel.lines.allow_about(instance) {
                pr_err!(
                    "{}: what the host did late, or was not told, is not undone yet: {:?}\n",
                    Shown(instance),
                    error
                );
            }
            // One item of a channel runs at a time.
            let pause_ms = channel.late_pause_ms.load(Relaxed);
            let next_ms = pause_ms.saturating_mul(2).min(LONGEST_MS);

            channel.late_pause_ms.store(next_ms, Relaxed);
            let _ = workqueue::enqueue_delayed::<_, LATE>(
                workqueue::reclaim(),
                channel.clone(),
                pause_ms,
            );
        }
    }
}

/// Ends when there is nothing more to tell, or with the error of what could not be posted.
fn tell(connection: &Connection, channel: &Channel) -> Result {
    let relid = channel.relid();
    let alive = || !channel.is_rescinded();

    loop {
        // Before the memory: the host may write to that of a channel that it has open.
        let owed = channel.life.lock().close_late_begin();

        if owed {
            let close = CloseChannel::new(relid);
            let posted = connection.post_briefly(close.as_bytes(), &alive);

            channel.life.lock().close_late_end(posted.is_ok());
            posted?;
        }
        let Some(gpadl) = connection.gpadls.take_ask_again(relid) else {
            return Ok(());
        };
        // It may have been opened meanwhile.
        let asked = if channel.life.lock().must_close() {
            Ok(false)
        } else {
            let teardown = GpadlTeardown::new(relid, gpadl);

            connection
                .post_briefly(teardown.as_bytes(), &alive)
                .map(|()| true)
        };

        if asked != Ok(true) {
            connection.gpadls.ask_again(gpadl);
        }
        asked?;
    }
}
