// SPDX-License-Identifier: GPL-2.0

//! The two hypercalls of the VMBus: post a message, signal an event (TLFS sections 11.12, 11.13).

use crate::ffi;
use core::{fmt, ptr};
use vmbus_protocol::synic::PostMessageInput;

/// What the hypervisor answered to a hypercall that failed (TLFS appendix B).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u64);

impl Status {
    const SUCCESS: u64 = 0;
    const INVALID_PARAMETER: Status = Status(0x05);
    const INVALID_CONNECTION_ID: Status = Status(0x12);

    /// As the hypervisor gives it.
    pub(crate) fn raw(self) -> u64 {
        self.0
    }

    /// Nobody is at the other end of the connection.
    pub(crate) fn is_no_connection(self) -> bool {
        self == Self::INVALID_CONNECTION_ID
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

fn check(status: u64) -> Result<(), Status> {
    match status {
        Status::SUCCESS => Ok(()),
        other => Err(Status(other)),
    }
}

/// Posts `payload` to the host port behind `connection`. More than 240 bytes are refused.
///
/// Any context, NMI included: takes no lock, allocates nothing, and keeps interrupts off while it
/// uses the CPU's hypercall page.
pub(crate) fn post_message(connection: u32, payload: &[u8]) -> Result<(), Status> {
    let input = PostMessageInput::new(connection, payload).ok_or(Status::INVALID_PARAMETER)?;

    // SAFETY: `input` is valid for reads of its size, which is less than a page.
    check(unsafe {
        ffi::vmbus_shim_post_message(
            ptr::from_ref(&input).cast(),
            size_of::<PostMessageInput>() as u32,
        )
    })
}

/// Signals the host's event flag behind `connection`, the doorbell of one channel.
///
/// Any context.
pub(crate) fn signal_event(connection: u32) -> Result<(), Status> {
    // SAFETY: A fast hypercall: its input is in registers, no memory is involved.
    check(unsafe { ffi::vmbus_shim_signal_event(connection) })
}
