// SPDX-License-Identifier: GPL-2.0

//! Frames on their way to the host.

use super::{
    device::NetDevice,
    ffi::{self, task, Tx},
};
use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull, slice};
use kernel::{bindings, prelude::*};
use netvsc_protocol::{
    frame::{self, ALIGN, MAX_LEN},
    gpa::{Pieces, TooMany},
    ppi::{Outgoing, Task, Tci},
};

const _: () = assert!(MAX_LEN as usize + ALIGN as usize <= ffi::HEADROOM + 1);

/// A frame. Dropping frees it. Any context but NMI.
///
/// # Invariants
///
/// The pointer is a frame that this object owns.
pub(crate) struct SkBuff(pub(super) NonNull<ffi::sk_buff>);

// SAFETY: A frame is not bound to a thread.
unsafe impl Send for SkBuff {}

impl SkBuff {
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut ffi::sk_buff {
        self.0.as_ptr()
    }

    /// Gives it up: somebody else frees it.
    #[inline]
    pub(super) fn into_raw(self) -> *mut ffi::sk_buff {
        ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Drop for SkBuff {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the frame is ours.
        unsafe { ffi::hv_netvsc_shim_free(self.as_ptr()) };
    }
}

/// A frame that the stack gave to the driver.
///
/// # Invariants
///
/// `tx` is what the shim said of `skb`, which was not changed since. It has [`ffi::HEADROOM`] bytes
/// before its data that nobody else uses.
pub(crate) struct TxFrame<'a> {
    skb: SkBuff,
    tx: &'a Tx,
}

impl<'a> TxFrame<'a> {
    /// Takes a frame over from the stack.
    ///
    /// # Safety
    ///
    /// `skb` is a frame that is being transmitted, and `tx` was made of it.
    #[inline]
    pub(super) unsafe fn new(skb: NonNull<ffi::sk_buff>, tx: &'a Tx) -> Self {
        // INVARIANT: By the requirements of this function; `ndo_start_xmit` makes the driver the
        // owner.
        Self {
            skb: SkBuff(skb),
            tx,
        }
    }

    /// The queue that it came on.
    #[inline]
    pub(crate) fn queue(&self) -> u32 {
        self.tx.queue.into()
    }

    /// Its bytes.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.tx.len
    }

    /// It was in too many pieces, and was put together.
    #[inline]
    pub(crate) fn was_scattered(&self) -> bool {
        self.tx.linearized
    }

    /// What goes out beside it.
    #[inline]
    pub(crate) fn infos(&self) -> Outgoing {
        let tx = self.tx;

        Outgoing {
            hash: (tx.hash != 0).then_some(tx.hash),
            vlan: tx.tagged.then_some(Tci(tx.vlan)),
            task: match tx.task {
                task::CHECKSUM => Task::Checksum {
                    ipv6: tx.ipv6,
                    udp: tx.udp,
                    offset: tx.offset,
                },
                task::SEGMENT => Task::Segment {
                    ipv6: tx.ipv6,
                    mss: tx.mss,
                    offset: tx.offset,
                },
                _ => Task::None,
            },
        }
    }

    /// Writes the header in front of the frame, with a gap behind it, and returns how many bytes
    /// that is in all. `None` for a frame that no message holds.
    #[inline]
    fn put_header(&mut self, infos: &Outgoing, gap: u32) -> Option<u32> {
        let tx = self.tx;
        let len = frame::len_of(infos);
        let before = len.checked_add(gap)?;

        if before as usize > ffi::HEADROOM {
            return None;
        }
        // SAFETY: By the type invariant there are as many bytes before the data, and they are ours.
        let room =
            unsafe { slice::from_raw_parts_mut(tx.data.sub(before as usize), before as usize) };
        let (header, behind) = room.split_at_mut_checked(len as usize)?;

        // Nothing of the guest's memory shows in the gap.
        behind.fill(0);
        frame::put(infos, tx.len, gap, header)?;
        Some(before)
    }

    /// Writes the header right before the frame, and adds where header and frame are in memory.
    #[inline]
    pub(crate) fn pages(&mut self, infos: &Outgoing, pieces: &mut Pieces) -> Result<(), TooMany> {
        let tx = self.tx;
        let len = frame::len_of(infos);
        // The header starts at a multiple of `ALIGN`, with a gap behind it.
        let gap = (tx.data.addr().wrapping_sub(len as usize) % ALIGN as usize) as u32;
        let before = self.put_header(infos, gap).ok_or(TooMany)?;

        // The linear part is contiguous, and what is before it too.
        pieces.push(
            tx.phys.checked_sub(before.into()).ok_or(TooMany)?,
            before.checked_add(tx.linear).ok_or(TooMany)?,
        )?;
        for piece in tx.piece.iter().take(tx.pieces as usize) {
            pieces.push(piece.phys, piece.len)?;
        }
        Ok(())
    }

    /// Copies header and frame to `offset` of a buffer that the host can read.
    #[inline]
    pub(crate) fn copy_to(
        &mut self,
        infos: &Outgoing,
        buffer: &vmbus::HostBuffer,
        offset: usize,
    ) -> Result {
        let before = self.put_header(infos, 0).ok_or(EINVAL)?;
        let tx = self.tx;
        let len = before.checked_add(tx.len).ok_or(EINVAL)? as usize;
        let area = buffer.area(offset, len).ok_or(EINVAL)?;

        // SAFETY: `area` is as many bytes of the buffer, to which nobody has a reference. By the
        // type invariant the frame has a linear part of `linear` bytes with `before` bytes in front
        // of it, and the shim copies all that there is.
        unsafe {
            let header = tx.data.sub(before as usize);

            if tx.linear == tx.len {
                bindings::memcpy(area.as_ptr().cast(), header.cast(), len);
                return Ok(());
            }
            bindings::memcpy(area.as_ptr().cast(), header.cast(), before as usize);
            kernel::error::to_result(ffi::hv_netvsc_shim_copy(
                self.skb.as_ptr(),
                area.as_ptr().add(before as usize).cast(),
                tx.len,
            ))
        }
    }

    /// The frame alone, and what is to be counted when it is sent.
    #[inline]
    pub(crate) fn into_parts(self) -> (SkBuff, Account<'a>) {
        let account = Account {
            queue: self.queue(),
            len: self.tx.len,
            more: self.tx.more,
            _transmitting: PhantomData,
        };

        (self.skb, account)
    }
}

/// A frame that is about to be sent, by the one who transmits on its queue.
pub(crate) struct Account<'a> {
    queue: u32,
    len: u32,
    more: bool,
    _transmitting: PhantomData<(&'a Tx, *mut ())>,
}

impl Account<'_> {
    /// Counts the frame as sent. Returns whether the host has to be told of it at once.
    ///
    /// To be called before the host can complete it.
    #[inline]
    pub(crate) fn count(&self, netdev: &NetDevice) -> bool {
        netdev.sent(self.queue, self.len, self.more)
    }
}
