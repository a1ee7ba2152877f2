// SPDX-License-Identifier: GPL-2.0

//! Buffers beside the rings that the host reads and writes, such as those of network adapters.

use super::{
    gpadl::{Gpadl, Lingering},
    OpenChannel,
};
use crate::memory::BufferMap;
use core::{mem::MaybeUninit, ptr::NonNull};
use kernel::prelude::*;

/// Memory of the guest that the host may read and write until it has let go of it.
///
/// Dropping asks the host for it and waits, for a bounded time but on the C core; what the host
/// does not give back is never freed, unless it does so later. It may outlive the channel on which
/// it was announced.
pub struct HostBuffer {
    map: BufferMap,
    /// There until it is dropped.
    gpadl: Option<Gpadl>,
}

impl OpenChannel {
    /// Makes a buffer of at least `bytes` bytes, zeroed, and tells the host about it. May sleep.
    ///
    /// At most 8190 pages. `EINVAL` for no bytes, `EOVERFLOW` for too many, `ENOMEM`, `ENODEV` when
    /// the channel is rescinded, `EIO` when the host refuses, `ETIMEDOUT` when it does not answer.
    pub fn host_buffer(&self, bytes: usize) -> Result<HostBuffer> {
        let channel = self.channel();
        let map = BufferMap::new(bytes, channel.numa_node())?;
        let gpadl = Gpadl::of_buffer(channel, &map)?;

        Ok(HostBuffer {
            map,
            gpadl: Some(gpadl),
        })
    }
}

impl HostBuffer {
    /// The handle by which messages to the host name it.
    pub fn handle(&self) -> u32 {
        self.gpadl.as_ref().map_or(0, |gpadl| gpadl.handle().raw())
    }

    /// Its bytes: whole pages.
    #[inline]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether it has no bytes: never.
    pub fn is_empty(&self) -> bool {
        self.map.len() == 0
    }

    /// Copies bytes out; `EINVAL` when they are not all inside the buffer. Any context.
    ///
    /// The host may write them meanwhile, so what must not change between a check and its use is
    /// copied first.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result {
        self.map.copy_out(offset, to)
    }

    /// As [`Self::copy_out`], into memory that is not initialised; returns what is now.
    #[inline]
    pub fn copy_out_uninit<'a>(
        &self,
        offset: usize,
        to: &'a mut [MaybeUninit<u8>],
    ) -> Result<&'a mut [u8]> {
        self.map.copy_out_uninit(offset, to)
    }

    /// Copies bytes in; `EINVAL` when they do not fit there. Any context.
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) -> Result {
        self.map.copy_in(offset, from)
    }

    /// Address of the `len` bytes at `offset`, if they are inside the buffer; valid as long as the
    /// buffer.
    ///
    /// For functions of the kernel that copy. The host may write there at any time, so no reference
    /// may be made of it, and nothing that is read twice can be relied on.
    #[inline]
    pub fn area(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        self.map.area(offset, len)
    }

    /// Takes it back from the host, as dropping does, and returns what is left to it if it does not
    /// say that it has let go. May sleep.
    pub fn release(mut self) -> Option<Lingering> {
        self.tear_down()
    }

    fn tear_down(&mut self) -> Option<Lingering> {
        self.gpadl.take()?.release()
    }
}

impl Drop for HostBuffer {
    fn drop(&mut self) {
        let _ = self.tear_down();
    }
}
