// SPDX-License-Identifier: GPL-2.0

//! What the host's answer to a SCSI command means for the SCSI midlayer.

use crate::inbound::Status;

/// Host byte of a SCSI result (`enum scsi_host_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HostByte {
    /// The status byte and the sense data say it all.
    Ok = 0x00,
    /// There is no such device.
    NoConnect = 0x01,
    /// An error; retried within the limit of retries.
    Error = 0x07,
    /// A pass-through command; hand the result on as it is.
    Passthrough = 0x0a,
    /// Not an error: try again.
    Requeue = 0x0d,
}

/// What has to be done about the logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followup {
    /// Read its properties again.
    Rescan,
    /// Find out whether it is still the same, before anything else is sent there.
    Identify,
    /// The units of its bus have changed: the same for each of them.
    Notice,
    /// Look at each unit of its target: the host does not list them.
    LookAtAll,
}

/// When to print a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Not at any `logging_level`.
    None = 0,
    /// With `logging_level` 1 and more.
    Error = 1,
    /// With `logging_level` 2.
    Warning = 2,
}

/// The result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Host byte.
    pub host: HostByte,
    /// SCSI status byte.
    pub scsi: u8,
    /// Bytes that were not transferred; at most the length of the data.
    pub residual: u32,
    /// The sense data is for the midlayer.
    pub sense: bool,
    /// What to do besides.
    pub followup: Option<Followup>,
    /// Whether to print it.
    pub log: LogLevel,
}

impl Outcome {
    /// Of a command with `data_len` bytes of data that the host did not do.
    #[must_use]
    pub const fn not_done(host: HostByte, data_len: u32) -> Self {
        Outcome {
            host,
            scsi: GOOD,
            residual: data_len,
            sense: false,
            followup: None,
            log: LogLevel::None,
        }
    }

    /// The result as the midlayer wants it.
    #[inline]
    #[must_use]
    pub const fn result(&self) -> i32 {
        i32::from_le_bytes([self.scsi, 0, self.host as u8, 0])
    }
}

/// The parts of a command that its result depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// First byte of the command block.
    pub opcode: u8,
    /// `INQUIRY` for vital product data.
    pub vpd: bool,
    /// Bytes of data.
    pub data_len: u32,
}

const TEST_UNIT_READY: u8 = 0x00;
const REQUEST_SENSE: u8 = 0x03;
const INQUIRY: u8 = 0x12;
const REPORT_LUNS: u8 = 0xa0;
const MODE_SENSE: u8 = 0x1a;
const MODE_SENSE_10: u8 = 0x5a;
const ATA_16: u8 = 0x85;
const ATA_12: u8 = 0xa1;

pub(crate) const GOOD: u8 = 0;
const CHECK_CONDITION: u8 = 2;
const BUSY: u8 = 0x08;
const TASK_SET_FULL: u8 = 0x28;

const UNIT_ATTENTION: u8 = 6;

/// Flag in the SRB status: the sense data is valid.
pub const AUTOSENSE_VALID: u8 = 0x80;
/// The SRB status without its two flags.
pub(crate) const CODE: u8 = 0x3f;
/// The host's storage stack did it.
pub(crate) const SUCCESS: u8 = 0x01;
const DATA_OVERRUN: u8 = 0x12;

/// What the status codes of the host's storage stack have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It worked.
    Success,
    /// It failed, and the sense data says why.
    Failed,
    /// The logical unit is not there (any more).
    NoUnit,
    /// The device or a part of the way to it is not there.
    NoDevice,
    /// Busy.
    Busy,
    /// A code that the C driver does not know.
    Other,
}

/// The codes (`SRB_STATUS_*`); all others are [`Class::Other`].
const CLASSES: [(u8, Class); 15] = [
    (SUCCESS, Class::Success),
    (0x02, Class::Failed), // aborted
    (0x04, Class::Failed), // error
    (0x05, Class::Busy),
    (0x06, Class::Failed),   // invalid request
    (0x07, Class::NoDevice), // invalid path
    (0x08, Class::NoDevice),
    (0x09, Class::Failed), // timeout
    (0x0a, Class::Failed), // selection timeout
    (0x0e, Class::Failed), // bus reset
    (0x11, Class::NoDevice),
    (DATA_OVERRUN, Class::Failed),
    (0x20, Class::NoUnit),
    (0x21, Class::NoDevice), // invalid target
    (0x30, Class::Failed),   // internal error
];

/// The class of an SRB status.
#[must_use]
pub fn class(srb_status: u8) -> Class {
    let code = srb_status & CODE;
    CLASSES
        .iter()
        .find(|(known, _)| *known == code)
        .map_or(Class::Other, |(_, class)| *class)
}

/// Additional sense code and qualifier, in fixed or descriptor format.
#[must_use]
pub fn sense_code(sense: &[u8]) -> Option<(u8, u8)> {
    let format = sense.first()? & 0x7f;
    let (code, qualifier) = match format {
        0x70 | 0x71 if sense.get(7)? >= &6 => (sense.get(12)?, sense.get(13)?),
        0x72 | 0x73 => (sense.get(2)?, sense.get(3)?),
        _ => return None,
    };
    Some((*code, *qualifier))
}

/// Sense key, in fixed or descriptor format.
#[must_use]
pub fn sense_key(sense: &[u8]) -> Option<u8> {
    let key = match sense.first()? & 0x7f {
        0x70 | 0x71 => sense.get(2)?,
        0x72 | 0x73 => sense.get(1)?,
        _ => return None,
    };
    Some(key & 0xf)
}

/// The sense data says that the unit's properties changed: its capacity
/// (2A/09), or its operating parameters (3F, but not `inquiry data changed`,
/// 03, and `reported LUNs changed`, 0E), which is what a differencing disk
/// with another block size looks like.
fn says_changed(sense: &[u8]) -> bool {
    match sense_code(sense) {
        Some((0x2a, 0x09)) => true,
        Some((0x3f, qualifier)) => qualifier != 0x03 && qualifier != 0x0e,
        _ => false,
    }
}

/// What the sense data says about the unit: that it was reset or is new (29), or
/// that its identity (3F/03) or the set of units (3F/0E) is another one.
pub(crate) fn hint(sense: &[u8]) -> Option<Followup> {
    match sense_code(sense)? {
        (0x29, _) | (0x3f, 0x03) => Some(Followup::Identify),
        (0x3f, 0x0e) => Some(Followup::Notice),
        _ => says_changed(sense).then_some(Followup::Rescan),
    }
}

/// What has to be done about the unit after a command that failed.
///
/// That a unit is not there is a hint too, and no more: hosts also refuse single
/// commands so (`REPORT LUNS`), and it may be back.
fn followup(opcode: u8, class: Class, sense: Option<&[u8]>) -> Option<Followup> {
    let hint = sense.and_then(hint);
    match (class, opcode) {
        (Class::NoUnit | Class::NoDevice, INQUIRY) => None,
        (_, REPORT_LUNS) if hint.is_none() && class != Class::Busy => Some(Followup::LookAtAll),
        (Class::NoUnit | Class::NoDevice, _) | (_, REQUEST_SENSE) => Some(Followup::Identify),
        _ => hint,
    }
}

/// Decides what an answer means (`storvsc_on_io_completion` and what it
/// calls).
///
/// It differs from the C driver where that one reports a success without any
/// data, which the block layer repeats for ever: a code that is no success,
/// together with SCSI status `GOOD`, is an error; and a success with flags is
/// a success. An `INQUIRY` of a unit that is not there makes no unit. A host
/// that says busy is asked again for as long as the midlayer likes, which
/// knows two SCSI statuses for that; a busy host without one is given `BUSY`.
#[inline]
#[must_use]
pub fn outcome(sent: &Sent, status: &Status) -> Outcome {
    if status.scsi == GOOD && status.srb & CODE == SUCCESS {
        return Outcome {
            host: HostByte::Ok,
            scsi: GOOD,
            residual: sent.data_len.saturating_sub(status.transferred),
            sense: false,
            // It may have taken the unit attention of a new unit away.
            followup: (sent.opcode == REQUEST_SENSE).then_some(Followup::Identify),
            log: LogLevel::None,
        };
    }
    failure(sent, status)
}

/// With a host byte the midlayer tries as often as a command may be retried,
/// which is five times; with the SCSI status alone for as long as it may run,
/// and with `TASK SET FULL` it lowers the queue's depth.
pub(crate) fn says_busy(class: Class, scsi: u8) -> bool {
    match scsi {
        BUSY | TASK_SET_FULL => !matches!(class, Class::NoUnit | Class::NoDevice),
        GOOD => class == Class::Busy,
        _ => false,
    }
}

#[cold]
fn failure(sent: &Sent, status: &Status) -> Outcome {
    let log = if sent.opcode == TEST_UNIT_READY {
        LogLevel::Warning
    } else {
        LogLevel::Error
    };
    let class = class(status.srb);
    let has_sense = status.srb & AUTOSENSE_VALID != 0;
    let followup = followup(sent.opcode, class, has_sense.then(|| status.sense()));
    if says_busy(class, status.scsi) {
        return Outcome {
            host: HostByte::Ok,
            scsi: if status.scsi == GOOD {
                BUSY
            } else {
                status.scsi
            },
            residual: sent.data_len,
            sense: false,
            followup,
            log: LogLevel::Warning,
        };
    }
    let absent = matches!(class, Class::NoUnit | Class::NoDevice);
    let masked = match sent.opcode {
        INQUIRY => sent.vpd || !absent,
        MODE_SENSE | MODE_SENSE_10 => true,
        _ => false,
    };
    if masked {
        // Hosts answer some pages with an error, and the data is there.
        return Outcome {
            host: HostByte::Ok,
            scsi: GOOD,
            residual: sent.data_len.saturating_sub(status.transferred),
            sense: false,
            followup,
            log: LogLevel::Warning,
        };
    }
    // A notice of the unit, not an error: the midlayer prints what matters. That a unit has gone is
    // said once, when that is known.
    let is_notice = has_sense && sense_key(status.sense()) == Some(UNIT_ATTENTION);
    let log = if is_notice || class == Class::NoUnit {
        LogLevel::Warning
    } else {
        log
    };
    let sense = has_sense && status.scsi == CHECK_CONDITION;
    let host = match class {
        Class::Success => HostByte::Ok,
        Class::Failed if followup == Some(Followup::Rescan) => HostByte::Requeue,
        Class::Failed if has_sense => HostByte::Ok,
        Class::Failed => match sent.opcode {
            ATA_12 | ATA_16 => HostByte::Passthrough,
            TEST_UNIT_READY => HostByte::Ok,
            _ => HostByte::Error,
        },
        Class::NoUnit | Class::NoDevice => HostByte::NoConnect,
        Class::Busy | Class::Other => HostByte::Ok,
    };
    let host = if host == HostByte::Ok && class != Class::Success && status.scsi == GOOD {
        HostByte::Error
    } else {
        host
    };
    let transferred = match status.srb & CODE {
        SUCCESS | DATA_OVERRUN => status.transferred,
        _ => 0,
    };
    Outcome {
        host,
        scsi: status.scsi,
        residual: sent.data_len.saturating_sub(transferred),
        sense,
        followup,
        log,
    }
}
