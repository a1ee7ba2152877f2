// SPDX-License-Identifier: GPL-2.0

//! Relids go back to the host.
//!
//! It offers nothing with a relid until RELID_RELEASED has told it that the guest has forgotten the
//! channel: a message that is lost is a device that does not come back. A host that has no room for
//! it, for minutes perhaps, is told again.

use crate::{
    abstractions::workqueue,
    connection::{Connection, CONNECTION},
};
use kernel::{
    impl_has_delayed_work, new_delayed_work, new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
    time::Msecs,
    workqueue::{DelayedWork, WorkItem},
};
use vmbus_protocol::{message::RelidReleased, release::Unreleased, Relid};
use zerocopy::IntoBytes;

/// How long until the host is told again what it did not take.
const AGAIN_MS: Msecs = 10_000;

/// What the host is still to be told.
#[pin_data]
pub(crate) struct Releases {
    /// Innermost.
    #[pin]
    unreleased: Mutex<Unreleased>,
    /// Those of offers for which there was no memory, until the host takes them back. Innermost.
    #[pin]
    kept: Mutex<Unreleased>,
    #[pin]
    again: DelayedWork<Releases>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Releases { self.again }
}

impl WorkItem for Releases {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        if let Some(connection) = CONNECTION.get() {
            this.tell(&connection);
        }
    }
}

impl Releases {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                unreleased <- new_mutex!(Unreleased::new()),
                kept <- new_mutex!(Unreleased::new()),
                again <- new_delayed_work!("vmbus_release"),
            }),
            GFP_KERNEL,
        )
    }

    /// Gives back a relid whose channel is out of the table, now or as soon as the host has room.
    /// May sleep, for a second.
    pub(super) fn give(self: &Arc<Self>, connection: &Connection, relid: Relid) {
        self.unreleased.lock().add(relid);
        self.tell(connection);
    }

    /// The host has offered a channel, for which there is no memory if `keep`; else the table has
    /// it. Waits for nothing.
    pub(super) fn keep(&self, relid: Relid, keep: bool) {
        let mut kept = self.kept.lock();

        if keep {
            kept.add(relid);
        } else {
            kept.remove(relid);
        }
    }

    /// The host takes back a relid that is not in the table. Returns whether it was kept in mind
    /// here; then it is given back, by a work item. Waits for nothing.
    pub(super) fn on_rescind(self: &Arc<Self>, relid: Relid) -> bool {
        let kept = self.kept.lock().remove(relid);

        if kept {
            self.unreleased.lock().add(relid);
            self.tell_in(0);
        }
        kept
    }

    /// Has the host told in so many milliseconds.
    fn tell_in(self: &Arc<Self>, pause_ms: Msecs) {
        // An item that is queued already will see what there is, too.
        let _ = workqueue::enqueue_delayed::<_, 0>(
            workqueue::system_dfl_long(),
            self.clone(),
            pause_ms,
        );
    }

    /// Tells the host, until there is nothing more to tell or it has no room.
    fn tell(self: &Arc<Self>, connection: &Connection) {
        loop {
            // The lock is not held while the host is told.
            let Some(relid) = self.unreleased.lock().take() else {
                return;
            };

            // It did not wait for that: the relid is another channel's.
            if connection.channels.get(relid).is_some() {
                continue;
            }
            let message = RelidReleased::new(relid);

            match connection.post_briefly(message.as_bytes(), &|| true) {
                Ok(()) => {}
                // The host has forgotten all relids.
                Err(error) if error == ENODEV => return self.unreleased.lock().clear(),
                Err(error) => {
                    crate::ratelimited!(pr_err!(
                        "relid {} is not released yet: {:?}\n",
                        relid.raw(),
                        error
                    ));
                    self.unreleased.lock().add(relid);
                    return self.tell_in(AGAIN_MS);
                }
            }
        }
    }

    /// Tells no more from now on: the connection ends. May sleep.
    pub(crate) fn end(self: &Arc<Self>) {
        workqueue::disable_delayed_sync::<Self, 0>(self);
    }
}
