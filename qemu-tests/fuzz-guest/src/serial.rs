// SPDX-License-Identifier: GPL-2.0

//! The serial line, which the harness reads.

use core::fmt;

use crate::cpu::{inb, outb};

const PORT: u16 = 0x3f8;
const LINE_STATUS: u16 = PORT + 5;
const EMPTY: u8 = 0x20;

/// The first serial port; QEMU's needs no set-up.
pub(crate) struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while inb(LINE_STATUS) & EMPTY == 0 {}
            outb(PORT, byte);
        }
        Ok(())
    }
}

/// Print a line.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        // The serial line takes everything.
        let _ = writeln!($crate::serial::Serial, $($argument)*);
    }};
}
