// SPDX-License-Identifier: GPL-2.0

//! The header of an outgoing frame (`struct rndis_packet`).

use crate::ppi::{Outgoing, MAX_RECORDS, RECORD_LEN};
use zerocopy::{little_endian::U32, transmute};

/// Words of the fixed part.
const FIXED_WORDS: usize = 11;
/// Bytes of the fixed part, and of a frame's header at least.
pub const FIXED_LEN: u32 = 44;
/// Where the offsets of a message count from, in bytes.
pub const BODY: u32 = 8;
/// Most bytes of a header.
pub const MAX_LEN: u32 = FIXED_LEN + RECORD_LEN * 3;
/// Headers start at multiples of this in memory.
pub const ALIGN: u32 = 8;

const _: () = assert!(MAX_RECORDS == 3 && FIXED_LEN as usize == 4 * FIXED_WORDS);

/// The type of a message that is a frame.
pub const PACKET: u32 = 1;

/// Bytes of a header with these infos.
#[inline]
#[must_use]
pub fn len_of(infos: &Outgoing) -> u32 {
    FIXED_LEN.wrapping_add(RECORD_LEN.wrapping_mul(infos.count()))
}

/// Writes the header of a frame of `bytes` bytes that starts `gap` bytes behind
/// it. `to` is as long as [`len_of`] says. `None` if it is not, or for a frame
/// that no message holds.
#[inline]
#[must_use]
pub fn put(infos: &Outgoing, bytes: u32, gap: u32, to: &mut [u8]) -> Option<()> {
    let len = len_of(infos);
    let start = len.checked_add(gap)?;
    let (fixed, mut rest) = to.split_first_chunk_mut::<{ FIXED_LEN as usize }>()?;
    let words: [U32; FIXED_WORDS] = [
        PACKET,
        start.checked_add(bytes)?,
        start.wrapping_sub(BODY),
        bytes,
        0,
        0,
        0,
        FIXED_LEN.wrapping_sub(BODY),
        len.wrapping_sub(FIXED_LEN),
        0,
        0,
    ]
    .map(U32::new);
    *fixed = transmute!(words);
    let mut whole = true;
    infos.records(|record| {
        let left = core::mem::take(&mut rest);
        match left.split_first_chunk_mut::<{ RECORD_LEN as usize }>() {
            Some((to, behind)) => {
                *to = transmute!(record.map(U32::new));
                rest = behind;
            }
            None => whole = false,
        }
    });
    (whole && rest.is_empty()).then_some(())
}
