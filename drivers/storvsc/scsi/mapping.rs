// SPDX-License-Identifier: GPL-2.0

//! A command's data, as the device sees it.

use super::ffi::View;
use core::marker::PhantomData;
use kernel::{bindings, ffi::c_int};

/// Values of `enum dma_data_direction`.
pub(super) const TO_DEVICE: u8 = bindings::dma_data_direction::DMA_TO_DEVICE.0 as u8;
pub(super) const FROM_DEVICE: u8 = bindings::dma_data_direction::DMA_FROM_DEVICE.0 as u8;
pub(super) const NO_DATA: u8 = bindings::dma_data_direction::DMA_NONE.0 as u8;

/// `DMA_MAPPING_ERROR`: what a failed mapping gives for an address.
const MAPPING_ERROR: u64 = u64::MAX;

/// Why a command was not mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MapError {
    /// No resources now.
    Busy,
    /// It makes no sense.
    Invalid,
}

/// Data that is mapped for a device. It stays mapped until [`Self::unmap`].
///
/// # Invariants
///
/// What it names is mapped for the device that [`Self::new`] was called with. A list is valid and
/// has at least `mapped` mapped pieces.
#[derive(Clone, Copy)]
pub(super) struct Mapping {
    memory: Memory,
    direction: u8,
}

#[derive(Clone, Copy)]
enum Memory {
    None,
    /// One piece: its list is not needed any more.
    Piece {
        address: u64,
        len: u32,
    },
    List {
        sgl: *mut bindings::scatterlist,
        entries: u32,
        mapped: u32,
    },
}

impl Mapping {
    /// Of a slot that was never used.
    pub(super) const fn none() -> Self {
        Self {
            memory: Memory::None,
            direction: NO_DATA,
        }
    }

    /// Maps the data of the command that `view` shows for `dev`. Any context but NMI.
    ///
    /// # Safety
    ///
    /// The device is valid. The view is of a command that the caller owns, and that stays in being,
    /// with its data, until it is unmapped.
    #[inline]
    pub(super) unsafe fn new(dev: *mut bindings::device, view: &View) -> Result<Self, MapError> {
        let direction = view.direction;

        if view.sg_count == 0 {
            return match view.data_len {
                0 => Ok(Self::none()),
                _ => Err(MapError::Invalid),
            };
        }
        if direction != TO_DEVICE && direction != FROM_DEVICE {
            return Err(MapError::Invalid);
        }
        let raw = bindings::dma_data_direction(direction.into());
        let memory = if view.sg_count == 1 {
            if view.first_len < view.data_len {
                return Err(MapError::Invalid);
            }
            let len = view.data_len;
            // SAFETY: The device is valid, and the piece is memory of the command.
            let address = unsafe { bindings::dma_map_phys(dev, view.first, len as usize, raw, 0) };

            // SAFETY: The device is valid.
            if unsafe { has_failed(dev, address) } {
                return Err(MapError::Busy);
            }
            Memory::Piece { address, len }
        } else {
            // A list of error handling is on a stack of somebody who may stop waiting.
            if view.from_eh {
                return Err(MapError::Invalid);
            }
            let (sgl, entries) = (view.sgl, view.sg_count);
            // SAFETY: The device is valid; the list has as many entries and stays.
            let mapped = unsafe { bindings::dma_map_sg_attrs(dev, sgl, entries as c_int, raw, 0) };

            if mapped == 0 {
                return Err(MapError::Busy);
            }
            Memory::List {
                sgl,
                entries,
                mapped,
            }
        };

        // INVARIANT: It was just mapped.
        Ok(Self { memory, direction })
    }

    /// The mapped pieces: bus address and length in bytes.
    #[inline]
    pub(super) fn pieces(&self) -> Pieces<'_> {
        // INVARIANT: By the type invariant.
        match self.memory {
            Memory::None => Pieces::new(None, core::ptr::null_mut(), 0),
            Memory::Piece { address, len } => {
                Pieces::new(Some((address, len)), core::ptr::null_mut(), 0)
            }
            Memory::List { sgl, mapped, .. } => Pieces::new(None, sgl, mapped),
        }
    }

    /// Takes the data back from the device. Any context but NMI.
    ///
    /// # Safety
    ///
    /// `dev` is the device that it was mapped for, and this is done once.
    #[inline]
    pub(super) unsafe fn unmap(&self, dev: *mut bindings::device) {
        let raw = bindings::dma_data_direction(self.direction.into());

        match self.memory {
            Memory::None => {}
            // SAFETY: By the type invariant it was mapped with these arguments.
            Memory::Piece { address, len } => unsafe {
                bindings::dma_unmap_phys(dev, address, len as usize, raw, 0);
            },
            // SAFETY: As above.
            Memory::List { sgl, entries, .. } => unsafe {
                bindings::dma_unmap_sg_attrs(dev, sgl, entries as c_int, raw, 0);
            },
        }
    }
}

/// Whether a mapping failed: what `dma_mapping_error()` does, for which there is no binding.
///
/// # Safety
///
/// The device is valid.
#[inline]
unsafe fn has_failed(dev: *mut bindings::device, address: u64) -> bool {
    // A kernel that checks the use of DMA wants to hear that somebody looked.
    #[cfg(CONFIG_DMA_API_DEBUG)]
    // SAFETY: By the requirements of this function.
    unsafe {
        bindings::debug_dma_mapping_error(dev, address);
    }
    #[cfg(not(CONFIG_DMA_API_DEBUG))]
    let _ = dev;
    address == MAPPING_ERROR
}

/// See [`Mapping::pieces`].
///
/// # Invariants
///
/// `next` is a mapped scatter list with at least `left` pieces, if that is not 0.
pub(crate) struct Pieces<'a> {
    only: Option<(u64, u32)>,
    next: *mut bindings::scatterlist,
    left: u32,
    _mapping: PhantomData<&'a Mapping>,
}

impl Pieces<'_> {
    #[inline]
    fn new(only: Option<(u64, u32)>, next: *mut bindings::scatterlist, left: u32) -> Self {
        Self {
            only,
            next,
            left,
            _mapping: PhantomData,
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = (u64, u32);

    #[inline]
    fn next(&mut self) -> Option<(u64, u32)> {
        if let Some(piece) = self.only.take() {
            return Some(piece);
        }
        self.left = self.left.checked_sub(1)?;
        // SAFETY: By the type invariant there is an entry.
        let piece = unsafe { ((*self.next).dma_address, (*self.next).dma_length) };

        if self.left != 0 {
            // INVARIANT: There is another entry.
            //
            // SAFETY: `next` is a valid entry.
            self.next = unsafe { bindings::sg_next(self.next) };
        }
        Some(piece)
    }
}
