// SPDX-License-Identifier: GPL-2.0

//! Receive side scaling: how the host spreads what it sends over channels.

use crate::{
    bytes::{put, u16_at, u32_at},
    inbound::TABLE_LEN,
    query::oid,
    rndis,
};

/// Bytes of the hash's key.
pub const KEY_LEN: usize = 40;
/// Most entries of the table.
pub const MAX_TABLE: usize = 256;
/// Entries of the table, unless the host says something else.
const DEFAULT_TABLE: u16 = 128;
/// Bytes of the parameters before the table.
const HEAD_LEN: usize = 40;
/// Most channels of a device.
pub const MAX_CHANNELS: u32 = 64;

/// What the host can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Channels that it can use, at most [`MAX_CHANNELS`].
    pub channels: u32,
    /// Entries of the table, at most [`MAX_TABLE`] and not 0.
    pub table: u16,
}

/// Builds the question what the host can do.
pub fn query(buffer: &mut [u8], id: u32) -> Option<usize> {
    let mut input = [0; 18];
    put(&mut input, 0, &[0x88, 2, 18, 0]);
    rndis::query(buffer, id, oid::RSS_CAPABILITIES, &input)
}

impl Capabilities {
    /// What the description says; `None` when there is no scaling.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let channels = u32_at(value, 12)?.min(MAX_CHANNELS);
        let table = match u16_at(value, 16)? {
            entries @ 1..=256 => entries,
            _ => DEFAULT_TABLE,
        };
        (channels >= 2).then_some(Capabilities { channels, table })
    }
}

/// Builds the request that sets the table, whose entries are numbers of
/// channels, and the key; or that turns scaling off, which comes before a
/// change.
pub fn set(
    buffer: &mut [u8],
    id: u32,
    table: &[u16],
    key: &[u8; KEY_LEN],
    off: bool,
) -> Option<usize> {
    const OFF: u16 = 0x10;
    /// Toeplitz, over IPv4 and IPv6 addresses and TCP ports of both.
    const HASH: u32 = 1 | 0x100 | 0x200 | 0x400 | 0x1000;
    let table_len = table.len().min(MAX_TABLE).checked_mul(4)?;
    let key_at = HEAD_LEN.checked_add(table_len)?;
    let size = key_at.checked_add(KEY_LEN)?;
    let (len, value) = rndis::set_with(buffer, id, oid::RSS_PARAMETERS, size)?;
    let flags = if off { OFF } else { 0 };
    put(value, 0, &[0x89, 2, 40, 0]);
    put(value, 4, &flags.to_le_bytes());
    put(value, 8, &HASH.to_le_bytes());
    put(value, 12, &u16::try_from(table_len).ok()?.to_le_bytes());
    put(value, 16, &u32::try_from(HEAD_LEN).ok()?.to_le_bytes());
    put(value, 20, &u16::try_from(KEY_LEN).ok()?.to_le_bytes());
    put(value, 24, &u32::try_from(key_at).ok()?.to_le_bytes());
    let mut at = HEAD_LEN;
    for entry in table.iter().take(MAX_TABLE) {
        put(value, at, &u32::from(*entry).to_le_bytes());
        at = at.saturating_add(4);
    }
    put(value, key_at, key);
    Some(len)
}

/// The place in the table of outgoing packets for a hash.
#[inline]
#[must_use]
pub const fn slot(hash: u32) -> usize {
    const LAST: u32 = 15;
    (hash & LAST) as usize
}

const _: () = assert!(TABLE_LEN == 16);

/// What is in a place as long as the host says nothing: all channels take
/// turns. Set before the host can say something.
#[must_use]
pub fn default_entry(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(0)
}

/// The channel that an entry names; one of `channels`, whatever the host said.
#[inline]
#[must_use]
pub fn channel(entry: u32, channels: u32) -> u32 {
    entry.checked_rem(channels).unwrap_or(0)
}
