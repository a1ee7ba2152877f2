// SPDX-License-Identifier: GPL-2.0

//! The connection with the host as a whole: what may be sent, and above all
//! whether the host may still touch the memory that it was told about.

use crate::shared::SharedState;

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Link {
    /// There is none: the host knows of no memory of this guest.
    Down = 0,
    /// A version is being proposed.
    Negotiating = 1,
    /// Everything works.
    Up = 2,
    /// Channels are being closed for good: nothing new is taken from the host.
    Closing = 3,
    /// UNLOAD was or is about to be posted, and the host has not answered.
    Unloading = 4,
    /// A proposal was not answered, or UNLOAD was not posted or not answered:
    /// what the host does is not known, and never will be.
    Lost = 5,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The first proposal is about to be posted.
    Propose,
    /// The host accepted a version.
    Accepted,
    /// No version was accepted; the host has refused each that was posted.
    Refused,
    /// A proposal was posted that the host did not answer, or UNLOAD failed.
    NoAnswer,
    /// The module goes.
    Close,
    /// UNLOAD is about to be posted.
    Unload,
    /// UNLOAD_RESPONSE.
    Unloaded,
}

/// What a channel that is closed has to do about its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMemory {
    /// The host has it; it gives it back when it is asked.
    Ask,
    /// The host has let go of all of it.
    LetGo,
    /// UNLOAD is under way; after it the host has let go, or may have it.
    Wait,
    /// The host may have it, and is not asked any more: never free it.
    Keep,
}

impl Link {
    /// What an event makes of it; `None` when the event does not fit: somebody
    /// else was first, or the host says what it was not asked.
    #[must_use]
    pub const fn after(self, event: LinkEvent) -> Option<Link> {
        match (self, event) {
            (Link::Down, LinkEvent::Propose) => Some(Link::Negotiating),
            (Link::Negotiating, LinkEvent::Accepted) => Some(Link::Up),
            (Link::Negotiating, LinkEvent::Refused) | (Link::Unloading, LinkEvent::Unloaded) => {
                Some(Link::Down)
            }
            (Link::Negotiating | Link::Unloading, LinkEvent::NoAnswer) => Some(Link::Lost),
            (Link::Up, LinkEvent::Close) => Some(Link::Closing),
            (Link::Up | Link::Closing, LinkEvent::Unload) => Some(Link::Unloading),
            _ => None,
        }
    }

    /// The host may offer channels.
    #[must_use]
    pub const fn takes_offers(self) -> bool {
        matches!(self, Link::Up)
    }

    /// The host has to be told before a CPU goes that it interrupts. Without a
    /// connection it cannot be, and no channel's interrupt is waited for.
    #[must_use]
    pub const fn needs_cpus(self) -> bool {
        matches!(self, Link::Up | Link::Closing | Link::Unloading)
    }

    /// What becomes of a channel's memory.
    #[must_use]
    pub const fn memory(self) -> HostMemory {
        match self {
            Link::Down => HostMemory::LetGo,
            Link::Up | Link::Closing => HostMemory::Ask,
            Link::Unloading => HostMemory::Wait,
            Link::Negotiating | Link::Lost => HostMemory::Keep,
        }
    }
}

impl SharedState for Link {
    type Event = LinkEvent;

    fn after(self, event: LinkEvent) -> Option<Self> {
        Link::after(self, event)
    }

    fn raw(self) -> u32 {
        self as u32
    }

    fn from_raw(raw: u32) -> Self {
        match raw {
            0 => Link::Down,
            1 => Link::Negotiating,
            2 => Link::Up,
            3 => Link::Closing,
            4 => Link::Unloading,
            _ => Link::Lost,
        }
    }
}
