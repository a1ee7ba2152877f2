// SPDX-License-Identifier: GPL-2.0

//! The CPU: its tables, its exceptions and interrupts, and instructions that may fault.

use core::arch::{asm, x86_64::__cpuid};
use core::cell::UnsafeCell;
use core::mem::size_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use crate::boot;

/// #UD.
pub(crate) const UNDEFINED: u64 = 6;
/// #GP.
pub(crate) const PROTECTION: u64 = 13;
const NMI: u64 = 2;

/// The Hyper-V MSR for EOI, which is there in xAPIC and x2APIC mode.
const MSR_EOI: u32 = 0x4000_0070;

/// At most two CPUs.
pub(crate) const CPUS: usize = 2;

extern "C" {
    fn try_rdmsr(msr: u32, value: *mut u64) -> u64;
    fn try_wrmsr(msr: u32, value: u64) -> u64;
    fn try_vmcall(control: u64, input: u64, output: u64, result: *mut u64) -> u64;
    fn try_vmmcall(control: u64, input: u64, output: u64, result: *mut u64) -> u64;
    fn try_in_user_mode(instruction: *const u8) -> u64;
    fn after_exception();
    static tested_instructions: [u64; 5];
    static stack_of_ring_0: UnsafeCell<u64>;
    static gdt: UnsafeCell<[u64; 10]>;
}

/// Read an MSR, or the vector of the exception.
pub(crate) fn rdmsr(msr: u32) -> Result<u64, u64> {
    let mut value = 0;
    // SAFETY: the function is in boot.rs; it writes to `value` only, and an exception is caught.
    match unsafe { try_rdmsr(msr, &mut value) } {
        0 => Ok(value),
        vector => Err(vector),
    }
}

/// Write an MSR, or the vector of the exception.
///
/// What the MSR does to memory is up to the caller: nothing in this program may name its own image.
pub(crate) fn wrmsr(msr: u32, value: u64) -> Result<(), u64> {
    // SAFETY: the function is in boot.rs, and an exception is caught. Addresses given to MSRs are
    // from `memory`, all outside of the image.
    match unsafe { try_wrmsr(msr, value) } {
        0 => Ok(()),
        vector => Err(vector),
    }
}

/// Which of the two instructions makes a hypercall.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Intel's.
    Vmcall,
    /// AMD's.
    Vmmcall,
}

/// Make a hypercall (TLFS 3, "Hypercall Interface"): its result value, or the exception's vector.
pub(crate) fn hypercall(call: Call, control: u64, input: u64, output: u64) -> Result<u64, u64> {
    let mut result = 0;
    // SAFETY: the functions are in boot.rs; they write to `result` only, and an exception is caught.
    let vector = unsafe {
        match call {
            Call::Vmcall => try_vmcall(control, input, output, &mut result),
            Call::Vmmcall => try_vmmcall(control, input, output, &mut result),
        }
    };
    match vector {
        0 => Ok(result),
        vector => Err(vector),
    }
}

/// Execute an instruction in ring 3, on the first CPU only: the vector of the exception it raises.
pub(crate) fn in_user_mode(instruction: &'static u8) -> u64 {
    // SAFETY: the instruction is one of boot.rs, followed by INT3: it ends with an exception in any
    // case, whose handler brings back ring 0 and its stack.
    let vector = unsafe { try_in_user_mode(instruction) };
    enable_interrupts();
    vector
}

/// CPUID.
pub(crate) fn cpuid(leaf: u32) -> core::arch::x86_64::CpuidResult {
    // SAFETY: every 64-bit CPU has the instruction.
    unsafe { __cpuid(leaf) }
}

/// The time stamp counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: reads a counter. The fences keep it in its place.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        let now = core::arch::x86_64::_rdtsc();
        core::arch::x86_64::_mm_lfence();
        now
    }
}

/// Write a byte to an I/O port.
pub(crate) fn outb(port: u16, value: u8) {
    // SAFETY: the ports this program uses are those of the serial line, the PICs and the exit device.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

/// Read a byte from an I/O port.
pub(crate) fn inb(port: u16) -> u8 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) };
    value
}

pub(crate) fn enable_interrupts() {
    // SAFETY: all vectors have handlers, from `set_up` on.
    unsafe { asm!("sti", options(nostack)) };
}

pub(crate) fn disable_interrupts() {
    // SAFETY: nothing here depends on interrupts.
    unsafe { asm!("cli", options(nostack)) };
}

/// Stop for good.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: nothing is to happen any more.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// What the entry code of boot.rs has pushed.
#[repr(C)]
pub(crate) struct Frame {
    r15_to_rcx: [u64; 14],
    rax: u64,
    vector: u64,
    /// All ones if the CPU has pushed none.
    error: u64,
    rip: u64,
    cs: u64,
    flags: u64,
    rsp: u64,
    ss: u64,
}

/// Interrupts since the start, by vector, of all CPUs.
static INTERRUPTS: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];
/// Exceptions that were caught, by vector.
static EXCEPTIONS: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];
/// Whether the handler tells the APIC that it is done.
static END_OF_INTERRUPT: AtomicBool = AtomicBool::new(true);

/// How many interrupts there were of this vector.
pub(crate) fn interrupts(vector: u8) -> u64 {
    INTERRUPTS[usize::from(vector)].load(SeqCst)
}

/// How many interrupts there were.
pub(crate) fn all_interrupts() -> u64 {
    INTERRUPTS.iter().map(|count| count.load(SeqCst)).sum()
}

/// How many exceptions of this vector were caught.
pub(crate) fn exceptions(vector: u64) -> u64 {
    EXCEPTIONS[vector as usize].load(SeqCst)
}

/// Have interrupts acknowledged, or not.
pub(crate) fn acknowledge_interrupts(yes: bool) {
    END_OF_INTERRUPT.store(yes, SeqCst);
}

/// Acknowledge the interrupt that is in service.
pub(crate) fn end_of_interrupt() {
    // SAFETY: this MSR takes zero and touches no memory.
    unsafe { try_wrmsr(MSR_EOI, 0) };
}

#[no_mangle]
extern "C" fn interrupt_handler(frame: &mut Frame) {
    let tested = {
        // SAFETY: a constant of boot.rs.
        unsafe { &tested_instructions }.contains(&frame.rip)
    };
    let user = frame.cs & 3 != 0;
    let exception = frame.error != u64::MAX || frame.vector == UNDEFINED || user;
    if exception {
        if !tested && !user {
            crate::fail_in_exception(frame.vector, frame.rip, frame.error);
        }
        EXCEPTIONS[frame.vector as usize % 32].fetch_add(1, SeqCst);
        if user {
            frame.cs = boot::KERNEL_CODE;
            frame.ss = boot::KERNEL_DATA;
            // SAFETY: only the first CPU goes to ring 3, and has saved its stack there.
            frame.rsp = unsafe { *stack_of_ring_0.get() };
        }
        frame.rip = after_exception as usize as u64;
        frame.rax = frame.vector;
        return;
    }
    INTERRUPTS[frame.vector as usize].fetch_add(1, SeqCst);
    if frame.vector != NMI && END_OF_INTERRUPT.load(SeqCst) {
        end_of_interrupt();
    }
}

/// A CPU's task state: only its interrupt stacks matter.
#[repr(C, packed(4))]
struct TaskState {
    reserved: u32,
    stacks: [u64; 3],
    reserved_2: u64,
    interrupt_stacks: [u64; 7],
    reserved_3: u64,
    io_map: u32,
}

const STACK: usize = 16384;

/// What a CPU needs for its interrupts.
#[repr(C, align(16))]
struct Tables {
    /// For all vectors but the NMI, and for the NMI: so the red zone of whatever is interrupted is safe.
    stacks: [[u8; STACK]; 2],
    task: TaskState,
}

const NO_TABLES: Tables = Tables {
    stacks: [[0; STACK]; 2],
    task: TaskState {
        reserved: 0,
        stacks: [0; 3],
        reserved_2: 0,
        interrupt_stacks: [0; 7],
        reserved_3: 0,
        io_map: size_of::<TaskState>() as u32,
    },
};

/// Memory that the CPU uses, too.
#[repr(C, align(4096))]
struct Shared<T>(UnsafeCell<T>);

// SAFETY: each user has a part of its own, as argued where it is used.
unsafe impl<T> Sync for Shared<T> {}

static TABLES: [Shared<Tables>; CPUS] = [const { Shared(UnsafeCell::new(NO_TABLES)) }; CPUS];
static VECTORS: Shared<[[u64; 2]; 256]> = Shared(UnsafeCell::new([[0; 2]; 256]));

/// The operand of LIDT.
#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// A gate to one of the entry points.
fn gate(vector: usize) -> [u64; 2] {
    let entry = &raw const boot::vector_stubs as u64 + vector as u64 * 16;
    let stack = if vector as u64 == NMI { 2 } else { 1 };
    // Present, for all rings (INT3 of ring 3), an interrupt gate.
    let access = 0xee00_u64 | stack;
    [
        entry & 0xffff
            | (boot::KERNEL_CODE << 16)
            | (access << 32)
            | (((entry >> 16) & 0xffff) << 48),
        entry >> 32,
    ]
}

/// The descriptor of a CPU's task state.
fn task_descriptor(task: u64) -> [u64; 2] {
    let limit = size_of::<TaskState>() as u64 - 1;
    [
        limit | ((task & 0xff_ffff) << 16) | (0x89 << 40) | (((task >> 24) & 0xff) << 56),
        task >> 32,
    ]
}

/// Give this CPU its interrupts, each on a stack of its own. Leaves them disabled.
pub(crate) fn set_up(cpu: usize) {
    let tables = TABLES[cpu].0.get();
    let selector = 0x30 + cpu * 16;
    // SAFETY: each CPU calls this once and has tables of its own; the gates are the same for all, and
    // the second CPU starts after the first has written them. GDT and TSS are of the CPU's formats.
    unsafe {
        for (i, stack) in (*tables).stacks.iter_mut().enumerate() {
            (*tables).task.interrupt_stacks[i] = stack.as_mut_ptr_range().end as u64;
        }
        let [low, high] = task_descriptor(&raw const (*tables).task as u64);
        (*gdt.get())[selector / 8] = low;
        (*gdt.get())[selector / 8 + 1] = high;
        for vector in 0..256 {
            (*VECTORS.0.get())[vector] = gate(vector);
        }
        let pointer = TablePointer {
            limit: 4095,
            base: VECTORS.0.get() as u64,
        };
        asm!("lidt [{}]", in(reg) &pointer, options(nostack));
        asm!("ltr {:x}", in(reg) selector, options(nostack));
    }
}
