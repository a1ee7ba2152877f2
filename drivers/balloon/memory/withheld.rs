// SPDX-License-Identifier: GPL-2.0

//! Frames of balloons whose host has not said that their channel is closed.
//!
//! It may still act on a message that gave it frames: what it takes then must not be in use.

use super::Balloon;
use core::mem::forget;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        global_lock,
    },
};
use vmbus::Lingering;

/// A balloon, and what says when its frames can come back.
struct Withheld {
    lingering: Lingering,
    balloon: Balloon,
}

global_lock! {
    // SAFETY: `WithheldUntilDrop::new` initialises it, and until then nobody uses it, see `PHASE`.
    unsafe(uninit) static WITHHELD: Mutex<KVec<Withheld>> = KVec::new();
}

/// How far `WITHHELD` is: 0, being initialised, or [`READY`].
static PHASE: Atomic<u32> = Atomic::new(0);

/// It may be used.
const READY: u32 = 2;

/// What is withheld is looked after until this is dropped. The module has it, and drops it behind
/// its driver.
pub(crate) struct WithheldUntilDrop(());

impl WithheldUntilDrop {
    /// Nothing is withheld yet. `EBUSY` the second time.
    pub(crate) fn new() -> Result<Self> {
        PHASE.cmpxchg(0, 1, Relaxed).map_err(|_| EBUSY)?;
        // SAFETY: Nobody gets here twice.
        unsafe { WITHHELD.init() };
        // Release: who sees this may use it.
        PHASE.store(READY, Release);
        Ok(Self(()))
    }
}

impl Drop for WithheldUntilDrop {
    fn drop(&mut self) {
        take_back();
        let left = core::mem::replace(&mut *WITHHELD.lock(), KVec::new());

        for withheld in left {
            leave(withheld.balloon);
        }
    }
}

/// Keeps a balloon until the host has let go of what was left to it. May sleep.
pub(crate) fn keep(lingering: Lingering, balloon: Balloon) {
    if PHASE.load(Acquire) != READY {
        return leave(balloon);
    }
    let mut all = WITHHELD.lock();

    // Room first: what does not fit would be dropped, and its frames with it.
    if all.reserve(1, GFP_KERNEL).is_err() {
        return leave(balloon);
    }
    if let Err(error) = all.push_within_capacity(Withheld { lingering, balloon }) {
        // Not reached.
        forget(error);
    }
}

/// Takes back what hosts have let go of meanwhile: nobody is told when they do. May sleep.
pub(crate) fn take_back() {
    if PHASE.load(Acquire) != READY {
        return;
    }
    let mut frames = 0u64;

    WITHHELD.lock().retain(|withheld| {
        let is_over = withheld.lingering.is_over();

        if is_over {
            frames = frames.saturating_add(withheld.balloon.frames());
        }
        !is_over
    });
    if frames != 0 {
        pr_info!(
            "{} pages returned to the guest, which the host had kept\n",
            frames
        );
    }
}

/// Leaves a balloon's frames to the host for good.
fn leave(balloon: Balloon) {
    pr_warn!("{} pages are left to the host\n", balloon.frames());
    forget(balloon);
}
