// SPDX-License-Identifier: GPL-2.0

//! Objects of the interface (OIDs), and what their values mean.

use crate::{
    bytes::{array_at, put, u32_at},
    link::SPEED_UNITS_PER_MB,
    rndis,
};

/// Numbers of objects.
pub mod oid {
    /// Longest frame without its header, in bytes.
    pub const MAX_FRAME_SIZE: u32 = 0x0001_0106;
    /// In units of 100 bits per second.
    pub const LINK_SPEED: u32 = 0x0001_0107;
    /// Which frames the host delivers.
    pub const PACKET_FILTER: u32 = 0x0001_010e;
    /// 0: connected.
    pub const MEDIA_STATUS: u32 = 0x0001_0114;
    /// How receive scaling may be set up.
    pub const RSS_CAPABILITIES: u32 = 0x0001_0203;
    /// How receive scaling is set up.
    pub const RSS_PARAMETERS: u32 = 0x0001_0204;
    /// A named parameter.
    pub const CONFIG_PARAMETER: u32 = 0x0001_021b;
    /// The adapter's name.
    pub const FRIENDLY_NAME: u32 = 0x0002_0216;
    /// The address that the interface has by itself.
    pub const PERMANENT_ADDRESS: u32 = 0x0101_0101;
    /// Which offloads are in use.
    pub const OFFLOAD_PARAMETERS: u32 = 0xfc01_020c;
    /// Which offloads there are.
    pub const OFFLOAD_CAPABILITIES: u32 = 0xfc01_020d;
}

/// Which frames the host delivers; 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter(pub u32);

impl Filter {
    /// None: the host stops using the receive buffer.
    pub const NONE: Self = Self(0);
    const DIRECTED: u32 = 0x01;
    const ALL_MULTICAST: u32 = 0x04;
    const BROADCAST: u32 = 0x08;
    const PROMISCUOUS: u32 = 0x20;

    /// Those for the interface's address, broadcasts, and as asked for.
    #[must_use]
    pub const fn new(promiscuous: bool, multicast: bool, broadcast: bool) -> Self {
        if promiscuous {
            return Self(Self::PROMISCUOUS);
        }
        let multicast = if multicast { Self::ALL_MULTICAST } else { 0 };
        let broadcast = if broadcast { Self::BROADCAST } else { 0 };
        Self(Self::DIRECTED | multicast | broadcast)
    }
}

/// Builds the request that sets the filter.
pub fn set_filter(buffer: &mut [u8], id: u32, filter: Filter) -> Option<usize> {
    rndis::set(buffer, id, oid::PACKET_FILTER, &[&filter.0.to_le_bytes()])
}

/// A number.
#[must_use]
pub fn number(value: &[u8]) -> Option<u32> {
    u32_at(value, 0)
}

/// The link's speed in Mb/s.
#[must_use]
pub fn speed(value: &[u8]) -> Option<u32> {
    number(value)?.checked_div(SPEED_UNITS_PER_MB)
}

/// An Ethernet address that an interface can have: not a group's, and not 0.
#[must_use]
pub fn address(value: &[u8]) -> Option<[u8; 6]> {
    let address: [u8; 6] = array_at(value, 0)?;
    let [first, ..] = address;
    (first & 1 == 0 && address != [0; 6]).then_some(address)
}

/// Bytes of the longest name, in UTF-8, that is kept.
pub const MAX_NAME: usize = 255;

/// A name, as UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; MAX_NAME],
    len: usize,
}

impl Name {
    /// From UTF-16. `None` for one that says nothing: empty, or what every
    /// adapter is called. What does not fit is cut off.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut name = Name {
            bytes: [0; MAX_NAME],
            len: 0,
        };
        let units = value.chunks_exact(2).map(|unit| match unit {
            [low, high] => u16::from_le_bytes([*low, *high]),
            _ => 0,
        });
        for c in char::decode_utf16(units.take_while(|unit| *unit != 0)) {
            // A control character has no place in a name that tools print.
            let c = c
                .ok()
                .filter(|c| *c >= ' ' && !('\x7f'..='\u{9f}').contains(c));
            if !name.push(c.unwrap_or(char::REPLACEMENT_CHARACTER)) {
                break;
            }
        }
        let bytes = name.bytes();
        (!bytes.is_empty() && bytes != b"Network Adapter").then_some(name)
    }

    fn push(&mut self, c: char) -> bool {
        let [code, ..] = u32::from(c).to_le_bytes();
        let bits = |shift: u32, mask: u32| {
            let [bits, ..] = ((u32::from(c) >> shift) & mask).to_le_bytes();
            bits
        };
        // Six bits, marked as a continuation.
        let tail = |shift| 0x80 | bits(shift, 0x3f);
        let bytes = match c.len_utf8() {
            1 => [code, 0, 0, 0],
            2 => [0xc0 | bits(6, 0x1f), tail(0), 0, 0],
            3 => [0xe0 | bits(12, 0xf), tail(6), tail(0), 0],
            _ => [0xf0 | bits(18, 7), tail(12), tail(6), tail(0)],
        };
        let end = self.len.saturating_add(c.len_utf8());
        let from = bytes.get(..c.len_utf8());
        let (Some(to), Some(from)) = (self.bytes.get_mut(self.len..end), from) else {
            return false;
        };
        to.copy_from_slice(from);
        self.len = end;
        true
    }

    /// Its bytes, without a terminator.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// Name of the parameter that is the interface's address.
const ADDRESS_PARAMETER: &[u8; 14] = b"NetworkAddress";
/// Head of a named parameter, in bytes.
const PARAMETER_HEAD: u32 = 20;
const NAME_BYTES: u32 = 28;
const VALUE_BYTES: u32 = 24;
const PARAMETER_BYTES: usize = 20 + 28 + 24;

const _: () = assert!(ADDRESS_PARAMETER.len() * 2 == 28);

/// Builds the request that sets the interface's address.
pub fn set_address(buffer: &mut [u8], id: u32, address: [u8; 6]) -> Option<usize> {
    const STRING: u32 = 2;
    let (len, value) = rndis::set_with(buffer, id, oid::CONFIG_PARAMETER, PARAMETER_BYTES)?;
    let head = [
        PARAMETER_HEAD,
        NAME_BYTES,
        STRING,
        PARAMETER_HEAD + NAME_BYTES,
        VALUE_BYTES,
    ];
    let mut at = 0usize;
    for word in head {
        put(value, at, &word.to_le_bytes());
        at = at.saturating_add(4);
    }
    let digits = address.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.map(|digit| match digit {
        0..=9 => b'0'.wrapping_add(digit),
        _ => b'a'.wrapping_add(digit).wrapping_sub(10),
    });
    for c in ADDRESS_PARAMETER.iter().copied().chain(digits) {
        put(value, at, &u16::from(c).to_le_bytes());
        at = at.saturating_add(2);
    }
    Some(len)
}
