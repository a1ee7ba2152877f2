// SPDX-License-Identifier: GPL-2.0

//! What has one right answer. Where the TLFS leaves a choice, it is KVM's (arch/x86/kvm/hyperv.c).

use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::boot;
use crate::cpu::{self, hypercall, rdmsr, wrmsr, Call, PROTECTION, UNDEFINED};
use crate::fuzz::now;
use crate::hyperv::{code, control, msr, status, stimer, ENABLE, SINT_AUTO_EOI, SINT_MASKED};
use crate::hyperv::{MESSAGE_PENDING, MESSAGE_TIMER_EXPIRED};
use crate::memory::{self, read, write, INPUT, NO_MEMORY, PAGE};
use crate::say;

/// Whether the first CPU has chosen x2APIC mode.
pub(crate) static X2APIC: AtomicBool = AtomicBool::new(false);

/// Any guest OS but none.
const OS_ID: u64 = 0x8100_0007_0300_0000;

/// The vector and SINT of the checks.
const VECTOR: u8 = 0x51;
const SINT: u32 = 3;

/// 100 ms, in the units of the reference time.
const LONG: u64 = 1_000_000;

/// Counts what was checked.
pub(crate) struct Checks {
    /// How many there were.
    pub(crate) done: u64,
    failed: u64,
}

/// The slot of a SINT in the message page.
pub(crate) fn slot(sint: u32) -> u64 {
    memory::SIMP + u64::from(sint) * 256
}

fn message_type(sint: u32) -> u32 {
    read(slot(sint))
}

/// Wait for something, but not for long.
pub(crate) fn soon(mut condition: impl FnMut() -> bool) -> bool {
    let end = now() + 100 * LONG;
    while now() < end {
        if condition() {
            return true;
        }
        core::hint::spin_loop();
    }
    condition()
}

/// Let a little time go by, 2 ms.
fn pause() {
    let end = now() + LONG / 50;
    while now() < end {
        core::hint::spin_loop();
    }
}

pub(crate) fn set(msr: u32, value: u64) {
    if let Err(vector) = wrmsr(msr, value) {
        panic!("WRMSR {msr:#x}, {value:#x} raises {vector}");
    }
}

fn get(msr: u32) -> u64 {
    match rdmsr(msr) {
        Ok(value) => value,
        Err(vector) => panic!("RDMSR {msr:#x} raises {vector}"),
    }
}

impl Checks {
    pub(crate) fn new() -> Self {
        Self { done: 0, failed: 0 }
    }

    pub(crate) fn expect<T: PartialEq + core::fmt::Debug>(
        &mut self,
        what: &str,
        found: T,
        expected: T,
    ) {
        self.expect_at(what, 0, found, expected);
    }

    /// The same for one of many cases.
    pub(crate) fn expect_at<T: PartialEq + core::fmt::Debug>(
        &mut self,
        what: &str,
        which: u64,
        found: T,
        expected: T,
    ) {
        self.done += 1;
        if found != expected {
            self.failed += 1;
            if self.failed < 50 {
                say!("check: {what} ({which:#x}): expected {expected:?}, found {found:?}");
            }
        }
    }

    /// Give up if a check has failed.
    pub(crate) fn must_have_passed(&self, when: &str) {
        assert!(
            self.failed == 0,
            "{} of {} checks failed {when} the random part",
            self.failed,
            self.done
        );
    }

    /// All of them.
    pub(crate) fn run(&mut self) {
        self.leaves();
        self.reset_values();
        self.other_msrs();
        self.sints();
        self.hypercall_page();
        self.hypercalls();
        self.messages();
        self.signals();
        self.user_mode();
        self.clock();
        self.pages_without_memory();
        self.timers();
        self.channels();
        if crate::has_apic() {
            self.apic();
            self.interrupts();
        }
        self.put_away();
    }

    /// Those that need no state fresh from reset.
    pub(crate) fn run_again(&mut self) {
        set(msr::GUEST_OS_ID, 0);
        self.hypercall_page();
        self.hypercalls();
        self.messages();
        self.signals();
        self.clock();
        self.timers();
        if crate::has_apic() {
            self.interrupts();
        }
        self.put_away();
    }

    fn put_away(&mut self) {
        crate::fuzz::put_away();
        set(msr::GUEST_OS_ID, OS_ID);
    }

    /// CPUID (TLFS 2.4).
    fn leaves(&mut self) {
        self.expect(
            "the interface is Hv#1",
            cpu::cpuid(0x4000_0001).eax,
            0x3123_7648,
        );
        let last = cpu::cpuid(0x4000_0000).eax;
        self.expect("leaves up to 0x40000005", last >= 0x4000_0005, true);
    }

    fn reset_values(&mut self) {
        self.expect("SVERSION", rdmsr(msr::SVERSION), Ok(1));
        self.expect("VP_INDEX", rdmsr(msr::VP_INDEX), Ok(0));
        for zero in [
            msr::GUEST_OS_ID,
            msr::HYPERCALL,
            msr::RESET,
            msr::REFERENCE_TSC,
            msr::VP_ASSIST_PAGE,
            msr::SIEFP,
            msr::SIMP,
            msr::EOM,
        ] {
            self.expect_at("zero after reset", zero.into(), rdmsr(zero), Ok(0));
        }
        for sint in 0..16 {
            let value = rdmsr(msr::sint(sint));
            self.expect_at("SINT after reset", sint.into(), value, Ok(SINT_MASKED));
        }
    }

    /// The whole range: what is not there raises #GP, as does a write to what is read-only.
    fn other_msrs(&mut self) {
        for msr in msr::ALL.filter(|msr| !msr::exists(*msr)) {
            self.expect_at("RDMSR", msr.into(), rdmsr(msr), Err(PROTECTION));
            self.expect_at("WRMSR", msr.into(), wrmsr(msr, 0), Err(PROTECTION));
            self.expect_at("WRMSR", msr.into(), wrmsr(msr, u64::MAX), Err(PROTECTION));
        }
        for msr in msr::ALL.filter(|msr| msr::is_read_only(*msr)) {
            let before = rdmsr(msr);
            self.expect_at("RDMSR", msr.into(), before.is_ok(), true);
            for value in [0, 1, u64::MAX] {
                self.expect_at("read-only", msr.into(), wrmsr(msr, value), Err(PROTECTION));
            }
        }
    }

    /// KVM: `synic_set_sint`.
    fn sints(&mut self) {
        for sint in (0..16).map(msr::sint) {
            for vector in 0..256 {
                let expected = if vector < 16 { Err(PROTECTION) } else { Ok(()) };
                set(sint, SINT_MASKED);
                let found = wrmsr(sint, vector | SINT_AUTO_EOI);
                self.expect_at("an unmasked SINT", vector, found, expected);
                let now = if vector < 16 {
                    SINT_MASKED
                } else {
                    vector | SINT_AUTO_EOI
                };
                self.expect_at("it reads back", vector, rdmsr(sint), Ok(now));
                self.expect_at(
                    "a masked SINT",
                    vector,
                    wrmsr(sint, vector | SINT_MASKED),
                    Ok(()),
                );
            }
            self.expect("all bits", wrmsr(sint, u64::MAX), Ok(()));
            self.expect("all bits read back", rdmsr(sint), Ok(u64::MAX));
            set(sint, SINT_MASKED);
        }
    }

    /// TLFS 3.13, "Establishing the Hypercall Interface"; KVM: `kvm_hv_set_msr_pw`.
    fn hypercall_page(&mut self) {
        let enabled = memory::HYPERCALL | ENABLE;
        self.expect("no OS, the page", wrmsr(msr::HYPERCALL, enabled), Ok(()));
        self.expect("no OS, no page", get(msr::HYPERCALL) & ENABLE, 0);
        for call in [Call::Vmcall, Call::Vmmcall] {
            let result = hypercall(call, code::NOTIFY_LONG_SPIN_WAIT, 0, 0);
            self.expect("no OS, no hypercalls", result, Err(UNDEFINED));
        }

        set(msr::GUEST_OS_ID, OS_ID);
        self.expect("an OS, the page", wrmsr(msr::HYPERCALL, enabled), Ok(()));
        self.expect("it reads back", rdmsr(msr::HYPERCALL), Ok(enabled));
        let code: u32 = read(memory::HYPERCALL);
        let is_call = code == 0xc3c1_010f || code == 0xc3d9_010f;
        self.expect_at("VMCALL or VMMCALL, RET", code.into(), is_call, true);
        let result = call_page(code::NOTIFY_LONG_SPIN_WAIT, 0, 0);
        self.expect("a call of the page", result, status::SUCCESS);
        for page in NO_MEMORY {
            let found = wrmsr(msr::HYPERCALL, page | ENABLE);
            self.expect_at("no memory for the page", page, found, Err(PROTECTION));
            self.expect_at("it stays", page, rdmsr(msr::HYPERCALL), Ok(enabled));
            self.expect_at(
                "no memory, no page",
                page,
                wrmsr(msr::HYPERCALL, page),
                Ok(()),
            );
            set(msr::HYPERCALL, enabled);
        }
        set(msr::GUEST_OS_ID, 0);
        self.expect("no OS any more", get(msr::HYPERCALL) & ENABLE, 0);
        set(msr::GUEST_OS_ID, OS_ID);
        set(msr::HYPERCALL, enabled);
    }

    fn result(&mut self, what: &str, value: u64, input: u64, expected: u64) {
        for call in [Call::Vmcall, Call::Vmmcall] {
            let found = hypercall(call, value, input, 0);
            self.expect_at(what, value, found, Ok(expected));
        }
    }

    /// Control words; KVM: `kvm_hv_hypercall`.
    fn hypercalls(&mut self) {
        let known = [
            code::NOTIFY_LONG_SPIN_WAIT,
            code::POST_MESSAGE,
            code::SIGNAL_EVENT,
        ];
        for code in (0..0x1_0000).filter(|code| !known.contains(code)) {
            let found = hypercall(Call::Vmcall, code, 0, 0);
            let expected = Ok(status::INVALID_HYPERCALL_CODE);
            self.expect_at("an unknown code", code, found, expected);
        }
        let bad = status::INVALID_HYPERCALL_INPUT;
        for bit in (0..64).map(|bit| 1_u64 << bit) {
            if bit & control::RESERVED != 0 {
                self.result("a reserved bit", bit | code::NOTIFY_LONG_SPIN_WAIT, 0, bad);
                self.result("a reserved bit", bit | 0x3333, 0, bad);
            }
        }
        for code in known {
            for extra in [
                control::variable_header(1),
                control::repetitions(1),
                control::first_repetition(1),
            ] {
                self.result("a simple call", code | extra, INPUT, bad);
                self.result("a simple call, fast", code | extra | control::FAST, 0, bad);
            }
        }
        self.result(
            "the spin wait",
            code::NOTIFY_LONG_SPIN_WAIT,
            0,
            status::SUCCESS,
        );
        let fast = code::NOTIFY_LONG_SPIN_WAIT | control::FAST;
        self.result("the spin wait, fast", fast, 0, status::SUCCESS);
        // The bits of RCX above the code's do not belong to it, those below 16 all do.
        self.result(
            "other codes",
            code::POST_MESSAGE | 0x8000,
            0,
            status::INVALID_HYPERCALL_CODE,
        );
    }

    fn post(&mut self, what: &str, input: u64, expected: u64) {
        self.result(what, code::POST_MESSAGE, input, expected);
    }

    /// HvPostMessage; KVM leaves it to QEMU, so both are `hyperv_hcall_post_message`.
    fn messages(&mut self) {
        let fast = code::POST_MESSAGE | control::FAST;
        self.result("a fast message", fast, 0, status::INVALID_HYPERCALL_CODE);
        compose(INPUT, 0x12_3456, 1, 8);
        for offset in 1..4 {
            self.post(
                "an unaligned message",
                INPUT + offset,
                status::INVALID_ALIGNMENT,
            );
        }
        self.post("an unknown port", INPUT, status::INVALID_CONNECTION_ID);
        compose(INPUT, 0x12_3456, 1, 241);
        self.post("too long a message", INPUT, status::INVALID_HYPERCALL_INPUT);
        compose(INPUT, 0x12_3456, 1, u32::MAX);
        self.post("too long a message", INPUT, status::INVALID_HYPERCALL_INPUT);
        compose(INPUT, 1, 2, 8);
        self.post(
            "not a VMBus message",
            INPUT,
            status::INVALID_HYPERCALL_INPUT,
        );
        compose(INPUT, 1, 1, 7);
        self.post(
            "too short a VMBus message",
            INPUT,
            status::INVALID_HYPERCALL_INPUT,
        );
        for page in NO_MEMORY {
            self.post(
                "a message outside of memory",
                page,
                status::INSUFFICIENT_MEMORY,
            );
        }
        self.post(
            "half outside",
            memory::END - 128,
            status::INSUFFICIENT_MEMORY,
        );
    }

    /// HvSignalEvent; KVM: `kvm_hvcall_signal_event`, then `hyperv_hcall_signal_event` of QEMU.
    fn signals(&mut self) {
        let slow = code::SIGNAL_EVENT;
        let fast = code::SIGNAL_EVENT | control::FAST;
        self.result(
            "an unknown event port",
            fast,
            0x1234,
            status::INVALID_CONNECTION_ID,
        );
        self.result(
            "an event flag's number",
            fast,
            0x1_0000_0002,
            status::INVALID_PORT_ID,
        );
        let bad = status::INVALID_HYPERCALL_INPUT;
        self.result("a reserved bit of an event", fast, 0x0100_0002, bad);
        self.result("a reserved bit of an event", fast, 1 << 63, bad);
        self.result("VMBus's event", fast, 2, status::SUCCESS);
        for offset in 1..8 {
            self.result("unaligned", slow, INPUT + offset, status::INVALID_ALIGNMENT);
        }
        for page in NO_MEMORY {
            self.result("outside of memory", slow, page, status::INVALID_ALIGNMENT);
        }
        write(INPUT, 0x1234_u64);
        self.result("unknown, slow", slow, INPUT, status::INVALID_CONNECTION_ID);
        write(INPUT, 2_u64);
        self.result("VMBus's, slow", slow, INPUT, status::SUCCESS);
    }

    /// Hypercalls and MSRs are for ring 0.
    fn user_mode(&mut self) {
        // SAFETY: the addresses of two instructions, never read as data.
        let (call, read) = unsafe { (&boot::user_vmcall, &boot::user_rdmsr) };
        self.expect("a hypercall of ring 3", cpu::in_user_mode(call), UNDEFINED);
        self.expect("RDMSR in ring 3", cpu::in_user_mode(read), PROTECTION);
    }

    /// The reference time: MSR and page agree (TLFS 12.7, "Partition Reference Time Enlightenment").
    fn clock(&mut self) {
        let frequency = get(msr::TSC_FREQUENCY);
        self.expect_at("a TSC", frequency, frequency > 10_000_000, true);
        self.expect("it stays", rdmsr(msr::TSC_FREQUENCY), Ok(frequency));
        self.expect(
            "a page",
            wrmsr(msr::REFERENCE_TSC, memory::REFERENCE_TSC | ENABLE),
            Ok(()),
        );
        let sequence: u32 = read(memory::REFERENCE_TSC);
        let scale: u64 = read(memory::REFERENCE_TSC + 8);
        let offset: u64 = read(memory::REFERENCE_TSC + 16);
        self.expect("the page is valid", sequence != 0, true);
        let mut last = 0;
        for i in 0..10_000 {
            let before = now();
            let page = ((u128::from(cpu::tsc()) * u128::from(scale)) >> 64) as u64;
            let page = page.wrapping_add(offset);
            let after = now();
            self.expect_at("the clock goes forward", i, last <= before, true);
            self.expect_at("the page is not behind", before, before <= page, true);
            self.expect_at("the page is not ahead", after, page <= after, true);
            last = after;
        }
        set(msr::REFERENCE_TSC, 0);
        let after = now();
        self.expect(
            "without page it goes on",
            after >= last && after < last + 10 * LONG,
            true,
        );
    }

    /// KVM neither complains about such a page of messages or of time, nor writes anywhere.
    fn pages_without_memory(&mut self) {
        for page in NO_MEMORY {
            for msr in [msr::SIMP, msr::SIEFP, msr::REFERENCE_TSC] {
                let value = page | ENABLE;
                self.expect_at("no memory for it", page, wrmsr(msr, value), Ok(()));
                self.expect_at("it reads back", page, rdmsr(msr), Ok(value));
                set(msr, 0);
            }
            let found = wrmsr(msr::VP_ASSIST_PAGE, page | ENABLE);
            self.expect_at("no memory for assistance", page, found, Err(PROTECTION));
        }
        set(msr::VP_ASSIST_PAGE, memory::FREE | (8 * PAGE) | ENABLE);
        set(msr::VP_ASSIST_PAGE, 0);
    }

    /// Synthetic timers; KVM: `stimer_set_config`, `stimer_expiration`. SINTs are masked.
    fn timers(&mut self) {
        enable_synic();
        let config = msr::STIMER0_CONFIG;
        let count = msr::STIMER0_COUNT;
        let through_sint = stimer::sint(SINT.into());

        set(config, through_sint | stimer::ENABLE);
        let start = now();
        set(count, start + LONG / 10);
        let came = soon(|| message_type(SINT) != 0);
        self.expect("a message of a timer", came, true);
        self.expect("its type", message_type(SINT), MESSAGE_TIMER_EXPIRED);
        self.expect("its size", read::<u8>(slot(SINT) + 4), 24);
        self.expect("its timer", read::<u32>(slot(SINT) + 16), 0);
        let expiration: u64 = read(slot(SINT) + 24);
        let delivery: u64 = read(slot(SINT) + 32);
        self.expect("its expiration", expiration, start + LONG / 10);
        self.expect(
            "its delivery",
            delivery >= expiration && delivery <= now(),
            true,
        );

        // The slot is in use: the next one waits for EOM.
        set(config + 2, through_sint | stimer::ENABLE);
        set(count + 2, 1);
        let pending = soon(|| read::<u8>(slot(SINT) + 5) & MESSAGE_PENDING != 0);
        self.expect("the next one waits", pending, true);
        self.expect("in its place", read::<u32>(slot(SINT) + 16), 0);
        write(slot(SINT), 0_u64);
        set(msr::EOM, 0);
        let came = soon(|| message_type(SINT) != 0);
        self.expect("EOM delivers it", came, true);
        self.expect("it is the other timer's", read::<u32>(slot(SINT) + 16), 1);
        write(slot(SINT), 0_u64);

        set(count, 0);
        self.expect("a count of 0 disables", get(config) & stimer::ENABLE, 0);
        set(config, stimer::AUTO_ENABLE | through_sint);
        set(count, u64::MAX);
        self.expect(
            "a count enables",
            get(config) & stimer::ENABLE,
            stimer::ENABLE,
        );
        set(config, stimer::AUTO_ENABLE | stimer::ENABLE);
        self.expect("SINT 0 disables", get(config) & stimer::ENABLE, 0);
        pause();
        self.expect("nothing came", message_type(SINT), 0);

        // 100 ns, which nobody can do: the machine goes on all the same.
        set(config, through_sint | stimer::PERIODIC | stimer::ENABLE);
        set(count, 1);
        for i in 0..20 {
            let came = soon(|| message_type(SINT) != 0);
            self.expect_at("a periodic message", i, came, true);
            write(slot(SINT), 0_u64);
            set(msr::EOM, 0);
        }
        set(config, 0);
        write(slot(SINT), 0_u64);
    }

    /// The three registers of the APIC that have MSRs; KVM: `kvm_hv_vapic_msr_write`.
    fn apic(&mut self) {
        self.expect("EOI cannot be read", rdmsr(msr::EOI), Err(PROTECTION));
        self.expect("EOI of 64 bits", wrmsr(msr::EOI, 1 << 32), Err(PROTECTION));
        self.expect(
            "a priority of 64 bits",
            wrmsr(msr::TPR, 1 << 32),
            Err(PROTECTION),
        );
        self.expect("a priority", wrmsr(msr::TPR, 0x20), Ok(()));
        self.expect("a priority reads back", rdmsr(msr::TPR), Ok(0x20));
        set(msr::TPR, 0);
        self.expect(
            "reserved bits of ICR",
            wrmsr(msr::ICR, 1 << 20),
            Err(PROTECTION),
        );
        let before = cpu::interrupts(VECTOR);
        // To itself, by shorthand.
        self.expect(
            "an IPI",
            wrmsr(msr::ICR, (1 << 18) | u64::from(VECTOR)),
            Ok(()),
        );
        let came = soon(|| cpu::interrupts(VECTOR) == before + 1);
        self.expect("the IPI came", came, true);
    }

    /// Let a timer send a message through the SINT, and take the message.
    fn tick(&mut self) {
        set(
            msr::STIMER0_CONFIG,
            stimer::sint(SINT.into()) | stimer::ENABLE,
        );
        set(msr::STIMER0_COUNT, 1);
        let came = soon(|| message_type(SINT) != 0);
        self.expect("a message", came, true);
        write(slot(SINT), 0_u64);
        set(msr::EOM, 0);
    }

    /// How SINTs and direct timers interrupt (TLFS 11.8.4).
    fn interrupts(&mut self) {
        enable_synic();
        let sint = msr::sint(SINT);
        let start = cpu::interrupts(VECTOR);
        let since = || cpu::interrupts(VECTOR) - start;

        set(sint, SINT_MASKED | u64::from(VECTOR));
        self.tick();
        pause();
        self.expect("a masked SINT drops it", since(), 0);

        set(sint, VECTOR.into());
        self.tick();
        self.expect("a SINT interrupts", soon(|| since() == 1), true);

        // Nobody says EOI: the next one waits, unless the SINT is one without EOI.
        cpu::acknowledge_interrupts(false);
        self.tick();
        self.expect("a SINT interrupts", soon(|| since() == 2), true);
        self.tick();
        pause();
        self.expect("without EOI the next one waits", since(), 2);
        cpu::end_of_interrupt();
        self.expect("after EOI it comes", soon(|| since() == 3), true);
        cpu::end_of_interrupt();
        set(sint, SINT_AUTO_EOI | u64::from(VECTOR));
        for i in 4..8 {
            self.tick();
            self.expect_at("it needs no EOI", i, soon(|| since() == i), true);
        }
        cpu::acknowledge_interrupts(true);
        set(sint, SINT_MASKED);

        set(msr::STIMER0_CONFIG, stimer::direct(VECTOR) | stimer::ENABLE);
        set(msr::STIMER0_COUNT, now() + LONG / 100);
        self.expect("a direct timer", soon(|| since() == 8), true);
        self.expect("once", get(msr::STIMER0_CONFIG) & stimer::ENABLE, 0);
        set(
            msr::STIMER0_CONFIG,
            stimer::direct(VECTOR) | stimer::PERIODIC | stimer::ENABLE,
        );
        set(msr::STIMER0_COUNT, 1);
        self.expect("a direct timer of 100 ns", soon(|| since() >= 50), true);
        set(msr::STIMER0_CONFIG, 0);
        pause();
        let last = since();
        pause();
        self.expect("it stops", since(), last);
    }

    /// Start the second CPU through Hyper-V's ICR.
    pub(crate) fn second_cpu_starts(&mut self, x2apic: bool) {
        X2APIC.store(x2apic, SeqCst);
        // SAFETY: both are addresses in the image, the end after the start; page 8 is nobody's yet.
        unsafe {
            let start = &raw const boot::trampoline_start;
            let bytes = &raw const boot::trampoline_end as usize - start as usize;
            core::ptr::copy(start, boot::TRAMPOLINE as *mut u8, bytes);
        }
        let destination = if x2apic { 1 << 32 } else { 1 << 56 };
        for command in [0x4500, 0x4600 | boot::TRAMPOLINE_VECTOR] {
            self.expect("INIT, SIPI", wrmsr(msr::ICR, destination | command), Ok(()));
            pause();
        }
        let up = soon(|| crate::SECOND_IS_UP.load(SeqCst));
        self.expect("the second CPU is up", up, true);
    }
}

/// The SynIC's pages in their places, empty, and all SINTs masked.
pub(crate) fn enable_synic() {
    set(msr::SCONTROL, ENABLE);
    set(msr::SIEFP, memory::SIEFP | ENABLE);
    set(msr::SIMP, memory::SIMP | ENABLE);
    for sint in 0..16 {
        set(msr::sint(sint), SINT_MASKED);
        write(slot(sint), [0_u64; 32]);
    }
}

/// Write a `struct hv_input_post_message`, with an empty payload.
pub(crate) fn compose(at: u64, connection: u32, message_type: u32, size: u32) {
    write(at, [connection, 0, message_type, size]);
    write(at + 16, [0_u32; 60]);
}

/// Call the hypercall page.
fn call_page(control: u64, input: u64, output: u64) -> u64 {
    let result;
    // SAFETY: the page was just enabled and seen to have a call in it; the hypercall is one that does
    // nothing. As in Linux, the registers of the calling convention may change.
    unsafe {
        core::arch::asm!("call {page}", page = in(reg) memory::HYPERCALL, inout("rcx") control => _,
            inout("rdx") input => _, inout("r8") output => _, out("rax") result,
            clobber_abi("sysv64"));
    }
    result
}
