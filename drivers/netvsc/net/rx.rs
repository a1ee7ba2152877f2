// SPDX-License-Identifier: GPL-2.0

//! Frames on their way to the stack.

use super::{
    ffi::{self, cast, Rx},
    tx::SkBuff,
};
use core::mem::MaybeUninit;
use netvsc_protocol::{ppi::Incoming, rx::ETHERNET_LEN};

/// What is known of a frame besides its bytes.
pub(crate) struct RxInfo {
    /// The queue that it came on.
    pub(crate) queue: u16,
    /// What the host says of it.
    pub(crate) infos: Incoming,
}

impl RxInfo {
    #[inline]
    pub(super) fn to_raw(&self) -> Rx {
        let infos = &self.infos;

        Rx {
            hash: infos.hash.unwrap_or(0),
            vlan: infos.vlan.map_or(0, |tci| tci.0),
            queue: self.queue,
            hashed: infos.hash.is_some(),
            tagged: infos.vlan.is_some(),
            l4_good: infos.checksums.l4_good(),
            fill_ip: infos.checksums.ip_to_be_filled(),
        }
    }
}

/// Whom a frame was for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cast {
    /// One.
    Unicast,
    /// Many.
    Multicast,
    /// It was dropped.
    Dropped,
}

impl Cast {
    #[inline]
    pub(super) fn from_raw(raw: u32) -> Self {
        match raw {
            cast::UNICAST => Self::Unicast,
            cast::MULTICAST => Self::Multicast,
            _ => Self::Dropped,
        }
    }
}

/// A frame that is being filled.
pub(crate) struct RxFrame {
    skb: SkBuff,
    len: u32,
    /// All of its bytes were written.
    whole: bool,
}

impl RxFrame {
    #[inline]
    pub(super) fn new(skb: SkBuff) -> Self {
        Self {
            skb,
            len: 0,
            whole: true,
        }
    }

    /// Adds `len` bytes, which `fill` writes and then shows. False when there is no room for them, or
    /// when `fill` did not write them all: the frame is of no use then, and is not delivered.
    #[inline]
    #[must_use]
    pub(crate) fn append(
        &mut self,
        len: u32,
        fill: impl for<'a> FnOnce(&'a mut [MaybeUninit<u8>]) -> Option<&'a mut [u8]>,
    ) -> bool {
        // SAFETY: The frame is ours.
        let to = unsafe { ffi::hv_netvsc_shim_put(self.skb.as_ptr(), len) };

        if to.is_null() {
            return false;
        }
        // SAFETY: The call made `len` bytes of the frame's linear part ours to write.
        let to: &mut [MaybeUninit<u8>] =
            unsafe { core::slice::from_raw_parts_mut(to.cast(), len as usize) };

        let start = to.as_ptr().addr();
        // All of it, and nothing else.
        let written = fill(to)
            .is_some_and(|done| done.len() == len as usize && done.as_ptr().addr() == start);

        self.whole &= written;
        self.len = self.len.saturating_add(len);
        written
    }

    /// The frame, if it is one.
    #[inline]
    pub(super) fn into_skb(self) -> Option<SkBuff> {
        (self.whole && self.len >= ETHERNET_LEN).then_some(self.skb)
    }
}
