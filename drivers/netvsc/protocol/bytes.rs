// SPDX-License-Identifier: GPL-2.0

//! Little-endian fields of byte slices, none of them taken on trust.

/// The `N` bytes at `at`.
#[inline]
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The 16-bit number at `at`.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

/// The 32-bit number at `at`.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

/// `len` bytes at `at`, both from the host.
#[inline]
pub(crate) fn slice_at(bytes: &[u8], at: u32, len: u32) -> Option<&[u8]> {
    let end = at.checked_add(len)?;
    bytes.get(usize::try_from(at).ok()?..usize::try_from(end).ok()?)
}

/// Puts `value` at `at`; what does not fit is not written.
#[inline]
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let to = at
        .checked_add(value.len())
        .and_then(|end| bytes.get_mut(at..end));
    if let Some(to) = to {
        to.copy_from_slice(value);
    }
}
