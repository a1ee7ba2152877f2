// SPDX-License-Identifier: GPL-2.0

//! What units answer.

use storvsc_protocol::inbound::Status;

/// It has done what it was asked for.
pub(crate) fn good() -> Status {
    status(1, 0, 0, 0, 0)
}

/// A status with sense data.
pub(crate) fn status(srb: u8, scsi: u8, key: u8, asc: u8, ascq: u8) -> Status {
    let mut sense = [0; 20];
    (sense[0], sense[2], sense[7]) = (0x70, key, 10);
    (sense[12], sense[13]) = (asc, ascq);
    Status {
        scsi,
        srb,
        nt: 0,
        transferred: 0,
        sense_len: 20,
        sense,
    }
}
