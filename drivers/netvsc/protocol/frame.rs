// SPDX-License-Identifier: GPL-2.0

//! The header of an outgoing frame (`struct rndis_packet`).

use crate::ppi::{Outgoing, MAX_RECORDS, RECORD_LEN};
use zerocopy::{little_endian::U32, IntoBytes as _};

/// Words of the fixed part.
const FIXED_WORDS: usize = 11;
/// Bytes of the fixed part, and of a frame's header at least.
pub const FIXED_LEN: u32 = 44;
/// Where the offsets of a message count from, in bytes.
pub const BODY: u32 = 8;
/// Most bytes of a header.
pub const MAX_LEN: u32 = FIXED_LEN + RECORD_LEN * 3;
const MAX_WORDS: usize = FIXED_WORDS + 4 * MAX_RECORDS;
/// Headers start at multiples of this in memory.
pub const ALIGN: u32 = 8;

const _: () = assert!(MAX_RECORDS == 3);

/// The type of a message that is a frame.
pub const PACKET: u32 = 1;

/// The header of one frame.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    words: [U32; MAX_WORDS],
    len: u32,
}

impl Header {
    /// For a frame of `bytes` bytes that starts `gap` bytes behind the header.
    /// `None` for a frame that no message holds.
    #[inline]
    #[must_use]
    pub fn new(infos: &Outgoing, bytes: u32, gap: u32) -> Option<Self> {
        let mut words = [U32::new(0); MAX_WORDS];
        let mut len = FIXED_LEN;
        let (fixed, records) = words.split_at_mut_checked(FIXED_WORDS)?;
        let mut free = records.chunks_exact_mut(4);
        infos.records(|record| {
            if let Some(to) = free.next() {
                for (to, word) in to.iter_mut().zip(record) {
                    *to = U32::new(word);
                }
                len = len.wrapping_add(RECORD_LEN);
            }
        });
        let start = len.checked_add(gap)?;
        let values = [
            PACKET,
            start.checked_add(bytes)?,
            start.wrapping_sub(BODY),
            bytes,
            0,
            0,
            0,
            FIXED_LEN.wrapping_sub(BODY),
            len.wrapping_sub(FIXED_LEN),
        ];
        for (to, value) in fixed.iter_mut().zip(values) {
            *to = U32::new(value);
        }
        Some(Header { words, len })
    }

    /// Bytes of a header with these infos.
    #[inline]
    #[must_use]
    pub fn len_of(infos: &Outgoing) -> u32 {
        let mut len = FIXED_LEN;
        infos.records(|_| len = len.wrapping_add(RECORD_LEN));
        len
    }

    /// Its bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let bytes = self.words.as_bytes();
        usize::try_from(self.len)
            .ok()
            .and_then(|len| bytes.get(..len))
            .unwrap_or(bytes)
    }
}
