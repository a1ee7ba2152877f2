// SPDX-License-Identifier: GPL-2.0

//! Virtual functions: which card is one of an adapter, and by which path frames go.
//!
//! The host may pass a part of a real card to the guest, a virtual function, beside the adapter,
//! with the same Ethernet address. It tells of it (`VF_ASSOCIATION`) and the card appears on a PCI
//! bus, in either order. The guest joins the two, and asks the host to send by the card
//! (`SWITCH_DATA_PATH`) when the card can be used, and by the adapter before it goes. Nothing is
//! lost when it goes by surprise: frames go by the adapter at once.

use core::fmt;

/// Bytes of an Ethernet address.
const ADDRESS_LEN: usize = 6;

/// How frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// By the adapter's channels.
    Synthetic,
    /// By the virtual function.
    Function,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Synthetic => "synthetic",
            Self::Function => "virtual function",
        })
    }
}

/// A network card that might be a virtual function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card<'a> {
    /// The name of the PCI slot it is in, if it is in one that has a name.
    pub slot: Option<&'a [u8]>,
    /// Its own address. Before it is registered there is none yet.
    pub permanent: [u8; ADDRESS_LEN],
    /// The address that it has now.
    pub address: [u8; ADDRESS_LEN],
}

/// Why a card is taken for the virtual function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is in the slot that the host has named, and has the adapter's address.
    Serial,
    /// It has the adapter's address.
    Address,
}

/// A decimal number, as the name of a slot: digits, with a sign in front and a line break behind at
/// most.
#[must_use]
pub fn serial(name: &[u8]) -> Option<u32> {
    let name = name.strip_suffix(b"\n").unwrap_or(name);
    let digits = name.strip_prefix(b"+").unwrap_or(name);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Whether a card is the virtual function of an adapter with the address `ours`, as the C driver
/// decides: it has that address, and is in a slot whose name is a number. `named` is the serial
/// number that the host has said.
#[must_use]
pub fn claim(ours: [u8; ADDRESS_LEN], named: Option<u32>, card: &Card<'_>) -> Option<Claim> {
    let serial = card.slot.and_then(serial)?;
    if named == Some(serial) && card.permanent == ours {
        return Some(Claim::Serial);
    }
    (card.permanent == ours || card.address == ours).then_some(Claim::Address)
}

/// Where the host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    /// There is no connection.
    Gone,
    /// It has said so, or has just been connected to.
    On(Path),
    /// It was asked for a path, and did not answer.
    Unknown,
}

/// By which path frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// The serial number of the virtual function that the host says there is.
    named: Option<u32>,
    /// A card is joined to the adapter, and whether it can be used.
    joined: bool,
    usable: bool,
    host: Host,
    /// What the host is being asked for.
    asked: Option<Path>,
    /// Counts connections: answers of former ones say nothing.
    connections: u32,
}

impl Default for Failover {
    fn default() -> Self {
        Self::new()
    }
}

/// A request that is under way.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Asked {
    /// The path that is asked for.
    pub path: Path,
    connection: u32,
}

impl Failover {
    /// Neither connection nor card.
    #[must_use]
    pub const fn new() -> Self {
        Failover {
            named: None,
            joined: false,
            usable: false,
            host: Host::Gone,
            asked: None,
            connections: 0,
        }
    }

    /// The host says that there is a virtual function with this serial number, or none any more.
    /// Returns whether that is something else than before.
    pub fn associate(&mut self, present: bool, serial: u32) -> bool {
        let named = present.then_some(serial);
        core::mem::replace(&mut self.named, named) != named
    }

    /// The serial number that the host has said.
    #[must_use]
    pub const fn named(&self) -> Option<u32> {
        self.named
    }

    /// A card is joined; it is not used yet.
    pub fn join(&mut self) {
        self.joined = true;
        self.usable = false;
    }

    /// None is joined any more.
    pub fn leave(&mut self) {
        self.joined = false;
        self.usable = false;
    }

    /// Whether one is joined.
    #[must_use]
    pub const fn is_joined(&self) -> bool {
        self.joined
    }

    /// The card that is joined is up and has a link, or not.
    pub fn set_usable(&mut self, usable: bool) {
        self.usable = usable && self.joined;
    }

    /// There is a new connection. The host begins with the adapter.
    pub fn connected(&mut self) {
        self.host = Host::On(Path::Synthetic);
        self.asked = None;
        self.connections = self.connections.wrapping_add(1);
    }

    /// There is no connection any more.
    pub fn disconnected(&mut self) {
        self.host = Host::Gone;
        self.asked = None;
        self.connections = self.connections.wrapping_add(1);
    }

    /// By which path frames are to go.
    #[must_use]
    pub fn wanted(&self) -> Path {
        if self.usable && self.named.is_some() {
            Path::Function
        } else {
            Path::Synthetic
        }
    }

    /// Whether frames are sent by the card. Never while the host is being asked for something else,
    /// or before it has said that it takes them.
    #[must_use]
    pub fn sends_by_card(&self) -> bool {
        self.asked.is_none()
            && self.host == Host::On(Path::Function)
            && self.wanted() == Path::Function
    }

    /// The path that the host has confirmed last, if it is known.
    #[must_use]
    pub fn confirmed(&self) -> Option<Path> {
        match self.host {
            Host::On(path) if self.asked.is_none() => Some(path),
            _ => None,
        }
    }

    /// Whether the host was asked and did not answer: nobody waits for it who holds what others
    /// need.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.host == Host::Unknown
    }

    /// What the host is to be asked for now, if anything; then [`Self::answered`] has to be called.
    pub fn ask(&mut self) -> Option<Asked> {
        let path = self.wanted();
        if self.asked.is_some() || self.host == Host::Gone || self.host == Host::On(path) {
            return None;
        }
        self.asked = Some(path);
        Some(Asked {
            path,
            connection: self.connections,
        })
    }

    /// The host has done what it was asked, or did not say so in time.
    pub fn answered(&mut self, asked: Asked, done: bool) {
        if asked.connection != self.connections {
            return;
        }
        self.asked = None;
        self.host = if done {
            Host::On(asked.path)
        } else {
            Host::Unknown
        };
    }
}
