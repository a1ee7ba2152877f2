// SPDX-License-Identifier: GPL-2.0

//! Per-packet information: what travels beside a frame (VLAN, checksums, hash,
//! segmentation), both ways.

use crate::bytes::u32_at;

/// Bytes of a record's head.
pub const HEAD_LEN: u32 = 12;
/// Bytes of a record with one number in it, which all of ours are.
pub const RECORD_LEN: u32 = 16;
/// Words of such a record.
const RECORD_WORDS: usize = 4;
/// Most records that are sent with a frame.
pub const MAX_RECORDS: usize = 3;

/// Types of records (`enum ndis_per_pkt_info_type`).
mod kind {
    pub(super) const CHECKSUM: u32 = 0;
    pub(super) const LARGE_SEND: u32 = 2;
    pub(super) const VLAN: u32 = 6;
    pub(super) const HASH: u32 = 8;
    /// Bit 31: types of the bus itself.
    pub(super) const INTERNAL: u32 = 1 << 31;
    pub(super) const PACKET_ID: u32 = INTERNAL | 1;
}

/// A VLAN tag, as the network has it (802.1Q TCI).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tci(pub u16);

impl Tci {
    /// As NDIS has it: priority, CFI, number, from the low end.
    #[inline]
    const fn to_info(self) -> u32 {
        let tci = self.0 as u32;
        (tci >> 13) | (((tci >> 12) & 1) << 3) | ((tci & 0xfff) << 4)
    }

    #[inline]
    const fn from_info(info: u32) -> Self {
        let [low, high, ..] = info.to_le_bytes();
        let info = u16::from_le_bytes([low, high]);
        Tci(((info & 7) << 13) | (((info >> 3) & 1) << 12) | (info >> 4))
    }
}

/// What the host does to a frame before it goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// The frame goes out as it is.
    None,
    /// Fills in a checksum.
    Checksum {
        /// IPv6, not IPv4.
        ipv6: bool,
        /// UDP, not TCP.
        udp: bool,
        /// Where the TCP or UDP header starts, in bytes.
        offset: u16,
    },
    /// Cuts TCP data into segments.
    Segment {
        /// IPv6, not IPv4.
        ipv6: bool,
        /// Bytes of data of a segment.
        mss: u16,
        /// Where the TCP header starts, in bytes.
        offset: u16,
    },
}

/// What goes out beside a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its hash.
    pub hash: Option<u32>,
    /// Its VLAN tag.
    pub vlan: Option<Tci>,
    /// What the host does to it.
    pub task: Task,
}

impl Outgoing {
    /// No packet information.
    pub const NONE: Self = Outgoing {
        hash: None,
        vlan: None,
        task: Task::None,
    };

    /// How many records there are.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.hash.is_some() as u32
            + self.vlan.is_some() as u32
            + !matches!(self.task, Task::None) as u32
    }

    /// Calls `put` with each record's words, in the order of the C driver.
    #[inline]
    pub fn records(&self, mut put: impl FnMut([u32; RECORD_WORDS])) {
        let mut record = |kind, value| put([RECORD_LEN, kind, HEAD_LEN, value]);
        if let Some(hash) = self.hash {
            record(kind::HASH, hash);
        }
        if let Some(vlan) = self.vlan {
            record(kind::VLAN, vlan.to_info());
        }
        match self.task {
            Task::None => {}
            Task::Checksum { ipv6, udp, offset } => {
                let ip = if ipv6 { 1 << 1 } else { 1 };
                let l4 = if udp { 1 << 3 } else { 1 << 2 };
                record(
                    kind::CHECKSUM,
                    ip | l4 | ((u32::from(offset) & 0x3ff) << 16),
                );
            }
            Task::Segment { ipv6, mss, offset } => {
                const SEGMENT_V2: u32 = 1 << 30;
                let version = u32::from(ipv6) << 31;
                record(
                    kind::LARGE_SEND,
                    u32::from(mss) | ((u32::from(offset) & 0x3ff) << 20) | SEGMENT_V2 | version,
                );
            }
        }
    }
}

/// What the host found out about checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Checksums(u32);

impl Checksums {
    const TCP_GOOD: u32 = 1 << 3;
    const UDP_GOOD: u32 = 1 << 4;
    /// Right, and not what is there now.
    const IP_CHANGED: u32 = (1 << 5) | (1 << 8);

    /// The TCP or UDP checksum is right.
    #[inline]
    #[must_use]
    pub const fn l4_good(self) -> bool {
        self.0 & (Self::TCP_GOOD | Self::UDP_GOOD) != 0
    }

    /// The IPv4 header's checksum is right as far as the network goes, but the
    /// header was changed since.
    #[inline]
    #[must_use]
    pub const fn ip_to_be_filled(self) -> bool {
        self.0 & Self::IP_CHANGED == Self::IP_CHANGED
    }
}

/// Place of a piece in a coalesced packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Nothing comes before it.
    pub first: bool,
    /// Nothing comes after it.
    pub last: bool,
}

/// What came beside a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Incoming {
    /// Its VLAN tag.
    pub vlan: Option<Tci>,
    /// Its checksums.
    pub checksums: Checksums,
    /// Its hash.
    pub hash: Option<u32>,
    /// It is a part of a packet.
    pub fragment: Option<Fragment>,
}

/// A record that is not one: the record's place, in bytes, its size and where
/// its value starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Bytes from the first record.
    pub at: usize,
    /// Bytes of the record, as claimed.
    pub size: u32,
    /// Start of its value, as claimed.
    pub offset: u32,
}

impl Incoming {
    /// Parses records, a private copy, in one pass. Unknown ones are passed
    /// over; of several of a kind the last counts.
    ///
    /// # Errors
    ///
    /// [`RecordError`] at the first record that does not advance or goes
    /// beyond the end: the C driver loops for ever at one of size 0.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut infos = Incoming::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let size = u32_at(rest, 0).unwrap_or(0);
            let offset = u32_at(rest, 8).unwrap_or(0);
            let bad = RecordError {
                at: bytes.len().saturating_sub(rest.len()),
                size,
                offset,
            };
            if size < HEAD_LEN || offset < HEAD_LEN || offset > size {
                return Err(bad);
            }
            let len = usize::try_from(size).map_err(|_| bad)?;
            let (record, tail) = rest.split_at_checked(len).ok_or(bad)?;
            rest = tail;
            let value = usize::try_from(offset)
                .ok()
                .and_then(|at| u32_at(record, at));
            let kind = u32_at(record, 4).unwrap_or(0);
            if is_known(kind) {
                infos.take(kind, value.ok_or(bad)?);
            }
        }
        Ok(infos)
    }

    #[inline]
    fn take(&mut self, kind: u32, value: u32) {
        match kind {
            kind::CHECKSUM => self.checksums = Checksums(value),
            kind::VLAN => self.vlan = Some(Tci::from_info(value)),
            kind::HASH => self.hash = Some(value),
            kind::PACKET_ID => {
                let [version, flags, ..] = value.to_le_bytes();
                // 1: a part of a packet; 2: the first one; 4: the last one.
                if version == 1 && flags & 1 != 0 {
                    self.fragment = Some(Fragment {
                        first: flags & 2 != 0,
                        last: flags & 4 != 0,
                    });
                }
            }
            _ => {}
        }
    }
}

#[inline]
const fn is_known(kind: u32) -> bool {
    matches!(
        kind,
        kind::CHECKSUM | kind::VLAN | kind::HASH | kind::PACKET_ID
    )
}
