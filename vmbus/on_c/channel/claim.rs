// SPDX-License-Identifier: GPL-2.0

//! What is done with a channel of the C core by who has it to himself: opening and closing, and
//! memory that the host is told about. This file is one of the rooms where `unsafe` lives.

use super::{
    bound, drain,
    raw::{Held, Identity},
    Channel,
};
use crate::{
    abstractions::NoIo,
    c_core::Call,
    ffi,
    memory::{BufferMap, RingPages, PAGE_BYTES},
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    ffi::{c_uint, c_void},
    prelude::*,
    sync::Arc,
};

/// What is wrong when the host does not take memory.
pub(super) struct NotTaken {
    pub(super) error: Error,
    /// It may have taken it all the same.
    pub(super) with_host: bool,
}

impl NotTaken {
    fn before(error: Error) -> Self {
        Self {
            error,
            with_host: false,
        }
    }
}

/// Pages of a ring: those of its data, and the page of indices.
fn ring_pages(data_bytes: usize) -> Result<usize> {
    if data_bytes == 0 {
        return Err(EINVAL);
    }
    data_bytes
        .div_ceil(PAGE_BYTES)
        .checked_add(1)
        .ok_or(EOVERFLOW)
}

/// A claim to a channel: whoever has it opens and closes it.
///
/// # Invariants
///
/// There is one for a channel at a time, and none while the channel is open without it. `held` is a
/// reference to the channel of `channel`.
pub(super) struct Claim {
    channel: Arc<Channel>,
    held: Arc<Held>,
}

impl Claim {
    /// `EBUSY` when somebody has it, `ENODEV` when the channel was let go of.
    pub(super) fn new(channel: &Arc<Channel>) -> Result<Self> {
        let held = channel.raw.held.get().ok_or(ENODEV)?;

        if !channel.claim() {
            return Err(EBUSY);
        }
        // INVARIANT: Just claimed.
        Ok(Self {
            channel: channel.clone(),
            held,
        })
    }

    /// Allocates rings of so many bytes of data, in one block as the C core wants them. May sleep.
    /// Nothing of the channel changes.
    pub(super) fn alloc_rings(&self, send_data: usize, recv_data: usize) -> Result<RingPages> {
        let (send, recv) = (ring_pages(send_data)?, ring_pages(recv_data)?);
        let pages = send.checked_add(recv).ok_or(EOVERFLOW)?;
        // The C core counts them in numbers of 32 bits with a sign.
        let bytes = pages.checked_mul(PAGE_BYTES).ok_or(EOVERFLOW)?;
        let bytes = i32::try_from(bytes)?.unsigned_abs();
        let mut order: c_uint = 0;

        // SAFETY: The channel exists.
        let page = unsafe { ffi::vmbus_on_c_alloc_ring(self.held.ptr(), bytes, &raw mut order) };
        let page = NonNull::new(page).ok_or(ENOMEM)?;

        // SAFETY: Such a block was just allocated, and is ours.
        unsafe { RingPages::of_block(page, order, send, recv) }
    }

    /// Opens the channel with those rings. May sleep, without a bound. Events are told of until the
    /// result is dropped.
    pub(super) fn connect(&self, rings: &RingPages) -> Result<Events, NotTaken> {
        let page = rings.pages().first().ok_or(NotTaken::before(EINVAL))?;
        // Dropping it takes the callback back, also when that was set in vain.
        let events = Events {
            _channel: self.channel.clone(),
            held: self.held.clone(),
        };
        let mut with_host = false;
        let (count, send) = (rings.pages().count(), rings.recv_offset());
        let small = |pages: usize| u32::try_from(pages).map_err(|_| NotTaken::before(EOVERFLOW));
        let (count, send) = (small(count)?, small(send)?);
        // SAFETY: The channel exists, and by the type invariant nobody else opens it; its driver is
        // ours, since a session is enlisted that a driver's going waits for. The pages are one
        // block of so many that `alloc_rings` made, the first `send` of them the outgoing ring, and
        // stay as long as the host may have them. The context exists until `events` is dropped.
        let opened = to_result(unsafe {
            ffi::vmbus_on_c_connect(
                self.held.ptr(),
                page.as_ptr(),
                count,
                send,
                on_event,
                Arc::as_ptr(&self.channel).cast::<c_void>().cast_mut(),
                on_moved,
                &raw mut with_host,
            )
        });

        match opened {
            Ok(()) => Ok(events),
            Err(error) => Err(NotTaken { error, with_host }),
        }
    }

    /// Closes the primary channel, and its sub-channels with it. May sleep, without a bound.
    pub(super) fn close(&self) {
        // It may be where memory is reclaimed, and the C core allocates.
        let _noio = NoIo::new();

        // SAFETY: The channel exists, and by the type invariant nobody else opens or closes it.
        unsafe { ffi::vmbus_on_c_close(self.held.ptr()) };
    }

    /// After the close of the channel or of its primary one, when it was open: takes back what is
    /// ours in it, and returns whether the host may still have its rings.
    pub(super) fn is_with_host(&self) -> bool {
        // SAFETY: As for `close`.
        unsafe { ffi::vmbus_on_c_closed(self.held.ptr()) }
    }

    /// Gives it up; without this nobody opens the channel any more.
    pub(super) fn release(self) {
        self.channel.unclaim();
    }
}

/// Has events of an open channel told of, until it is dropped.
///
/// # Invariants
///
/// The C core has no other callback of ours for the channel, and its context is `_channel`.
pub(super) struct Events {
    held: Arc<Held>,
    _channel: Arc<Channel>,
}

impl Drop for Events {
    fn drop(&mut self) {
        // SAFETY: By the invariant of `Held`.
        unsafe { ffi::vmbus_on_c_silence(self.held.ptr()) };
    }
}

/// The host has signalled. In the interrupt, with a lock of the channel held.
extern "C" fn on_event(context: *mut c_void) {
    // SAFETY: The context is a `Channel`, to which whoever opened it has a reference until no event
    // is told of any more: `vmbus_on_c_connect` sets it before there is a callback.
    let channel = unsafe { &*context.cast::<Channel>() };

    drain::on_event(channel, &channel.queue);
}

/// The host interrupts another CPU. Process context, with the C core's mutex held; but it was let
/// go of while the host was asked, and the channel may have been closed meanwhile.
extern "C" fn on_moved(channel: *mut ffi::VmbusChannel, _old: u32, _new: u32) {
    let _call = Call::begin();

    if let Some(session) = bound::session_of(Identity::of(channel)) {
        session.on_moved();
    }
}

/// A buffer that the host was told about.
pub(super) struct RawGpadl {
    held: Arc<Held>,
    pub(super) handle: u32,
}

impl RawGpadl {
    /// Tells the host about a buffer, on behalf of a channel. May sleep, without a bound.
    pub(super) fn new(channel: &Arc<Channel>, buffer: &BufferMap) -> Result<Self, NotTaken> {
        let before = NotTaken::before;
        let held = channel.raw.held.get().ok_or(before(ENODEV))?;
        let area = buffer.area(0, buffer.len()).ok_or(before(EINVAL))?;
        let size = u32::try_from(buffer.len()).map_err(|_| before(EOVERFLOW))?;
        let (mut handle, mut with_host) = (0, false);

        // SAFETY: The channel exists, and `area` are whole mapped pages, which stay as long as the
        // host may have them.
        to_result(unsafe {
            ffi::vmbus_on_c_establish(
                held.ptr(),
                area.as_ptr().cast(),
                size,
                &raw mut handle,
                &raw mut with_host,
            )
        })
        .map_err(|error| NotTaken { error, with_host })?;
        Ok(Self { held, handle })
    }

    /// Asks for it back, and returns whether the host may still have it. May sleep, without a
    /// bound.
    pub(super) fn tear_down(self) -> bool {
        let _noio = NoIo::new();

        // SAFETY: The channel exists, and the handle is that of a buffer that was announced on it.
        unsafe { ffi::vmbus_on_c_teardown(self.held.ptr(), self.handle) }
    }
}
