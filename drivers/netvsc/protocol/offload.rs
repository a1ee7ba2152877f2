// SPDX-License-Identifier: GPL-2.0

//! Offloads: what the host can do (`struct ndis_offload`), and what is asked of
//! it (`struct ndis_offload_params`).

use crate::{
    bytes::{put, u16_at, u32_at},
    nvsp::Version,
    query::oid,
    rndis,
};

/// Types of NDIS objects.
const OBJECT_OFFLOAD: u8 = 0xa7;
const OBJECT_DEFAULT: u8 = 0x80;
/// Bytes of the description, by revision 1, 2 and 3.
const SIZES: [u16; 3] = [112, 144, 156];

/// Where things are in the description.
mod at {
    pub(super) const IP4_TX: usize = 8;
    pub(super) const IP6_TX: usize = 24;
    pub(super) const LSO2_IP4: usize = 80;
    pub(super) const LSO2_IP6: usize = 92;
    pub(super) const LSO2_IP6_OPTIONS: usize = 104;
    pub(super) const RSC_IP4: usize = 144;
    pub(super) const RSC_IP6: usize = 145;
}

/// TCP with and without options; UDP.
const TCP4: u32 = 0x10 | 0x04;
const UDP4: u32 = 0x40;
/// TCP with and without options, and behind extension headers; UDP.
const TCP6: u32 = 0x10 | 0x04 | 0x01;
const UDP6: u32 = 0x40;
/// Segmentation for Ethernet frames.
const ETHERNET: u32 = 0x02;
/// Segmentation with TCP options and behind extension headers.
const LSO_IP6: u32 = 0x04 | 0x01;

/// Longest packet before segmentation, in bytes (`GSO_LEGACY_MAX_SIZE`).
pub const MAX_SEGMENTED: u32 = 65_536;
/// Segmentation of less is not worth having.
const MIN_SEGMENTED: u32 = 4096;

/// Offloads of one IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Family {
    /// TCP checksums.
    pub tcp: bool,
    /// UDP checksums.
    pub udp: bool,
    /// TCP segmentation.
    pub segments: bool,
}

/// What the host does in place of the guest's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// IPv4.
    pub ipv4: Family,
    /// IPv6.
    pub ipv6: Family,
    /// Longest packet before segmentation, in bytes. The stack wants to know also where there is no
    /// segmentation, and takes 0 for far too much.
    pub max_segmented: u32,
    /// Coalesced packets from the host.
    pub coalesce: bool,
}

impl Offloads {
    /// The host does nothing.
    pub const NONE: Self = Self {
        ipv4: Family::NONE,
        ipv6: Family::NONE,
        max_segmented: MAX_SEGMENTED,
        coalesce: false,
    };
}

impl Family {
    pub(crate) const NONE: Self = Self {
        tcp: false,
        udp: false,
        segments: false,
    };
}

fn revision(version: Version) -> u8 {
    if version >= Version::V5 {
        3
    } else if version >= Version::V4 {
        2
    } else {
        1
    }
}

/// Builds the question what the host can do.
pub fn query(buffer: &mut [u8], id: u32, version: Version) -> Option<usize> {
    let revision = revision(version);
    let size = *SIZES.get(usize::from(revision.checked_sub(1)?))?;
    let mut input = [0; 156];
    let input = input.get_mut(..usize::from(size))?;
    let [low, high] = size.to_le_bytes();
    put(input, 0, &[OBJECT_OFFLOAD, revision, low, high]);
    rndis::query(buffer, id, oid::OFFLOAD_CAPABILITIES, input)
}

impl Offloads {
    /// What the description says. `None` when it is not one.
    #[must_use]
    pub fn parse(version: Version, value: &[u8]) -> Option<Self> {
        let [kind, revision, ..] = *value else {
            return None;
        };
        let size = usize::from(u16_at(value, 2)?);
        if kind != OBJECT_OFFLOAD || revision < 1 || size < usize::from(SIZES[0]) {
            return None;
        }
        let value = value.get(..size)?;
        // What an older revision does not have is not there.
        let word = |at| u32_at(value, at).unwrap_or(0);
        let all = |have: u32, want| have & want == want;
        let (tx4, tx6) = (word(at::IP4_TX), word(at::IP6_TX));
        let udp = version > Version::V4;
        let segments = |at: usize, tcp: bool| {
            let limit = word(at.saturating_add(4));
            let good = tcp && all(word(at), ETHERNET) && limit >= MIN_SEGMENTED;
            (good, if good { limit } else { u32::MAX })
        };
        let (tcp4, tcp6) = (all(tx4, TCP4), all(tx6, TCP6));
        let (segments4, limit4) = segments(at::LSO2_IP4, tcp4);
        let options = all(word(at::LSO2_IP6_OPTIONS), LSO_IP6);
        let (segments6, limit6) = segments(at::LSO2_IP6, tcp6 && options);
        let rsc = |at| value.get(at).is_some_and(|byte| *byte != 0);
        Some(Offloads {
            ipv4: Family {
                tcp: tcp4,
                udp: tcp4 && udp && all(tx4, UDP4),
                segments: segments4,
            },
            ipv6: Family {
                tcp: tcp6,
                udp: tcp6 && udp && all(tx6, UDP6),
                segments: segments6,
            },
            max_segmented: limit4.min(limit6).min(MAX_SEGMENTED),
            coalesce: version >= Version::V6_1 && rsc(at::RSC_IP4) && rsc(at::RSC_IP6),
        })
    }

    /// Builds the request that turns these on and others off.
    pub fn set(&self, buffer: &mut [u8], id: u32, version: Version) -> Option<usize> {
        const NO_CHANGE: u8 = 0;
        const OFF: u8 = 1;
        const ON: u8 = 2;
        const BOTH_WAYS: u8 = 4;
        let checksum = |on| if on { BOTH_WAYS } else { NO_CHANGE };
        let segments = |on| if on { ON } else { NO_CHANGE };
        let rsc = if self.coalesce { ON } else { OFF };
        // Hosts of version 4 and older know a shorter one.
        let size: u8 = if version <= Version::V4 { 22 } else { 28 };
        let value = [
            OBJECT_DEFAULT,
            3,
            size,
            0,
            // The IP header's own checksum is never left to the host.
            OFF,
            checksum(self.ipv4.tcp),
            checksum(self.ipv4.udp),
            checksum(self.ipv6.tcp),
            checksum(self.ipv6.udp),
            NO_CHANGE,
            NO_CHANGE,
            segments(self.ipv4.segments),
            segments(self.ipv6.segments),
            NO_CHANGE,
            NO_CHANGE,
            0,
            0,
            0,
            0,
            0,
            NO_CHANGE,
            NO_CHANGE,
            rsc,
            rsc,
            0,
            0,
            0,
            0,
        ];
        let value = value.get(..usize::from(size))?;
        rndis::set(buffer, id, oid::OFFLOAD_PARAMETERS, &[value])
    }
}
