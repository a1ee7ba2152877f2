// SPDX-License-Identifier: GPL-2.0

//! The two buffers, and how the host divides them.

use core::mem::MaybeUninit;
use kernel::prelude::*;
use netvsc_protocol::{
    buffers::Layout,
    rx::{Memory, Range},
};
use vmbus::HostBuffer;

/// The receive buffer.
pub(crate) struct ReceiveBuffer(HostBuffer);

impl Memory for ReceiveBuffer {
    #[inline]
    fn read(&self, at: u32, into: &mut [u8]) -> bool {
        self.0.copy_out(at as usize, into).is_ok()
    }
}

impl ReceiveBuffer {
    /// Copies a piece of a part out, from byte `at` of it on; whole or not at all.
    #[inline]
    pub(crate) fn copy_frame<'a>(
        &self,
        part: Range,
        at: u32,
        to: &'a mut [MaybeUninit<u8>],
    ) -> Option<&'a mut [u8]> {
        let piece = part.part(at, u32::try_from(to.len()).ok()?)?;

        self.0.copy_out_uninit(piece.start as usize, to).ok()
    }
}

/// What sending and receiving need of the initialisation.
pub(crate) struct Io {
    pub(crate) receive_layout: Layout,
    pub(crate) receive: ReceiveBuffer,
    pub(crate) send_layout: Layout,
    pub(crate) send: HostBuffer,
}

impl Io {
    /// The two buffers, as the host divides them.
    pub(crate) fn new(receive: (HostBuffer, Layout), send: (HostBuffer, Layout)) -> Result<Self> {
        let covers = |(buffer, layout): &(HostBuffer, Layout)| {
            layout
                .section
                .checked_mul(layout.count)
                .is_some_and(|bytes| bytes as usize <= buffer.len())
        };

        // Checked before, against what was asked for.
        if !covers(&receive) || !covers(&send) {
            return Err(EINVAL);
        }
        Ok(Self {
            receive_layout: receive.1,
            receive: ReceiveBuffer(receive.0),
            send_layout: send.1,
            send: send.0,
        })
    }

    /// Where a section of the send buffer starts, in bytes.
    #[inline]
    pub(crate) fn section(&self, number: u32) -> usize {
        (number as usize).saturating_mul(self.send_layout.section as usize)
    }
}
