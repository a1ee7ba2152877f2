// SPDX-License-Identifier: GPL-2.0

//! Looks whether channels are rescinded.
//!
//! The C core wakes those who wait in it, and then takes the device from its driver, which may have
//! to wait for a `probe` or for a request of the driver. It tells nobody before, and of a
//! sub-channel not at all: its own callback is for sockets, and takes the device's removal over.

use super::{bound, sub, Channel};
use crate::abstractions::{workqueue, RcuArc};
use kernel::{
    impl_has_delayed_work, new_delayed_work,
    prelude::*,
    sync::Arc,
    time::Msecs,
    workqueue::{DelayedWork, WorkItem},
};

/// How often.
const EVERY_MS: Msecs = 1_000;

static WATCH: RcuArc<Watch> = RcuArc::empty();

#[pin_data]
struct Watch {
    #[pin]
    work: DelayedWork<Watch>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Watch { self.work }
}

impl Watch {
    fn wait(self: Arc<Self>) {
        let _ = workqueue::enqueue_delayed(workqueue::system_freezable(), self, EVERY_MS);
    }
}

impl WorkItem for Watch {
    type Pointer = Arc<Watch>;

    fn run(this: Arc<Watch>) {
        let mut seen = 0;

        while let Some(channel) = bound::nth(seen) {
            channel.look();
            seen = seen.wrapping_add(1);
        }
        if seen != 0 {
            this.wait();
        }
    }
}

impl Channel {
    /// Tells the driver of rescinds that it does not know of.
    pub(super) fn look(&self) {
        let session = self.session.lock().clone();

        if let Some(session) = session {
            let _ = session.look();
        }
        sub::look(self);
    }
}

/// While it exists, channels are looked at.
pub(crate) struct Watching(Arc<Watch>);

impl Watching {
    /// Looks from now on, while there are any.
    pub(crate) fn new() -> Result<Self> {
        let watch = Arc::pin_init(
            pin_init!(Watch {
                work <- new_delayed_work!("vmbus_watch"),
            }),
            GFP_KERNEL,
        )?;

        WATCH.publish(watch.clone())?;
        Ok(Self(watch))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(WATCH.unpublish());
        workqueue::disable_delayed_sync::<Watch, 0>(&self.0);
    }
}

/// There are channels to look at.
pub(super) fn wake() {
    if let Some(watch) = WATCH.get() {
        watch.wait();
    }
}
