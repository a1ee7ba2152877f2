// SPDX-License-Identifier: GPL-2.0

//! The memory behind a channel's two ring buffers.

use super::{
    barrier,
    mapping::Mapping,
    pages::{PageList, PAGE_BYTES},
};
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{bindings, ffi::c_void, prelude::*, sync::Arc};
use vmbus_ring::{Field, RingMemory, RingSpan};
use zerocopy::little_endian::U64;

/// Bytes in which descriptors, page numbers and trailers are written and read.
const UNIT: u32 = 8;

/// The pages of a channel: outgoing ring, then incoming ring.
///
/// Each ring is one page of indices followed by its data.
pub(crate) struct RingPages {
    pub(super) pages: Arc<PageList>,
    pub(super) send_pages: usize,
}

impl RingPages {
    /// Allocates rings of `send_data` and `recv_data` bytes, both rounded up to whole pages, on
    /// NUMA node `node` if it has the memory.
    ///
    /// May sleep. `EINVAL` when a ring has no data, `ENOMEM`.
    pub(crate) fn new(send_data: usize, recv_data: usize, node: i32) -> Result<Self> {
        let pages_of = |bytes: usize| -> Result<usize> {
            if bytes == 0 {
                return Err(EINVAL);
            }
            bytes.div_ceil(PAGE_BYTES).checked_add(1).ok_or(EOVERFLOW)
        };
        let send_pages = pages_of(send_data)?;
        let total = send_pages
            .checked_add(pages_of(recv_data)?)
            .ok_or(EOVERFLOW)?;

        Ok(Self {
            pages: Arc::new(PageList::new(total, node)?, GFP_KERNEL)?,
            send_pages,
        })
    }

    /// The pages, in the order in which the host is told about them.
    pub(crate) fn pages(&self) -> &Arc<PageList> {
        &self.pages
    }

    /// Page index at which the incoming ring starts (`downstream_ringbuffer_pageoffset`).
    pub(crate) fn recv_offset(&self) -> usize {
        self.send_pages
    }

    /// Maps the outgoing ring. May sleep.
    pub(crate) fn map_send(&self) -> Result<RingMap> {
        RingMap::new(&self.pages, 0, self.send_pages)
    }

    /// Maps the incoming ring. May sleep.
    pub(crate) fn map_recv(&self) -> Result<RingMap> {
        let recv_pages = self.pages.count().saturating_sub(self.send_pages);

        RingMap::new(&self.pages, self.send_pages, recv_pages)
    }
}

/// One ring, mapped so that its data appears twice in a row: a packet that wraps around is still
/// one range of addresses. Clones are the same mapping.
///
/// # Invariants
///
/// - `base` is a mapping of one page of indices and twice `data_len` bytes of data.
/// - `data_len` is a multiple of the page size and not zero.
/// - The mapping, and with it the pages, live as long as this object (`_mapping`).
#[derive(Clone)]
pub(crate) struct RingMap {
    base: NonNull<u8>,
    data_len: u32,
    _mapping: Arc<Mapping>,
}

// SAFETY: The mapping is not bound to a thread.
unsafe impl Send for RingMap {}
// SAFETY: All access is volatile, for single fields, or a copy of bytes in and out; the host races
// with it anyway, and no reference to the memory is ever made.
unsafe impl Sync for RingMap {}

impl RingMap {
    fn new(pages: &Arc<PageList>, first: usize, count: usize) -> Result<Self> {
        let data_pages = count.checked_sub(1).filter(|&n| n > 0).ok_or(EINVAL)?;
        let data_len = u32::try_from(data_pages * PAGE_BYTES).map_err(|_| EOVERFLOW)?;
        let mapping = Arc::new(Mapping::with_data_twice(pages, first, count)?, GFP_KERNEL)?;

        // INVARIANT: The mapping is one page of indices and the data pages twice.
        Ok(Self {
            base: mapping.base(),
            data_len,
            _mapping: mapping,
        })
    }

    #[inline]
    fn field(&self, field: Field) -> *mut u32 {
        // SAFETY: Every field's offset is inside the page of indices.
        unsafe {
            self.base
                .as_ptr()
                .add(field.offset() as usize)
                .cast::<u32>()
        }
    }

    /// Address of the `len` data bytes at `offset`, if the mapping covers them.
    #[inline]
    fn data(&self, offset: u32, len: usize) -> Option<*mut u8> {
        if offset >= self.data_len || len > self.data_len as usize {
            return None;
        }
        // SAFETY: `offset + len` is at most twice the length of the data, which is mapped twice.
        Some(unsafe { self.base.as_ptr().add(PAGE_BYTES + offset as usize) })
    }

    /// Address of the `N` units of 8 bytes at `offset`, if the mapping covers them; aligned, since
    /// the data starts at a page.
    #[inline]
    fn units<const N: usize>(&self, offset: u32) -> Option<*mut u64> {
        // So they are never more than the data, which is at least a page.
        const { assert!(N * size_of::<u64>() <= PAGE_BYTES) };

        if offset >= self.data_len || offset % UNIT != 0 {
            return None;
        }
        // SAFETY: By the type invariants and the assertion above, `offset` and the units are at
        // most twice the length of the data, which is mapped twice.
        Some(unsafe { self.base.as_ptr().add(PAGE_BYTES + offset as usize).cast() })
    }
}

impl RingMemory for RingMap {
    type RingSpan<'a> = MappedSpan<'a>;

    #[inline]
    fn data_len(&self) -> u32 {
        self.data_len
    }

    #[inline]
    fn load(&self, field: Field) -> u32 {
        // SAFETY: A field of the mapped page of indices, which is aligned.
        unsafe { self.field(field).read_volatile() }
    }

    #[inline]
    fn load_acquire(&self, field: Field) -> u32 {
        // SAFETY: A field of the mapped page of indices, which is aligned.
        unsafe { barrier::load_acquire(self.field(field)) }
    }

    #[inline]
    fn store(&self, field: Field, value: u32) {
        // SAFETY: A field of the mapped page of indices, which is aligned.
        unsafe { self.field(field).write_volatile(value) };
    }

    #[inline]
    fn store_release(&self, field: Field, value: u32) {
        // SAFETY: A field of the mapped page of indices, which is aligned.
        unsafe { barrier::store_release(self.field(field), value) };
    }

    #[inline]
    fn full_barrier(&self) {
        barrier::full();
    }

    #[inline]
    fn copy_out(&self, offset: u32, dst: &mut [u8]) {
        let Some(src) = self.data(offset, dst.len()) else {
            // The ring logic never asks for this; the buffer keeps its zeroes if it does.
            debug_assert!(false);
            return;
        };

        // SAFETY: `src` is valid for `dst.len()` bytes. The host may write them meanwhile: the
        // copy then holds some mix of old and new bytes, which the caller treats as hostile input
        // anyway. `memcpy` of the kernel makes no assumption that a concurrent write could break.
        unsafe { bindings::memcpy(dst.as_mut_ptr().cast(), src.cast::<c_void>(), dst.len()) };
    }

    #[inline]
    fn copy_in(&self, offset: u32, src: &[u8]) {
        let Some(dst) = self.data(offset, src.len()) else {
            debug_assert!(false);
            return;
        };

        // SAFETY: `dst` is valid for `src.len()` bytes, and `src` is private memory, so the two do
        // not overlap. Concurrent reads by the host are its own affair.
        unsafe { bindings::memcpy(dst.cast::<c_void>(), src.as_ptr().cast(), src.len()) };
    }

    #[inline]
    fn get_units<const N: usize>(&self, offset: u32) -> [U64; N] {
        let mut units = [U64::ZERO; N];
        let Some(src) = self.units::<N>(offset) else {
            debug_assert!(false);
            return units;
        };

        for (index, unit) in units.iter_mut().enumerate() {
            // SAFETY: `src` is aligned and valid for `N` units.
            *unit = U64::new(u64::from_le(unsafe { src.add(index).read_volatile() }));
        }
        units
    }

    #[inline]
    fn span(&self, offset: u32, len: u32) -> MappedSpan<'_> {
        let start = self
            .data(offset, len as usize)
            .filter(|_| offset % UNIT == 0)
            .map(|start| start.cast());

        debug_assert!(start.is_some());
        // INVARIANT: `data` says so; the data starts at a page, so the address is aligned.
        MappedSpan {
            next: start.unwrap_or(ptr::null_mut()),
            left: start.map_or(0, |_| len / UNIT),
            _map: PhantomData,
        }
    }
}

/// A span of a mapped ring's data.
///
/// # Invariants
///
/// `next` is aligned and valid for `left` units of 8 bytes.
pub(crate) struct MappedSpan<'a> {
    next: *mut u64,
    left: u32,
    _map: PhantomData<&'a RingMap>,
}

impl RingSpan for MappedSpan<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, units: &[U64; N]) {
        let Some(left) = self.left.checked_sub(N as u32) else {
            // The ring logic never asks for this.
            debug_assert!(false);
            return;
        };

        for unit in units {
            // SAFETY: By the type invariant; there are still `N` units, as was just checked.
            unsafe { self.next.write_volatile(unit.get().to_le()) };
            // INVARIANT: The units left are those behind this one.
            //
            // SAFETY: As above.
            self.next = unsafe { self.next.add(1) };
        }
        self.left = left;
    }
}

#[kunit_tests(vmbus_ring_memory)]
mod tests {
    use super::*;
    use vmbus_protocol::packet::PacketFlags;
    use vmbus_ring::{init_control, OutgoingPacket, Reader, Writer};

    #[test]
    fn rings_without_data() {
        assert!(RingPages::new(0, 4096, -1).err() == Some(EINVAL));
        assert!(RingPages::new(4096, 0, -1).err() == Some(EINVAL));
    }

    #[test]
    fn the_two_rings_share_no_page() -> Result {
        let pages = RingPages::new(5000, 1, -1)?;
        let (send, recv) = (pages.map_send()?, pages.map_recv()?);

        assert_eq!(send.data_len(), 8192);
        assert_eq!(recv.data_len(), 4096);
        assert_eq!(pages.recv_offset(), 3);
        assert_eq!(pages.pages().count(), 5);
        send.copy_in(0, &[0x5a; 64]);
        let mut there = [0; 64];
        recv.copy_out(0, &mut there);
        assert!(there == [0; 64]);
        Ok(())
    }

    #[test]
    fn the_data_is_there_twice() -> Result {
        let pages = RingPages::new(4096, 4096, -1)?;
        let map = pages.map_send()?;
        let mut wrapped = [0; 8];

        map.copy_in(4092, &[1, 2, 3, 4, 5, 6, 7, 8]);
        map.copy_out(0, &mut wrapped[..4]);
        assert!(wrapped == [5, 6, 7, 8, 0, 0, 0, 0]);
        map.copy_out(4092, &mut wrapped);
        assert!(wrapped == [1, 2, 3, 4, 5, 6, 7, 8]);
        Ok(())
    }

    /// What a host would see of the guest's ring, through another mapping of the same pages.
    #[test]
    fn packets_arrive_in_another_mapping() -> Result {
        let pages = RingPages::new(4096, 4096, -1)?;
        let map = pages.map_send()?;

        init_control(&map);
        let mut writer = Writer::new(map).map_err(|_| EINVAL)?;
        let mut reader = Reader::new(pages.map_send()?).map_err(|_| EINVAL)?;
        let mut buffer = KVec::from_elem(0u8, 256, GFP_KERNEL)?;

        // Twice around the ring.
        for round in 0..100u64 {
            let payload = [round as u8; 72];
            let parts: [&[u8]; 1] = [&payload];
            let packet = OutgoingPacket::inband(PacketFlags::empty(), round, &parts);

            assert!(writer.send(&packet).is_ok());
            let Ok(Some(packet)) = reader.next(&mut buffer) else {
                return Err(EIO);
            };
            assert_eq!(packet.transaction_id(), round);
            assert!(packet.payload().starts_with(&payload));
            // Nobody waits for space.
            assert!(!reader.finish());
        }
        Ok(())
    }
}
