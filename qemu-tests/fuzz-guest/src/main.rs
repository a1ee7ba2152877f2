// SPDX-License-Identifier: GPL-2.0

//! A guest without a kernel that breaks the rules of the SynIC and of hypercalls.
//!
//! First it checks that what the TLFS or KVM has an answer to gets that answer: an error status, #GP,
//! #UD, an interrupt, a message. Then all its CPUs do random things for a while. Then the checks have to
//! pass again. Its host must survive, and it must as well: it gives the host no memory that its own
//! program is in.
//!
//! The command line: `seed=N ms=N end=exit|reset|crash x2apic=0|1`.

#![no_std]
#![no_main]

mod boot;
mod checks;
mod cpu;
mod fuzz;
mod hyperv;
mod memory;
mod random;
mod serial;
mod vmbus;

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use hyperv::msr;

/// What the exit device makes of these: `(value << 1) | 1` is QEMU's exit status.
const EXIT_DEVICE: u16 = 0xf4;
const EXIT_PASSED: u8 = 0x10;
const EXIT_FAILED: u8 = 0x11;

/// The second CPU is there.
static SECOND_IS_UP: AtomicBool = AtomicBool::new(false);
/// It may begin.
static SECOND_MAY_GO: AtomicBool = AtomicBool::new(false);
/// It has ended.
static SECOND_IS_DONE: AtomicBool = AtomicBool::new(false);
/// What the random numbers begin with.
static SEED: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// The beginning of what QEMU tells a PVH guest (Xen's `struct hvm_start_info`).
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
}

/// An argument's value.
fn argument<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    command_line.split_ascii_whitespace().find_map(|word| {
        word.split_once('=')
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
    })
}

fn number(command_line: &str, name: &str, default: u64) -> u64 {
    argument(command_line, name).map_or(default, |value| value.parse().expect("a number"))
}

/// Copy a text that ends with a zero.
///
/// # Safety
///
/// There must be one.
unsafe fn copy_text(from: *const u8, to: &mut [u8]) -> &str {
    let mut length = 0;
    while length < to.len() {
        // SAFETY: by the caller's promise, up to the zero.
        to[length] = unsafe { from.add(length).read() };
        if to[length] == 0 {
            break;
        }
        length += 1;
    }
    core::str::from_utf8(&to[..length]).expect("ASCII")
}

#[no_mangle]
extern "C" fn first_cpu(info: *const StartInfo) -> ! {
    let mut buffer = [0_u8; 256];
    // SAFETY: QEMU's PVH loader has put both below 1 MiB, and nothing has been written there yet.
    let command_line = unsafe { copy_text((*info).command_line as *const u8, &mut buffer) };

    cpu::set_up(0);
    mask_legacy_interrupts();
    let x2apic = number(command_line, "x2apic", 0) == 1;
    let seed = number(command_line, "seed", 1);
    let milliseconds = number(command_line, "ms", 1000);
    let end = argument(command_line, "end").unwrap_or("exit");
    SEED.store(seed, SeqCst);
    enable_apic(x2apic);
    cpu::enable_interrupts();

    let mut checks = checks::Checks::new();
    checks.run();
    let cpus = if number(command_line, "cpus", 1) > 1 {
        checks.second_cpu_starts(x2apic);
        2
    } else {
        1
    };
    checks.must_have_passed("before");
    let deadline = fuzz::now() + milliseconds * 10_000;
    SECOND_MAY_GO.store(true, SeqCst);
    fuzz::run(0, seed, Some(deadline));
    while cpus > 1 && !SECOND_IS_DONE.load(SeqCst) {
        core::hint::spin_loop();
    }
    fuzz::put_away();
    checks.run_again();
    checks.must_have_passed("after");
    fuzz::report(seed, cpus, &checks);
    finish(end)
}

#[no_mangle]
extern "C" fn second_cpu() -> ! {
    cpu::set_up(1);
    enable_apic(is_x2apic());
    SECOND_IS_UP.store(true, SeqCst);
    while !SECOND_MAY_GO.load(SeqCst) {
        core::hint::spin_loop();
    }
    cpu::enable_interrupts();
    fuzz::run(1, SEED.load(SeqCst) ^ (1 << 40), None);
    fuzz::put_away();
    cpu::disable_interrupts();
    SECOND_IS_DONE.store(true, SeqCst);
    cpu::halt()
}

/// The way to end that was asked for.
fn finish(end: &str) -> ! {
    say!("fuzz guest: passed");
    match end {
        "reset" => cpu::wrmsr(msr::RESET, 1).expect("a reset"),
        "crash" => cpu::wrmsr(msr::CRASH_CTL, 1 << 63).expect("a crash"),
        _ => cpu::outb(EXIT_DEVICE, EXIT_PASSED),
    }
    cpu::halt()
}

/// Both PICs of the PC: no interrupt from them.
fn mask_legacy_interrupts() {
    cpu::outb(0x21, 0xff);
    cpu::outb(0xa1, 0xff);
}

const MSR_APIC_BASE: u32 = 0x1b;
const MSR_X2APIC_SPURIOUS: u32 = 0x80f;
const XAPIC_SPURIOUS: *mut u32 = 0xfee0_00f0 as *mut u32;
const SPURIOUS: u32 = 0x1ff;
const X2APIC: u64 = 1 << 10;

/// Whether this CPU has a local APIC.
pub(crate) fn has_apic() -> bool {
    cpu::cpuid(1).edx & (1 << 9) != 0
}

fn enable_apic(x2apic: bool) {
    if !has_apic() {
        return;
    }
    if x2apic {
        let base = cpu::rdmsr(MSR_APIC_BASE).expect("an APIC has a base");
        cpu::wrmsr(MSR_APIC_BASE, base | X2APIC).expect("x2APIC");
        cpu::wrmsr(MSR_X2APIC_SPURIOUS, SPURIOUS.into()).expect("x2APIC");
    } else {
        // SAFETY: a register of the APIC, mapped to itself.
        unsafe { XAPIC_SPURIOUS.write_volatile(SPURIOUS) };
    }
}

/// The mode of the first CPU, which has set the second one's seed already.
fn is_x2apic() -> bool {
    checks::X2APIC.load(SeqCst)
}

/// An exception where none was expected.
pub(crate) fn fail_in_exception(vector: u64, rip: u64, error: u64) -> ! {
    say!("fuzz guest: exception {vector} at {rip:#x}, error code {error:#x}");
    fail()
}

fn fail() -> ! {
    say!("fuzz guest: FAILED");
    cpu::outb(EXIT_DEVICE, EXIT_FAILED);
    cpu::halt()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say!("fuzz guest: {info}");
    fail()
}
