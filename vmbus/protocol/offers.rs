// SPDX-License-Identifier: GPL-2.0

//! Admission of channel offers.
//!
//! The host's offers decide what is put into the relid table and which devices
//! appear, so each is checked against the live channels first. Linux trusts
//! several of these fields (`drivers/hv/channel_mgmt.c:vmbus_onoffer`).

use crate::{
    class,
    guid::Guid,
    message::{Offer, OfferFlags, MAX_CHANNEL_RELIDS},
    synic::MonitorBit,
    Relid,
};
use core::fmt;

/// What admission needs to know of a live channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveChannel {
    /// Its relid.
    pub relid: Relid,
    /// Device class.
    pub class: Guid,
    /// Device instance.
    pub instance: Guid,
    /// 0 for a primary channel.
    pub sub_channel_index: u16,
    /// It was rescinded and only waits to be released.
    pub rescinded: bool,
}

/// What the guest allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Highest relid accepted, at most 2047.
    pub max_relid: u32,
    /// The VM does not trust its host: only some classes.
    pub isolated: bool,
    /// Confidential channels were negotiated (version 6.0 and a paravisor).
    pub confidential: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_relid: MAX_CHANNEL_RELIDS.wrapping_sub(1),
            isolated: false,
            confidential: false,
        }
    }
}

/// What to do with an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A new device.
    Primary(Properties),
    /// A further channel of a live device.
    SubChannel {
        /// Relid of the live primary.
        primary_relid: Relid,
        /// What was found out about the offer.
        properties: Properties,
    },
    /// The offer is wrong: drop it, count it, report it once.
    Refuse(OfferError),
}

/// Checked facts about an accepted offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Bit of the monitor page to signal with; `None` means the hypercall. An
    /// id out of range counts as none.
    pub monitor: Option<MonitorBit>,
    /// A monitor id was allocated but is out of range: worth one log line.
    pub bad_monitor_id: Option<u8>,
    /// The rings stay encrypted.
    pub confidential_ring: bool,
    /// Other shared memory stays encrypted.
    pub confidential_external_memory: bool,
    /// Entry of the class table; `None` for unknown classes and sockets.
    pub class: Option<&'static class::ClassInfo>,
    /// A Hyper-V socket.
    pub hvsock: bool,
}

/// Why an offer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferError {
    /// Relid 0, above the table, or the invalid one.
    RelidOutOfRange {
        /// The relid.
        relid: Relid,
    },
    /// A live channel has this relid.
    DuplicateRelid {
        /// The relid.
        relid: Relid,
    },
    /// A live primary channel has this instance.
    DuplicateInstance {
        /// Relid of the live one.
        live_relid: Relid,
    },
    /// A live sub-channel has this index.
    DuplicateSubChannel {
        /// The index.
        index: u16,
    },
    /// A sub-channel of a device that does not exist.
    NoPrimary {
        /// Its index.
        index: u16,
    },
    /// The class is not allowed in an isolated VM.
    NotAllowedInIsolation,
    /// Confidential flags although that was not negotiated.
    ConfidentialNotNegotiated,
    /// External memory is to stay encrypted, but the rings are not.
    ConfidentialMemoryWithoutRing,
}

impl OfferError {
    /// The relid belongs to the refused offer: the host counts it as given
    /// away, and it has to be handed back once the host rescinds the offer. Not
    /// so if no table has it, or another channel does.
    #[must_use]
    pub const fn has_relid(&self) -> bool {
        !matches!(
            self,
            OfferError::RelidOutOfRange { .. } | OfferError::DuplicateRelid { .. }
        )
    }
}

impl fmt::Display for OfferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OfferError::RelidOutOfRange { relid } => write!(f, "relid {relid} out of range"),
            OfferError::DuplicateRelid { relid } => write!(f, "relid {relid} is in use"),
            OfferError::DuplicateInstance { live_relid } => {
                write!(f, "instance is in use by relid {live_relid}")
            }
            OfferError::DuplicateSubChannel { index } => {
                write!(f, "sub-channel {index} exists")
            }
            OfferError::NoPrimary { index } => {
                write!(f, "sub-channel {index} has no primary channel")
            }
            OfferError::NotAllowedInIsolation => {
                f.write_str("class is not allowed in an isolated VM")
            }
            OfferError::ConfidentialNotNegotiated => {
                f.write_str("confidential channels were not negotiated")
            }
            OfferError::ConfidentialMemoryWithoutRing => {
                f.write_str("external memory is confidential, the ring is not")
            }
        }
    }
}

/// Decides about an offer. `live` yields every channel that is not yet
/// released, in any order.
///
/// A refused offer is not answered: RELID_RELEASED comes after a rescind only,
/// see [`OfferError::has_relid`]. Until then it has to be among `live`, as
/// rescinded: its relid is taken, its instance is not.
///
/// Classes that no driver exists for are admitted like others: they are devices
/// all the same (`lsvmbus` lists them).
pub fn admit<I>(offer: &Offer, live: I, limits: &Limits) -> Admission
where
    I: IntoIterator<Item = LiveChannel>,
{
    if offer.relid.raw() == 0 || offer.relid.raw() > limits.max_relid.min(MAX_CHANNEL_RELIDS - 1) {
        return Admission::Refuse(OfferError::RelidOutOfRange { relid: offer.relid });
    }
    let primary_relid = match find_primary(offer, live) {
        Ok(primary_relid) => primary_relid,
        Err(error) => return Admission::Refuse(error),
    };
    let properties = match check_properties(offer, limits) {
        Ok(properties) => properties,
        Err(error) => return Admission::Refuse(error),
    };
    if !offer.is_sub_channel() {
        return Admission::Primary(properties);
    }
    match primary_relid {
        Some(primary_relid) => Admission::SubChannel {
            primary_relid,
            properties,
        },
        None => Admission::Refuse(OfferError::NoPrimary {
            index: offer.sub_channel_index,
        }),
    }
}

/// The live primary channel of an offered sub-channel, if there is one; an error if a live channel
/// stands in the way.
fn find_primary<I>(offer: &Offer, live: I) -> Result<Option<Relid>, OfferError>
where
    I: IntoIterator<Item = LiveChannel>,
{
    let mut primary_relid = None;
    for channel in live {
        if channel.relid == offer.relid {
            return Err(OfferError::DuplicateRelid { relid: offer.relid });
        }
        if channel.instance != offer.instance || channel.rescinded {
            continue;
        }
        let same_class = channel.class == offer.class;
        match (offer.sub_channel_index, channel.sub_channel_index) {
            (0, 0) => {
                return Err(OfferError::DuplicateInstance {
                    live_relid: channel.relid,
                })
            }
            (_, 0) if same_class => primary_relid = Some(channel.relid),
            (index, other) if index == other && same_class => {
                return Err(OfferError::DuplicateSubChannel { index })
            }
            _ => {}
        }
    }
    Ok(primary_relid)
}

fn check_properties(offer: &Offer, limits: &Limits) -> Result<Properties, OfferError> {
    let hvsock = offer.is_hvsock();
    let class = if hvsock {
        None
    } else {
        class::by_guid(&offer.class)
    };
    if limits.isolated && !hvsock && !class.is_some_and(|class| class.allowed_in_isolated) {
        return Err(OfferError::NotAllowedInIsolation);
    }
    let confidential_ring = offer.flags.contains(OfferFlags::CONFIDENTIAL_RING_BUFFER);
    let confidential_external_memory = offer
        .flags
        .contains(OfferFlags::CONFIDENTIAL_EXTERNAL_MEMORY);
    if confidential_external_memory && !confidential_ring {
        return Err(OfferError::ConfidentialMemoryWithoutRing);
    }
    if confidential_ring && !limits.confidential {
        return Err(OfferError::ConfidentialNotNegotiated);
    }
    let monitor = offer.monitor_id.and_then(MonitorBit::new);
    Ok(Properties {
        monitor,
        bad_monitor_id: offer.monitor_id.filter(|_| monitor.is_none()),
        confidential_ring,
        confidential_external_memory,
        class,
        hvsock,
    })
}
