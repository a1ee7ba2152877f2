// SPDX-License-Identifier: GPL-2.0

//! Frames of balloons whose host has not said that their channel is closed.
//!
//! It may still act on a message that gave it frames: what it takes then must not be in use. Nobody
//! is told when a host lets go: it is looked, as long as there is something to wait for.

use super::{phase::Phase, Balloon};
use core::mem::{forget, replace};
use kernel::{
    impl_has_delayed_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        global_lock, Arc,
    },
    time::Msecs,
    workqueue::{new_delayed_work, DelayedWork, WorkItem},
};
use vmbus::{abstractions::workqueue, Lingering};

/// How long until it is looked again, in milliseconds.
const LOOK_MS: Msecs = 1_000;

/// A balloon, and what says when its frames can come back.
struct Withheld {
    lingering: Lingering,
    balloon: Balloon,
}

/// Balloons, and who looks after them while the module can.
struct All {
    balloons: KVec<Withheld>,
    look: Option<Arc<Look>>,
}

global_lock! {
    // SAFETY: `WithheldUntilDrop::new` initialises it, and until then nobody uses it, see `PHASE`.
    unsafe(uninit) static WITHHELD: Mutex<All> = All {
        balloons: KVec::new(),
        look: None,
    };
}

/// How far `WITHHELD` is.
static PHASE: Phase = Phase::new();

/// Frames that are withheld, or were left to a host for good. Counted before they are, and until
/// they are not.
static FRAMES: Atomic<u64> = Atomic::new(0);

/// Identifies the work item that looks whether hosts have let go.
const LOOK: u64 = 0;

/// Looks whether hosts have let go of something.
#[pin_data]
struct Look {
    #[pin]
    work: DelayedWork<Look, LOOK>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, 0> for Look { self.work }
}

impl Look {
    fn soon(self: Arc<Self>) {
        // An error means that it is about to, or that the module goes.
        let _ = workqueue::enqueue_delayed::<_, LOOK>(workqueue::system_long(), self, LOOK_MS);
    }
}

impl WorkItem<LOOK> for Look {
    type Pointer = Arc<Look>;

    fn run(this: Arc<Look>) {
        if take_back() {
            this.soon();
        }
    }
}

/// What is withheld is looked after until this is dropped. The module has it, and drops it behind
/// its driver.
pub(crate) struct WithheldUntilDrop(Arc<Look>);

impl WithheldUntilDrop {
    /// Nothing is withheld yet. `EBUSY` the second time.
    pub(crate) fn new() -> Result<Self> {
        let look = Arc::pin_init(
            pin_init!(Look {
                work <- new_delayed_work!("hv_balloon::look"),
            }),
            GFP_KERNEL,
        )?;

        // SAFETY: `begin` does this once.
        PHASE.begin(|| unsafe { WITHHELD.init() })?;
        WITHHELD.lock().look = Some(look.clone());
        Ok(Self(look))
    }
}

impl Drop for WithheldUntilDrop {
    fn drop(&mut self) {
        // The work is of this module.
        WITHHELD.lock().look = None;
        workqueue::disable_delayed_sync::<Look, LOOK>(&self.0);
        take_back();
        let left = replace(&mut WITHHELD.lock().balloons, KVec::new());

        for withheld in left {
            leave(withheld.balloon);
        }
    }
}

/// Frames that the guest does not have and no balloon in use has: hosts may act on them.
pub(crate) fn frames() -> u64 {
    FRAMES.load(Relaxed)
}

/// Keeps a balloon until the host has let go of what was left to it. May sleep.
pub(crate) fn keep(lingering: Lingering, balloon: Balloon) {
    FRAMES.fetch_add(balloon.frames(), Relaxed);
    if !PHASE.is_ready() || !Lingering::OUTLASTS_DEVICE {
        return leave(balloon);
    }
    let mut all = WITHHELD.lock();

    // Room first: what does not fit would be dropped, and its frames with it.
    if all.balloons.reserve(1, GFP_KERNEL).is_err() {
        return leave(balloon);
    }
    if let Err(error) = all
        .balloons
        .push_within_capacity(Withheld { lingering, balloon })
    {
        // Not reached.
        forget(error);
    }
    if let Some(look) = &all.look {
        look.clone().soon();
    }
}

/// Takes back what hosts have let go of meanwhile. Returns whether something is left. May sleep.
fn take_back() -> bool {
    let mut back = 0u64;
    let mut all = WITHHELD.lock();

    all.balloons.retain(|withheld| {
        let is_over = withheld.lingering.is_over();

        if is_over {
            back = back.saturating_add(withheld.balloon.frames());
        }
        !is_over
    });
    if back != 0 {
        FRAMES.fetch_sub(back, Relaxed);
        pr_info!(
            "{} pages returned to the guest, which the host had kept\n",
            back
        );
    }
    !all.balloons.is_empty()
}

/// Leaves a balloon's frames to the host for good.
fn leave(balloon: Balloon) {
    pr_warn!("{} pages are left to the host\n", balloon.frames());
    forget(balloon);
}
