// SPDX-License-Identifier: GPL-2.0

//! Marks for the plugin that counts instructions (`qemu-tests/qemu/plugins/icount.c`): two
//! instructions that do nothing, with a number that it knows.

use std::arch::asm;

/// What the plugin counts: from here until it is dropped. One at a time.
pub(crate) struct Window(());

impl Window {
    pub(crate) fn begin() -> Self {
        // SAFETY: the instruction does nothing, and does not use the address.
        unsafe { asm!("nop dword ptr [rax + 0x31424d56]", options(nostack)) };
        Self(())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { asm!("nop dword ptr [rax + 0x32424d56]", options(nostack)) };
    }
}
