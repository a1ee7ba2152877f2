// SPDX-License-Identifier: GPL-2.0

//! Numbers of the TLFS (Hypervisor Top Level Functional Specification), as far as they are used.

/// Appendix F, "Hypervisor Synthetic MSRs".
pub(crate) mod msr {
    pub(crate) const GUEST_OS_ID: u32 = 0x4000_0000;
    pub(crate) const HYPERCALL: u32 = 0x4000_0001;
    pub(crate) const VP_INDEX: u32 = 0x4000_0002;
    pub(crate) const RESET: u32 = 0x4000_0003;
    pub(crate) const VP_RUNTIME: u32 = 0x4000_0010;
    pub(crate) const TIME_REF_COUNT: u32 = 0x4000_0020;
    pub(crate) const REFERENCE_TSC: u32 = 0x4000_0021;
    pub(crate) const TSC_FREQUENCY: u32 = 0x4000_0022;
    pub(crate) const APIC_FREQUENCY: u32 = 0x4000_0023;
    pub(crate) const EOI: u32 = 0x4000_0070;
    pub(crate) const ICR: u32 = 0x4000_0071;
    pub(crate) const TPR: u32 = 0x4000_0072;
    pub(crate) const VP_ASSIST_PAGE: u32 = 0x4000_0073;
    pub(crate) const SCONTROL: u32 = 0x4000_0080;
    pub(crate) const SVERSION: u32 = 0x4000_0081;
    pub(crate) const SIEFP: u32 = 0x4000_0082;
    pub(crate) const SIMP: u32 = 0x4000_0083;
    pub(crate) const EOM: u32 = 0x4000_0084;
    pub(crate) const SINT0: u32 = 0x4000_0090;
    pub(crate) const SINT15: u32 = 0x4000_009f;
    pub(crate) const STIMER0_CONFIG: u32 = 0x4000_00b0;
    pub(crate) const STIMER0_COUNT: u32 = 0x4000_00b1;
    pub(crate) const STIMER3_COUNT: u32 = 0x4000_00b7;
    pub(crate) const CRASH_P0: u32 = 0x4000_0100;
    pub(crate) const CRASH_CTL: u32 = 0x4000_0105;
    /// The range that is Hyper-V's.
    pub(crate) const ALL: core::ops::RangeInclusive<u32> = 0x4000_0000..=0x4000_0fff;

    /// The MSR of a synthetic interrupt source.
    pub(crate) const fn sint(sint: u32) -> u32 {
        SINT0 + sint
    }

    /// Whether there is such an MSR under TCG. KVM has four more, for nested guests and an invariant TSC
    /// (0x40000106..108 and 118), whose features TCG lacks.
    pub(crate) fn exists(msr: u32) -> bool {
        matches!(msr,
            GUEST_OS_ID..=RESET
            | VP_RUNTIME
            | TIME_REF_COUNT..=APIC_FREQUENCY
            | EOI..=VP_ASSIST_PAGE
            | SCONTROL..=EOM
            | SINT0..=SINT15
            | STIMER0_CONFIG..=STIMER3_COUNT
            | CRASH_P0..=CRASH_CTL)
    }

    /// Whether a guest cannot write it (KVM: `kvm_hv_set_msr`, `kvm_hv_set_msr_pw`).
    pub(crate) fn is_read_only(msr: u32) -> bool {
        matches!(
            msr,
            VP_INDEX | VP_RUNTIME | TIME_REF_COUNT | TSC_FREQUENCY | APIC_FREQUENCY | SVERSION
        )
    }
}

/// In the MSRs that name a page: it is in use.
pub(crate) const ENABLE: u64 = 1;

/// In a SINT's MSR (TLFS 11.8.4, "SINTx Registers").
pub(crate) const SINT_MASKED: u64 = 1 << 16;
/// The interrupt needs no EOI.
pub(crate) const SINT_AUTO_EOI: u64 = 1 << 17;

/// In a timer's configuration (TLFS 12.2.1, "Synthetic Timer Configuration Register").
pub(crate) mod stimer {
    pub(crate) const ENABLE: u64 = 1 << 0;
    pub(crate) const PERIODIC: u64 = 1 << 1;
    pub(crate) const AUTO_ENABLE: u64 = 1 << 3;
    pub(crate) const DIRECT: u64 = 1 << 12;

    /// Expire through a message and this SINT.
    pub(crate) const fn sint(sint: u64) -> u64 {
        sint << 16
    }

    /// Expire through an interrupt.
    pub(crate) const fn direct(vector: u8) -> u64 {
        DIRECT | ((vector as u64) << 4)
    }
}

/// The type of a timer's message.
pub(crate) const MESSAGE_TIMER_EXPIRED: u32 = 0x8000_0010;
/// In the flags of a message: another one waits.
pub(crate) const MESSAGE_PENDING: u8 = 1;

/// Hypercall codes (TLFS, appendix A).
pub(crate) mod code {
    pub(crate) const NOTIFY_LONG_SPIN_WAIT: u64 = 0x08;
    pub(crate) const POST_MESSAGE: u64 = 0x5c;
    pub(crate) const SIGNAL_EVENT: u64 = 0x5d;
}

/// In the hypercall input value (TLFS 3.7, "Hypercall Inputs").
pub(crate) mod control {
    pub(crate) const FAST: u64 = 1 << 16;
    /// Bits 27-31, 44-47 and 60-63 must be zero.
    pub(crate) const RESERVED: u64 = 0xf000_f000_f800_0000;

    pub(crate) const fn variable_header(words: u64) -> u64 {
        words << 17
    }

    pub(crate) const fn repetitions(count: u64) -> u64 {
        count << 32
    }

    pub(crate) const fn first_repetition(index: u64) -> u64 {
        index << 48
    }
}

/// Hypercall results (TLFS, appendix B).
pub(crate) mod status {
    pub(crate) const SUCCESS: u64 = 0;
    pub(crate) const INVALID_HYPERCALL_CODE: u64 = 2;
    pub(crate) const INVALID_HYPERCALL_INPUT: u64 = 3;
    pub(crate) const INVALID_ALIGNMENT: u64 = 4;
    pub(crate) const INSUFFICIENT_MEMORY: u64 = 11;
    pub(crate) const INVALID_PORT_ID: u64 = 17;
    pub(crate) const INVALID_CONNECTION_ID: u64 = 18;
    pub(crate) const INSUFFICIENT_BUFFERS: u64 = 19;
}
