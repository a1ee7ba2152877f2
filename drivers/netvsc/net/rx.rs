// SPDX-License-Identifier: GPL-2.0

//! Frames on their way to the stack, and the memory that they are in.
//!
//! Each queue has a pool of pages, which belongs to its NAPI. A frame that is longer than what the
//! administrator says (`rx-copybreak`) is copied to pages of the pool, and the stack gives those
//! back to the pool when it is done with them; a shorter one to an sk_buff that has room for it.
//! [`RxFrame`] is either of them.
//!
//! What it promises, and why it holds:
//!
//! - **A frame is filled in its poll, and nowhere else.** The pool is the poll's alone, without a
//!   lock. [`RxFrame`] borrows the [`PollContext`], so it ends before the poll does. Pages that the
//!   stack has outlive the pool: the kernel keeps what is left of the pool until the last of them
//!   is back.
//! - **One frame at a time.** What a queue's frame is in is remembered in one place by the shim.
//!   The borrow is a mutable one, so there is no second frame until the first is delivered or
//!   dropped.
//! - **XDP.** A program sees frames that are in pages only, with room before and behind them; the
//!   shim keeps to which it is for all of a poll, so the room was made for that one. What it does
//!   with a frame is done within [`RxFrame::deliver`].
//! - **The stack sees bytes that were written.** [`PollContext`]'s frames are delivered when as
//!   many bytes were written as the frame has, all of them in the places that the pieces have; else
//!   they are freed.
//!
//! A frame cannot be kept beyond its poll:
//!
//! ```compile_fail
//! struct Keep(Option<RxFrame<'static>>);
//! impl Poll for Keep {
//!     fn poll(&mut self, mut context: PollContext<'_>) -> Polled {
//!         self.0 = context.begin(64); // does not live long enough
//!         Polled::Idle(0)
//!     }
//! }
//! ```
//!
//! and nobody fills two frames at a time:
//!
//! ```compile_fail
//! fn two(context: &mut PollContext<'_>) {
//!     let one = context.begin(64);
//!     let other = context.begin(64); // `context` is borrowed already
//!     drop((one, other));
//! }
//! ```

use super::{
    ffi::{self, cast, Rx},
    napi::PollContext,
};
use core::{
    mem::{ManuallyDrop, MaybeUninit},
    ptr::{self, NonNull},
};
use netvsc_protocol::{ppi::Incoming, rx::ETHERNET_LEN};

/// What was done with a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// The stack has it; it was for one receiver.
    Unicast,
    /// The stack has it; it was for several.
    Multicast,
    /// It was dropped: it is not one.
    Refused,
    /// It was dropped, for want of memory.
    NoMemory,
    /// A program dropped it, or what the program wanted done with it cannot be done.
    XdpDropped,
    /// A program sent it back.
    XdpSent,
    /// A program gave it to another device, CPU or socket.
    XdpRedirected,
}

impl Delivered {
    #[inline]
    fn from_raw(raw: u32) -> Self {
        match raw {
            cast::UNICAST => Self::Unicast,
            cast::MULTICAST => Self::Multicast,
            cast::DROPPED => Self::Refused,
            cast::XDP_DROPPED => Self::XdpDropped,
            cast::XDP_SENT => Self::XdpSent,
            cast::XDP_REDIRECTED => Self::XdpRedirected,
            _ => Self::NoMemory,
        }
    }
}

#[inline]
fn to_raw(infos: &Incoming) -> Rx {
    Rx {
        hash: infos.hash.unwrap_or(0),
        vlan: infos.vlan.map_or(0, |tci| tci.0),
        hashed: infos.hash.is_some(),
        tagged: infos.vlan.is_some(),
        l4_good: infos.checksums.l4_good(),
        fill_ip: infos.checksums.ip_to_be_filled(),
    }
}

/// A frame that is being filled. Dropping it frees it.
///
/// # Invariants
///
/// The NAPI is being polled by this thread during `'a`, and this is the one frame that the shim
/// fills for it. `room` bytes at `to` are of the frame's memory, and nobody has a reference to
/// them. All bytes of the frame were written but those, and `missing` more for which there is no
/// memory yet.
pub(crate) struct RxFrame<'a> {
    napi: NonNull<ffi::napi_struct>,
    to: NonNull<u8>,
    room: u32,
    missing: u32,
    len: u32,
    _poll: core::marker::PhantomData<&'a mut PollContext<'a>>,
}

impl<'a> RxFrame<'a> {
    /// A frame of `len` bytes; `None` without memory.
    ///
    /// # Safety
    ///
    /// `napi` is being polled by this thread during `'a`, and no other frame is being filled for
    /// it.
    #[inline]
    pub(super) unsafe fn new(napi: NonNull<ffi::napi_struct>, len: u32) -> Option<Self> {
        let mut room = 0;
        // SAFETY: By the requirements of this function.
        let to = unsafe { ffi::hv_netvsc_shim_rx_begin(napi.as_ptr(), len, &mut room) };

        // INVARIANT: The call began a frame, of which so many bytes are at `to`.
        Some(Self {
            napi,
            to: NonNull::new(to.cast())?,
            room,
            missing: len.saturating_sub(room),
            len,
            _poll: core::marker::PhantomData,
        })
    }

    /// Adds `len` bytes: `copy` writes some of them, starting at the one with that number, and then
    /// shows them. False when there is no memory for them, or when it did not write them all.
    #[inline]
    #[must_use]
    pub(crate) fn append(
        &mut self,
        len: u32,
        mut copy: impl for<'b> FnMut(u32, &'b mut [MaybeUninit<u8>]) -> Option<&'b mut [u8]>,
    ) -> bool {
        let mut done = 0u32;

        while done < len {
            if self.room == 0 && !self.more() {
                return false;
            }
            let now = self.room.min(len.saturating_sub(done));
            // SAFETY: By the type invariant these bytes are ours to write.
            let to: &mut [MaybeUninit<u8>] =
                unsafe { core::slice::from_raw_parts_mut(self.to.as_ptr().cast(), now as usize) };
            let start = to.as_ptr().addr();
            // All of it, and nothing else.
            let written = copy(done, to).is_some_and(|written| {
                written.len() == now as usize && written.as_ptr().addr() == start
            });

            if !written {
                return false;
            }
            // INVARIANT: They were written.
            //
            // SAFETY: This is at most the end of the piece.
            self.to = unsafe { self.to.add(now as usize) };
            self.room = self.room.saturating_sub(now);
            done = done.saturating_add(now);
        }
        true
    }

    /// Goes on in another piece of memory.
    #[cold]
    fn more(&mut self) -> bool {
        let mut room = 0;

        if self.missing == 0 {
            return false;
        }
        // SAFETY: By the type invariant the frame is being filled.
        let to =
            unsafe { ffi::hv_netvsc_shim_rx_more(self.napi.as_ptr(), self.missing, &mut room) };
        let Some(to) = NonNull::new(to.cast()) else {
            return false;
        };

        // INVARIANT: The call added so many bytes.
        self.to = to;
        self.room = room;
        self.missing = self.missing.saturating_sub(room);
        true
    }

    /// Gives the frame to the stack, if it is whole.
    #[inline]
    pub(crate) fn deliver(self, infos: &Incoming) -> Delivered {
        if self.room != 0 || self.missing != 0 || self.len < ETHERNET_LEN {
            return Delivered::Refused;
        }
        let this = ManuallyDrop::new(self);
        let raw = to_raw(infos);

        // SAFETY: By the type invariant the NAPI is being polled, and all bytes of its frame were
        // written; it has a whole Ethernet header. The call takes it.
        Delivered::from_raw(unsafe {
            ffi::hv_netvsc_shim_rx_end(this.napi.as_ptr(), ptr::from_ref(&raw))
        })
    }
}

impl Drop for RxFrame<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the NAPI is being polled, and has a frame that is being
        // filled.
        unsafe { ffi::hv_netvsc_shim_rx_abort(self.napi.as_ptr()) };
    }
}
