// SPDX-License-Identifier: GPL-2.0

//! The two buffers, and what was agreed on about them.

use core::mem::MaybeUninit;
use kernel::prelude::*;
use netvsc_protocol::{
    rx::{Memory, Range},
    setup::Agreed,
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
    /// Copies a part out, whole or not at all.
    #[inline]
    pub(crate) fn copy_frame<'a>(
        &self,
        part: Range,
        to: &'a mut [MaybeUninit<u8>],
    ) -> Option<&'a mut [u8]> {
        self.0.copy_out_uninit(part.start as usize, to).ok()
    }
}

/// What sending and receiving need of the initialisation.
pub(crate) struct Io {
    pub(crate) agreed: Agreed,
    pub(crate) receive: ReceiveBuffer,
    pub(crate) send: HostBuffer,
}

impl Io {
    /// What the initialisation came to, and the two buffers.
    pub(crate) fn new(agreed: Agreed, receive: HostBuffer, send: HostBuffer) -> Result<Self> {
        let covers = |buffer: &HostBuffer, section: u32, count: u32| {
            section
                .checked_mul(count)
                .is_some_and(|bytes| bytes as usize <= buffer.len())
        };

        // Checked before, against what was asked for.
        if !covers(&receive, agreed.receive.section, agreed.receive.count)
            || !covers(&send, agreed.send.section, agreed.send.count)
        {
            return Err(EINVAL);
        }
        Ok(Self {
            agreed,
            receive: ReceiveBuffer(receive),
            send,
        })
    }

    /// Where a section of the send buffer starts, in bytes.
    #[inline]
    pub(crate) fn section(&self, number: u32) -> usize {
        (number as usize).saturating_mul(self.agreed.send.section as usize)
    }
}
