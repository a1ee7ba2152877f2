// SPDX-License-Identifier: GPL-2.0

//! Requests that the host answers, and what their replies are known by.

use crate::{
    gpadl::Splitter,
    message::{
        GpadlTeardown, Inbound, InitiateContact, ModifyChannel, OpenChannel, VersionResponse,
    },
    GpadlHandle, Relid, VpIndex,
};

/// A message, or a row of them, that the host answers.
pub trait ControlRequest {
    /// What the answer says.
    type Reply;

    /// What the answer is known by.
    fn key(&self) -> ReplyKey;

    /// What a reply with that key says; `None` for one that no host can give
    /// it.
    fn reply(reply: Reply) -> Option<Self::Reply>;
}

/// The host's status, 0 for success.
const fn status(reply: Reply) -> Option<u32> {
    match reply {
        Reply::Status(status) => Some(status),
        _ => None,
    }
}

impl ControlRequest for InitiateContact {
    type Reply = VersionResponse;

    fn key(&self) -> ReplyKey {
        ReplyKey::Version
    }

    fn reply(reply: Reply) -> Option<VersionResponse> {
        match reply {
            Reply::Version(response) => Some(response),
            _ => None,
        }
    }
}

impl ControlRequest for OpenChannel {
    type Reply = u32;

    fn key(&self) -> ReplyKey {
        ReplyKey::Open {
            relid: Relid(self.relid.get()),
            open_id: self.open_id.get(),
        }
    }

    fn reply(reply: Reply) -> Option<u32> {
        status(reply)
    }
}

impl<I> ControlRequest for Splitter<I> {
    type Reply = u32;

    fn key(&self) -> ReplyKey {
        ReplyKey::GpadlCreated {
            relid: self.relid(),
            gpadl: self.gpadl(),
        }
    }

    fn reply(reply: Reply) -> Option<u32> {
        status(reply)
    }
}

impl ControlRequest for GpadlTeardown {
    type Reply = ();

    fn key(&self) -> ReplyKey {
        ReplyKey::GpadlTorndown {
            relid: Relid(self.relid.get()),
            gpadl: GpadlHandle(self.gpadl.get()),
        }
    }

    fn reply(reply: Reply) -> Option<()> {
        matches!(reply, Reply::Done).then_some(())
    }
}

impl ControlRequest for ModifyChannel {
    type Reply = u32;

    fn key(&self) -> ReplyKey {
        ReplyKey::Modify {
            relid: Relid(self.relid.get()),
            vp: VpIndex(self.target_vp.get()),
        }
    }

    fn reply(reply: Reply) -> Option<u32> {
        status(reply)
    }
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKey {
    /// VERSION_RESPONSE.
    Version,
    /// OPENCHANNEL_RESULT.
    Open {
        /// The channel.
        relid: Relid,
        /// From the request.
        open_id: u32,
    },
    /// GPADL_CREATED.
    GpadlCreated {
        /// The channel.
        relid: Relid,
        /// The handle.
        gpadl: GpadlHandle,
    },
    /// GPADL_TORNDOWN, which does not name the channel on the wire.
    GpadlTorndown {
        /// The channel, for [`crate::pending::Pending::rescind`] only.
        relid: Relid,
        /// The handle.
        gpadl: GpadlHandle,
    },
    /// MODIFYCHANNEL_RESPONSE, which does not name the CPU on the wire.
    Modify {
        /// The channel.
        relid: Relid,
        /// The CPU that the host was asked to interrupt.
        vp: VpIndex,
    },
}

/// A reply's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The host's status, 0 for success.
    Status(u32),
    /// The version response.
    Version(VersionResponse),
    /// There is nothing but the fact.
    Done,
    /// No reply will come: the channel was rescinded.
    Rescinded,
}

impl ReplyKey {
    /// The channel that the request is about.
    #[must_use]
    pub const fn relid(&self) -> Option<Relid> {
        match *self {
            ReplyKey::Version => None,
            ReplyKey::Open { relid, .. }
            | ReplyKey::GpadlCreated { relid, .. }
            | ReplyKey::GpadlTorndown { relid, .. }
            | ReplyKey::Modify { relid, .. } => Some(relid),
        }
    }

    /// Tells whether `message` is the reply this key waits for, and its
    /// content.
    #[must_use]
    pub fn matches(&self, message: &Inbound) -> Option<Reply> {
        match (*self, message) {
            (ReplyKey::Version, Inbound::VersionResponse(r)) => Some(Reply::Version(*r)),
            (ReplyKey::Open { relid, open_id }, Inbound::OpenResult(r)) => {
                (r.relid == relid && r.open_id == open_id).then_some(Reply::Status(r.status))
            }
            (ReplyKey::GpadlCreated { relid, gpadl }, Inbound::GpadlCreated(r)) => {
                (r.relid == relid && r.gpadl == gpadl).then_some(Reply::Status(r.status))
            }
            (ReplyKey::GpadlTorndown { gpadl, .. }, Inbound::GpadlTorndown(r)) => {
                (r.gpadl == gpadl).then_some(Reply::Done)
            }
            (ReplyKey::Modify { relid, .. }, Inbound::ModifyChannelResponse(r)) => {
                (r.relid == relid).then_some(Reply::Status(r.status))
            }
            _ => None,
        }
    }

    /// Tells whether a reply to `other` would be one to this request, too.
    pub(crate) fn collides(&self, other: &ReplyKey) -> bool {
        match (*self, *other) {
            (ReplyKey::Modify { relid: one, .. }, ReplyKey::Modify { relid: other, .. }) => {
                one == other
            }
            (one, other) => one == other,
        }
    }

    /// Tells whether the key is in the reply, so that a late one harms no
    /// other request when it is forgotten.
    pub(crate) const fn is_unique(&self) -> bool {
        !matches!(self, ReplyKey::Version | ReplyKey::Modify { .. })
    }
}

/// Tells whether a message is a reply at all (and not an offer or the like).
/// UNLOAD_RESPONSE is none: there is one UNLOAD, which waits by itself.
#[must_use]
pub const fn is_reply(message: &Inbound) -> bool {
    matches!(
        message,
        Inbound::VersionResponse(_)
            | Inbound::OpenResult(_)
            | Inbound::GpadlCreated(_)
            | Inbound::GpadlTorndown(_)
            | Inbound::ModifyChannelResponse(_)
    )
}
