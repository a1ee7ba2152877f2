// SPDX-License-Identifier: GPL-2.0

//! The synthetic interrupt controller of each CPU (TLFS chapter 11).
//!
//! The hypervisor delivers to SINT 2 of a CPU: one message at a time in a slot of the CPU's
//! message page, and channel events as bits in the CPU's event flags page.

use crate::{
    ffi,
    memory::{FlagPage, SharedPage, PAGE_BYTES},
};
use kernel::{
    cpu::CpuId,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed},
};
use vmbus_protocol::synic::{
    event_flags_offset, message_slot_offset, MessageSlot, EVENT_FLAGS_COUNT, HVMSG_NONE,
    MESSAGE_SINT, SLOT_FLAGS_OFFSET, SLOT_PAYLOAD_OFFSET, SLOT_PAYLOAD_SIZE_OFFSET,
    SLOT_TYPE_OFFSET,
};

/// Registers (TLFS section 11.8.1): the MSR numbers of x86.
mod msr {
    pub(super) const SCONTROL: u32 = 0x4000_0080;
    pub(super) const SIEFP: u32 = 0x4000_0082;
    pub(super) const SIMP: u32 = 0x4000_0083;
    pub(super) const EOM: u32 = 0x4000_0084;
    pub(super) const SINT0: u32 = 0x4000_0090;
}

/// Bit 0 of SCONTROL, SIMP and SIEFP: enabled.
const ENABLE: u64 = 1;
/// Bits 12 and up of SIMP and SIEFP: the page's guest physical address.
const BASE_MASK: u64 = !0xfff;
/// Bits of a SINT register.
const SINT_VECTOR_MASK: u64 = 0xff;
const SINT_MASKED: u64 = 1 << 16;
const SINT_AUTO_EOI: u64 = 1 << 17;

/// Words of event flags that one SINT has.
pub(crate) const EVENT_WORDS: usize = EVENT_FLAGS_COUNT as usize / 64;

fn get(reg: u32) -> u64 {
    // SAFETY: A SynIC register of this CPU, which exists because this is a Hyper-V guest.
    unsafe { ffi::hv_get_msr(reg) }
}

fn set(reg: u32, value: u64) {
    // SAFETY: A SynIC register of this CPU. Values with an address name pages that `Synic` owns
    // and that it keeps until the register is disabled.
    unsafe { ffi::hv_set_msr(reg, value) }
}

/// The pages of one CPU.
struct CpuPages {
    message: SharedPage,
    event: FlagPage,
}

/// The SynIC pages of all CPUs, indexed by CPU number.
pub(crate) struct Synic {
    cpus: KVec<Option<CpuPages>>,
}

impl Synic {
    /// Allocates the pages of every CPU that this machine has. May sleep.
    pub(crate) fn new() -> Result<Self> {
        let count = kernel::cpu::nr_cpu_ids();
        let mut cpus = KVec::with_capacity(count as usize, GFP_KERNEL)?;

        for cpu in 0..count {
            let present = CpuId::from_u32(cpu).is_some_and(super::cpu_present);
            let pages = if present {
                Some(CpuPages {
                    message: SharedPage::new()?,
                    event: FlagPage::new()?,
                })
            } else {
                None
            };

            cpus.push(pages, GFP_KERNEL)?;
        }
        Ok(Self { cpus })
    }

    fn pages(&self, cpu: CpuId) -> Option<&CpuPages> {
        self.cpus.get(cpu.as_u32() as usize)?.as_ref()
    }

    /// Programs the SynIC of `cpu`. Runs on that CPU.
    ///
    /// `ENODEV` when the CPU was not there when the module was loaded.
    pub(crate) fn enable(&self, cpu: CpuId) -> Result {
        let pages = self.pages(cpu).ok_or(ENODEV)?;

        set(
            msr::SIMP,
            (get(msr::SIMP) & !BASE_MASK) | pages.message.phys() | ENABLE,
        );
        set(
            msr::SIEFP,
            (get(msr::SIEFP) & !BASE_MASK) | pages.event.page().phys() | ENABLE,
        );

        // SAFETY: No requirements; a constant and a flag set at boot.
        let (vector, auto_eoi) = unsafe {
            (
                ffi::vmbus_shim_callback_vector(),
                ffi::vmbus_shim_auto_eoi(),
            )
        };
        let reg = msr::SINT0 + u32::from(MESSAGE_SINT);
        let kept = get(reg) & !(SINT_VECTOR_MASK | SINT_MASKED | SINT_AUTO_EOI);

        set(
            reg,
            kept | u64::from(vector) | if auto_eoi { SINT_AUTO_EOI } else { 0 },
        );
        set(msr::SCONTROL, get(msr::SCONTROL) | ENABLE);
        Ok(())
    }

    /// Takes the SynIC of the running CPU out of service; its pages are free after that.
    ///
    /// Any context, also a crash: registers only. Synthetic timers go on: the kernel uses them in
    /// direct mode, which needs no SynIC.
    pub(crate) fn disable_this_cpu() {
        let reg = msr::SINT0 + u32::from(MESSAGE_SINT);

        set(reg, get(reg) | SINT_MASKED);
        set(msr::SIMP, get(msr::SIMP) & !BASE_MASK & !ENABLE);
        set(msr::SIEFP, get(msr::SIEFP) & !BASE_MASK & !ENABLE);
        set(msr::SCONTROL, get(msr::SCONTROL) & !ENABLE);
    }

    /// Takes the channel events of 64 relids that are pending on `cpu`, as a bit mask.
    #[inline]
    pub(crate) fn take_events(&self, cpu: CpuId, word: usize) -> u64 {
        match self.pages(cpu) {
            Some(pages) => pages.event.take(event_flags_offset(MESSAGE_SINT), word),
            None => 0,
        }
    }

    /// Whether channel events of 64 relids are pending on `cpu`.
    pub(crate) fn has_events(&self, cpu: CpuId, word: usize) -> bool {
        self.pages(cpu)
            .is_some_and(|pages| pages.event.is_set(event_flags_offset(MESSAGE_SINT), word))
    }

    /// The message slot of `cpu`.
    #[inline]
    pub(crate) fn slot(&self, cpu: CpuId) -> Option<SynicSlot<'_>> {
        Some(SynicSlot(&self.pages(cpu)?.message))
    }

    /// Tells the hypervisor that this CPU's slot is free again.
    pub(crate) fn end_of_message() {
        set(msr::EOM, 0);
    }
}

/// The message slot of one CPU, in memory that the hypervisor writes.
pub(crate) struct SynicSlot<'a>(&'a SharedPage);

const _: () = assert!(message_slot_offset(MESSAGE_SINT) + 256 <= PAGE_BYTES);

impl SynicSlot<'_> {
    fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: The callers' offsets are inside a slot, and the slot is inside the page.
        unsafe {
            self.0
                .as_ptr()
                .add(message_slot_offset(MESSAGE_SINT) + offset)
        }
    }

    fn kind(&self) -> &Atomic<u32> {
        // SAFETY: An aligned word of the page, which lives as long as the slot.
        unsafe { Atomic::from_ptr(self.at(SLOT_TYPE_OFFSET).cast::<u32>()) }
    }

    /// Whether a message waits. One load.
    #[inline]
    pub(crate) fn is_occupied(&self) -> bool {
        self.kind().load(Relaxed) != HVMSG_NONE
    }
}

impl MessageSlot for SynicSlot<'_> {
    fn message_type(&self) -> u32 {
        self.kind().load(Acquire)
    }

    fn payload_size(&self) -> u8 {
        // SAFETY: A byte of the slot.
        unsafe { self.at(SLOT_PAYLOAD_SIZE_OFFSET).read_volatile() }
    }

    fn message_flags(&self) -> u8 {
        // SAFETY: A byte of the slot.
        unsafe { self.at(SLOT_FLAGS_OFFSET).read_volatile() }
    }

    fn copy_payload(&self, dst: &mut [u8]) {
        for (index, byte) in dst.iter_mut().enumerate().take(240) {
            // SAFETY: The payload of a slot has 240 bytes.
            *byte = unsafe { self.at(SLOT_PAYLOAD_OFFSET + index).read_volatile() };
        }
    }

    fn clear_type(&self, old: u32) -> bool {
        self.kind().cmpxchg(old, HVMSG_NONE, Full).is_ok()
    }

    fn full_barrier(&self) {
        crate::memory::full_barrier();
    }
}
