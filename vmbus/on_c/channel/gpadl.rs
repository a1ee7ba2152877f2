// SPDX-License-Identifier: GPL-2.0

//! Guest memory that the host was told about, and its end.
//!
//! The C core waits for the host's answers, without a bound. What it could not even ask the host
//! for stays where it is, counted as leaked.

use super::{
    claim::{NotTaken, RawGpadl},
    Channel,
};
use crate::memory::{BufferMap, PageList};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        Arc,
    },
};
use vmbus_protocol::GpadlHandle;

/// What becomes of memory that the host was told about.
pub(super) struct Fate {
    channel: Arc<Channel>,
    let_go: Atomic<bool>,
}

impl Fate {
    /// The host has it.
    pub(super) fn new(channel: &Arc<Channel>) -> Result<Arc<Self>> {
        Ok(Arc::new(
            Self {
                channel: channel.clone(),
                let_go: Atomic::new(false),
            },
            GFP_KERNEL,
        )?)
    }

    /// The host has let go of it.
    pub(super) fn let_go(&self) {
        self.let_go.store(true, Release);
    }
}

/// Memory that the host did not say it is done with when it was closed.
///
/// That is the memory of the channel, and all that the packets on it named: the host may still
/// write there.
#[derive(Clone)]
pub struct Lingering(pub(super) Arc<Fate>);

impl Lingering {
    /// Whether it is known to be over when the device is not bound any more. Nothing here hears
    /// what becomes of such a channel: what was not over by then never is.
    pub const OUTLASTS_DEVICE: bool = false;

    /// Whether the host has let go of it meanwhile. Any context but NMI.
    pub fn is_over(&self) -> bool {
        self.0.let_go.load(Acquire) || self.0.channel.raw.is_rescinded()
    }
}

/// A buffer that the host has accepted.
///
/// It has to be ended with [`Self::release`].
#[must_use = "the memory stays with the host until the GPADL is torn down"]
pub(super) struct Gpadl {
    raw: RawGpadl,
    pages: Arc<PageList>,
    /// For the end, which may not need memory.
    fate: Arc<Fate>,
}

impl Gpadl {
    /// Tells the host about a buffer on behalf of a channel and waits for its answer. May sleep.
    ///
    /// On failure the memory is free again, or counted as leaked when the host may know it.
    pub(super) fn of_buffer(channel: &Arc<Channel>, buffer: &BufferMap) -> Result<Self> {
        let fate = Fate::new(channel)?;
        let pages = buffer.pages().clone();

        match RawGpadl::new(channel, buffer) {
            Ok(raw) => Ok(Self { raw, pages, fate }),
            Err(NotTaken { error, with_host }) => {
                if with_host {
                    pages.leak();
                }
                // The host's refusal has a number of its own there.
                Err(if error == EDQUOT { EIO } else { error })
            }
        }
    }

    /// The handle that the host knows it by.
    pub(super) fn handle(&self) -> GpadlHandle {
        GpadlHandle(self.raw.handle)
    }

    /// Takes the memory back and waits until the host has let go of it. May sleep. Returns what is
    /// left to the host if it could not be asked.
    pub(super) fn release(self) -> Option<Lingering> {
        let Self { raw, pages, fate } = self;

        if raw.tear_down() {
            pages.leak();
            return Some(Lingering(fate));
        }
        None
    }
}
