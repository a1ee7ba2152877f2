// SPDX-License-Identifier: GPL-2.0

//! Packets from the host: which are acted on, and how much of them counts.

use crate::{
    init,
    outcome::{CODE, GOOD, SUCCESS},
    packet::{Operation, Packet, Srb, BODY_LEN, MAX_SENSE, PACKET_LEN},
};
use core::fmt;
use static_assertions::const_assert;
use vmbus_protocol::requests::RESERVED_IDS;
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Transaction id of the bus reset (`VMBUS_RQST_RESET`).
pub const RESET_ID: u64 = u64::MAX - 3;

const INTERNAL_BASE: u64 = u64::MAX - 9;
/// Ids of the driver's own commands.
pub(crate) const INTERNAL_IDS: u64 = 6;
const_assert!(INTERNAL_IDS > crate::own::BUFFERS as u64);
const_assert!(INTERNAL_BASE + INTERNAL_IDS <= RESET_ID);

/// Transaction id of the driver's own command number `number`. They are used in turn, so a late or
/// repeated answer is not taken for that to the next command.
#[must_use]
pub const fn internal_id(number: u64) -> u64 {
    INTERNAL_BASE + number % INTERNAL_IDS
}

/// How a SCSI command ended, as the host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// SCSI status byte.
    pub scsi: u8,
    /// Status of the host's storage stack, with its flags.
    pub srb: u8,
    /// NT status of the packet.
    pub nt: u32,
    /// Bytes transferred, not checked.
    pub transferred: u32,
    /// Bytes of `sense` that are there; at most [`MAX_SENSE`].
    pub sense_len: u8,
    /// Sense data.
    pub sense: [u8; MAX_SENSE],
}

/// A packet that can be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Answer to a step of the initialisation.
    Init {
        /// Its transaction id.
        id: u64,
        /// The operation, normally `COMPLETE_IO`.
        operation: Operation,
        /// NT status.
        status: u32,
        /// The rest.
        body: [u8; BODY_LEN],
    },
    /// Answer to the bus reset, with its NT status.
    Reset(u32),
    /// A command ended. The id is not checked.
    Command(u64, Status),
    /// A command of the driver itself ended, with this id.
    Internal(u64, Status),
    /// The set of logical units changed.
    Rescan,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// Shorter than what its id requires.
    TooShort {
        /// Bytes of payload.
        len: usize,
        /// Bytes required.
        want: usize,
    },
    /// Without an id, and none of the operations that come without.
    Unsolicited(u32),
    /// With an id, but not an answer.
    NotAnAnswer(u32),
    /// An id of the reserved range that is never used.
    UnknownId(u64),
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PacketError::TooShort { len, want } => {
                write!(f, "packet of {len} bytes, {want} expected")
            }
            PacketError::Unsolicited(operation) => {
                write!(f, "unsolicited operation {operation}")
            }
            PacketError::NotAnAnswer(operation) => {
                write!(f, "operation {operation} in an answer")
            }
            PacketError::UnknownId(id) => write!(f, "transaction id {id:#x} is never used"),
        }
    }
}

impl Inbound {
    /// Judges a packet by its transaction id and payload, a private copy.
    ///
    /// Whatever has no id is a notice: only the two that tell of changed
    /// logical units are acted on, and their first 4 bytes are enough. An
    /// answer has all 64 bytes and, for a SCSI command, operation
    /// `COMPLETE_IO`; the C driver unmaps the command's memory for any other
    /// operation as well.
    ///
    /// # Errors
    ///
    /// See [`PacketError`]; the packet changes nothing then.
    #[inline]
    pub fn parse(id: u64, payload: &[u8]) -> Result<Self, PacketError> {
        let too_short = |want| PacketError::TooShort {
            len: payload.len(),
            want,
        };
        if id == 0 {
            let (operation, _) = zerocopy::little_endian::U32::read_from_prefix(payload)
                .map_err(|_| too_short(4))?;
            return match Operation(operation.get()) {
                Operation::REMOVE_DEVICE | Operation::ENUMERATE_BUS => Ok(Inbound::Rescan),
                other => Err(PacketError::Unsolicited(other.0)),
            };
        }
        let (packet, _) = Packet::ref_from_prefix(payload).map_err(|_| too_short(PACKET_LEN))?;
        let operation = Operation(packet.head.operation.get());
        let status = packet.head.status.get();
        if id >= RESERVED_IDS {
            if id == RESET_ID {
                return Ok(Inbound::Reset(status));
            }
            if (INTERNAL_BASE..INTERNAL_BASE + INTERNAL_IDS).contains(&id) {
                return Ok(Inbound::Internal(id, Status::of(packet)?));
            }
            if !init::is_init_id(id) {
                return Err(PacketError::UnknownId(id));
            }
            return Ok(Inbound::Init {
                id,
                operation,
                status,
                body: packet.body,
            });
        }
        Ok(Inbound::Command(id, Status::of(packet)?))
    }
}

impl Status {
    /// How the command ended that `packet` is the answer to.
    #[inline]
    fn of(packet: &Packet) -> Result<Self, PacketError> {
        let operation = Operation(packet.head.operation.get());
        if operation != Operation::COMPLETE_IO {
            return Err(PacketError::NotAnAnswer(operation.0));
        }
        let srb =
            Srb::ref_from_bytes(packet.body.as_bytes()).map_err(|_| PacketError::TooShort {
                len: packet.body.len(),
                want: BODY_LEN,
            })?;
        Ok(Status {
            scsi: srb.scsi_status,
            srb: srb.srb_status,
            nt: packet.head.status.get(),
            transferred: srb.transfer_length.get(),
            sense_len: srb.sense_length.min(20),
            sense: srb.cdb_or_sense,
        })
    }

    /// The unit did it, and has nothing to say.
    #[inline]
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.scsi == GOOD && self.srb & CODE == SUCCESS
    }

    /// The sense data that is there.
    #[must_use]
    pub fn sense(&self) -> &[u8] {
        self.sense
            .get(..usize::from(self.sense_len))
            .unwrap_or(&self.sense)
    }
}

/// Names of the status codes of the host's storage stack, without flags.
const SRB_NAMES: [(u8, &str); 12] = [
    (0x01, "success"),
    (0x02, "aborted"),
    (0x04, "error"),
    (0x05, "busy"),
    (0x06, "invalid request"),
    (0x08, "no device"),
    (0x09, "timeout"),
    (0x0a, "selection timeout"),
    (0x0e, "bus reset"),
    (0x12, "data overrun"),
    (0x20, "invalid LUN"),
    (0x30, "internal error"),
];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.srb & 0x3f;
        let name = SRB_NAMES
            .iter()
            .find(|(known, _)| *known == code)
            .map_or("unknown", |(_, name)| *name);
        write!(
            f,
            "scsi {:#x} srb {:#x} ({name}) host {:#x}",
            self.scsi, self.srb, self.nt
        )?;
        if let (true, Some((code, qualifier))) = (
            self.srb & 0x80 != 0,
            crate::outcome::sense_code(self.sense()),
        ) {
            write!(f, " sense {code:#x}/{qualifier:#x}")?;
        }
        Ok(())
    }
}
