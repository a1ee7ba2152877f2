// SPDX-License-Identifier: GPL-2.0

//! Random MSRs, hypercalls, messages and timers, on all CPUs at once.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crate::checks::Checks;
use crate::cpu::{self, hypercall, rdmsr, wrmsr, Call, PROTECTION, UNDEFINED};
use crate::hyperv::{code, control, msr, status, stimer, ENABLE, SINT_AUTO_EOI, SINT_MASKED};
use crate::memory::{self, any_page, read, writable_page, FREE, INPUT, PAGE};
use crate::random::Random;
use crate::say;
use crate::vmbus::message;

/// What was done, of all CPUs.
static OPERATIONS: AtomicU64 = AtomicU64::new(0);
/// What hypercalls have answered, by status; the last one counts all that have no name.
static RESULTS: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];
/// Messages of VMBus.
static MESSAGES: AtomicU64 = AtomicU64::new(0);
/// Those that say that a GPADL was accepted.
static GPADLS: AtomicU64 = AtomicU64::new(0);
/// Those that say that a channel is open.
static CHANNELS: AtomicU64 = AtomicU64::new(0);
/// The first CPU's time is over.
static STOP: AtomicBool = AtomicBool::new(false);

/// The reference time, in units of 100 ns.
pub(crate) fn now() -> u64 {
    rdmsr(msr::TIME_REF_COUNT).expect("the reference time can always be read")
}

/// Random operations, until the deadline or until the first CPU's.
pub(crate) fn run(cpu: usize, seed: u64, deadline: Option<u64>) {
    let mut random = Random::new(seed);
    let mut last = 0;
    loop {
        for _ in 0..64 {
            operation(&mut random, cpu);
            OPERATIONS.fetch_add(1, Relaxed);
        }
        let time = now();
        assert!(last <= time, "the clock goes back from {last} to {time}");
        last = time;
        if deadline.is_some_and(|deadline| deadline <= time) {
            STOP.store(true, SeqCst);
        }
        if STOP.load(SeqCst) {
            return;
        }
    }
}

fn operation(random: &mut Random, cpu: usize) {
    match random.below(100) {
        0..=19 => read_msr(random),
        20..=29 => write_sint(random),
        30..=39 => write_timer(random),
        40 => write_page(random, cpu),
        41..=42 => write_apic(random),
        43..=46 => write_other(random),
        47..=50 => eom(random),
        51..=69 => random_hypercall(random, cpu),
        70..=84 => take_messages(),
        85..=94 => vmbus_message(random, cpu),
        _ => signal(random, cpu),
    }
}

/// An answer must be a value, or #GP.
fn may_fault<T>(what: &str, msr: u32, answer: Result<T, u64>) {
    if let Err(vector) = answer {
        assert!(vector == PROTECTION, "{what} {msr:#x} raises {vector}");
    }
}

fn read_msr(random: &mut Random) {
    let msr = msr::GUEST_OS_ID + random.below(0x120) as u32;
    may_fault("RDMSR", msr, rdmsr(msr));
}

fn write(msr: u32, value: u64) {
    may_fault("WRMSR", msr, wrmsr(msr, value));
}

/// A vector that no exception without error code has: those would be indistinguishable.
fn vector(random: &mut Random) -> u64 {
    match random.below(256) {
        2 | 6 => 7,
        vector => vector,
    }
}

fn write_sint(random: &mut Random) {
    let mut value = vector(random);
    for flag in [SINT_MASKED, SINT_AUTO_EOI] {
        if random.once_in(3) {
            value |= flag;
        }
    }
    if random.once_in(4) {
        value |= random.value() & !0xff;
    }
    write(msr::sint(random.below(16) as u32), value);
}

fn write_timer(random: &mut Random) {
    let timer = random.below(4) as u32 * 2;
    if random.once_in(2) {
        let config = match random.below(4) {
            0 => random.value() & !(0xff << 4),
            1 => stimer::ENABLE | stimer::sint(random.below(16)),
            2 => stimer::ENABLE | stimer::DIRECT,
            _ => random.below(16) | stimer::AUTO_ENABLE | stimer::sint(random.below(16)),
        };
        write(msr::STIMER0_CONFIG + timer, config | (vector(random) << 4));
        return;
    }
    let count = match random.below(4) {
        0 => random.value(),
        1 => random.below(100),
        2 => now() + random.below(10_000),
        _ => random.below(10_000),
    };
    write(msr::STIMER0_COUNT + timer, count);
}

fn write_page(random: &mut Random, cpu: usize) {
    let flags = if random.once_in(8) {
        random.word() & (PAGE - 1)
    } else {
        ENABLE
    };
    let flags = if random.once_in(4) {
        flags & !ENABLE
    } else {
        flags
    };
    let page = any_page(random);
    if random.once_in(2) {
        // Back to what works, or no message would ever come.
        write(msr::SIMP, memory::SIMP_OF_CPU[cpu] | ENABLE);
        write(msr::SCONTROL, ENABLE);
        return;
    }
    match random.below(6) {
        0 => write(msr::SIMP, page | flags),
        1 => write(msr::SIEFP, page | flags),
        2 => write(msr::HYPERCALL, page | flags),
        3 => write(msr::REFERENCE_TSC, page | flags),
        4 => write(msr::VP_ASSIST_PAGE, page | flags),
        _ => write(
            msr::SCONTROL,
            if random.once_in(4) {
                random.value()
            } else {
                ENABLE
            },
        ),
    }
}

/// An interrupt command: no INIT, SIPI or SMI, which are the end of this program.
fn interrupt_command(random: &mut Random) -> u64 {
    const FIXED: u64 = 0;
    const LOWEST: u64 = 1 << 8;
    const NMI: u64 = 4 << 8;
    let mode = [FIXED, FIXED, FIXED, LOWEST, NMI][random.index(5)];
    let shorthand = random.below(4) << 18;
    let destination = [0, 1, 2, 0xff, 0xffff_ffff, 1 << 24, 0xff << 24][random.index(7)] << 32;
    let reserved = if random.once_in(8) {
        random.value() & 0xfff3_0000
    } else {
        0
    };
    mode | shorthand | destination | reserved | vector(random)
}

fn write_apic(random: &mut Random) {
    match random.below(4) {
        0 | 1 => write(msr::EOI, if random.once_in(2) { 0 } else { random.value() }),
        2 => write(msr::ICR, interrupt_command(random)),
        _ if random.once_in(4) => write(msr::TPR, random.value()),
        _ => write(msr::TPR, 0),
    }
}

/// All others, but what ends the machine.
fn write_other(random: &mut Random) {
    let pages = [
        msr::HYPERCALL,
        msr::REFERENCE_TSC,
        msr::VP_ASSIST_PAGE,
        msr::SIMP,
        msr::SIEFP,
    ];
    let msr = msr::GUEST_OS_ID + random.below(0x120) as u32;
    let ends = matches!(msr, msr::RESET | msr::CRASH_CTL | msr::ICR);
    let delivers = (msr::STIMER0_CONFIG..=msr::STIMER3_COUNT).contains(&msr);
    if msr == msr::GUEST_OS_ID && !random.once_in(8) {
        write(msr, random.word() | 1);
    } else if !ends && !delivers && !pages.contains(&msr) {
        write(msr, random.value());
    }
}

fn eom(random: &mut Random) {
    for _ in 0..=random.below(64) {
        write(msr::EOM, random.value());
    }
}

/// A message of VMBus to the guest: its type, and the third word of its body.
fn count_vmbus_message(vmbus_type: u32, status: u32) {
    match (vmbus_type, status) {
        (message::GPADL_CREATED, 0) => GPADLS.fetch_add(1, Relaxed),
        (message::OPEN_RESULT, 0) => CHANNELS.fetch_add(1, Relaxed),
        _ => 0,
    };
    MESSAGES.fetch_add(1, Relaxed);
}

/// Make room for more messages, as if they had been read.
fn take_messages() {
    let page = rdmsr(msr::SIMP).unwrap_or(0);
    let at = page & !(PAGE - 1);
    if page & ENABLE == 0 || !(FREE..memory::END).contains(&at) {
        return;
    }
    for slot in 0..16 {
        let message_type: u32 = read(at + slot * 256);
        if message_type != 0 {
            if message_type == 1 {
                count_vmbus_message(read(at + slot * 256 + 16), read(at + slot * 256 + 32));
            }
            memory::write(at + slot * 256, 0_u32);
            write(msr::EOM, 0);
        }
    }
}

fn call(random: &mut Random, value: u64, input: u64, output: u64) {
    let call = if random.once_in(2) {
        Call::Vmcall
    } else {
        Call::Vmmcall
    };
    match hypercall(call, value, input, output) {
        Ok(result) => {
            let last = RESULTS.len() - 1;
            RESULTS[(result as usize & 0xffff).min(last)].fetch_add(1, Relaxed);
            assert!(
                result >> 16 == 0,
                "hypercall {value:#x} has the result {result:#x}"
            );
        }
        // No guest OS at the moment.
        Err(vector) => assert!(vector == UNDEFINED, "hypercall {value:#x} raises {vector}"),
    }
}

/// Where the input of a hypercall may be: well inside of memory, at its end, at a page's end, outside.
fn input_address(random: &mut Random) -> u64 {
    let page = any_page(random);
    page | match random.below(4) {
        0 => 0,
        1 => random.below(512) * 8,
        2 => PAGE - 8 * random.below(40),
        _ => random.below(PAGE),
    } & (PAGE - 1)
}

fn random_hypercall(random: &mut Random, cpu: usize) {
    let code = match random.below(4) {
        0 => random.below(0x1_0000),
        1 => random.below(0x100),
        2 => code::POST_MESSAGE,
        _ => [code::NOTIFY_LONG_SPIN_WAIT, code::SIGNAL_EVENT][random.index(2)],
    };
    let mut value = code;
    if random.once_in(2) {
        value |= control::FAST;
    }
    for extra in [
        control::variable_header(random.below(1024)),
        control::repetitions(random.below(4096)),
        control::first_repetition(random.below(4096)),
        random.word() & control::RESERVED,
    ] {
        if random.once_in(8) {
            value |= extra;
        }
    }
    if random.once_in(16) {
        value = random.word();
    }
    let input = match random.below(3) {
        0 => random.value(),
        1 => INPUT + cpu as u64 * PAGE,
        _ => input_address(random),
    };
    let output = any_page(random);
    call(random, value, input, output);
}

fn signal(random: &mut Random, cpu: usize) {
    let connection = match random.below(3) {
        // VMBus's own, and those of channels.
        0 => random.below(8),
        1 => 0x1_0000 + random.below(16),
        _ => random.value(),
    };
    if random.once_in(2) {
        call(random, code::SIGNAL_EVENT | control::FAST, connection, 0);
        return;
    }
    let input = INPUT + cpu as u64 * PAGE + 2048;
    memory::write(input, connection);
    call(random, code::SIGNAL_EVENT, input, 0);
}

/// Words of a message: a `struct hv_input_post_message` with VMBus's payload, 256 bytes.
struct Message {
    at: u64,
    length: u64,
}

impl Message {
    fn new(at: u64, connection: u32, vmbus_type: u32) -> Self {
        memory::write(at, [connection, 0, 1, 0]);
        let mut message = Self { at, length: 0 };
        message.half(vmbus_type);
        message.half(0);
        message
    }

    fn half(&mut self, value: u32) {
        if self.length + 4 <= 240 {
            memory::write(self.at + 16 + self.length, value);
            self.length += 4;
        }
    }

    fn word(&mut self, value: u64) {
        self.half(value as u32);
        self.half((value >> 32) as u32);
    }
}

/// A number that may mean a channel, or a GPADL.
fn few(random: &mut Random) -> u32 {
    if random.once_in(16) {
        random.value() as u32
    } else {
        random.below(6) as u32
    }
}

/// A range of pages, as in a GPADL: correct ones, and others.
fn range(random: &mut Random, message: &mut Message) {
    let pages = random.below(20);
    let bytes = if random.once_in(4) {
        random.value() as u32
    } else {
        pages as u32 * 4096
    };
    message.half(bytes);
    message.half(if random.once_in(4) {
        random.value() as u32
    } else {
        0
    });
    let consecutive = random.once_in(2).then(|| writable_page(random) / PAGE);
    for i in 0..pages {
        let page = consecutive.map_or_else(|| writable_page(random) / PAGE, |first| first + i);
        message.word(if random.once_in(64) {
            (1 << 52) | page
        } else {
            page
        });
    }
}

/// A message to VMBus that may make sense.
fn vmbus_message(random: &mut Random, cpu: usize) {
    let types = [
        message::REQUEST_OFFERS,
        message::OPEN_CHANNEL,
        message::OPEN_CHANNEL,
        message::CLOSE_CHANNEL,
        message::GPADL_HEADER,
        message::GPADL_HEADER,
        message::GPADL_BODY,
        message::GPADL_TEARDOWN,
        message::RELID_RELEASED,
        message::MODIFY_CHANNEL,
    ];
    let vmbus_type = if random.once_in(64) {
        random.below(30) as u32
    } else if random.once_in(32) {
        // These two end all that was before.
        [
            message::INITIATE_CONTACT,
            message::INITIATE_CONTACT,
            message::UNLOAD,
        ][random.index(3)]
    } else {
        types[random.index(types.len())]
    };
    // Now and then the other CPU's, while it writes it or while it is read.
    let owner = if random.once_in(16) { 1 - cpu } else { cpu } as u64;
    let at = INPUT + owner * PAGE + 8 * random.below(16);
    let connection = match random.below(16) {
        0 => random.value() as u32,
        1..=4 => 4,
        _ => 1,
    };
    let mut message = Message::new(at, connection, vmbus_type);
    message_body(random, vmbus_type, &mut message);
    for _ in 0..random.below(8) {
        message.half(random.value() as u32);
    }
    let length = if random.once_in(8) {
        random.value()
    } else {
        message.length
    };
    memory::write(at + 12, length as u32);
    call(random, code::POST_MESSAGE, at, 0);
}

fn message_body(random: &mut Random, vmbus_type: u32, message: &mut Message) {
    match vmbus_type {
        message::INITIATE_CONTACT => {
            let versions = [
                13, 0x1_0001, 0x2_0004, 0x3_0000, 0x4_0000, 0x5_0000, 0x5_0003,
            ];
            message.half(versions[random.index(versions.len())]);
            message.half(few(random) & 1 | if random.once_in(8) { few(random) } else { 0 });
            // SINT 2 in the interrupt page's place, since version 5.0.
            message.word(if random.once_in(2) {
                2
            } else {
                writable_page(random)
            });
            message.word(writable_page(random));
            message.word(writable_page(random));
        }
        message::GPADL_HEADER => {
            message.half(few(random));
            message.half(few(random));
            let ranges = if random.once_in(4) {
                few(random) & 0xffff
            } else {
                1
            };
            let length = if random.once_in(4) {
                few(random) * 8
            } else {
                8 + 8 * random.half() % 64
            };
            message.half(length & 0xffff | (ranges << 16));
            let start = message.length;
            range(random, message);
            if !random.once_in(4) {
                let real = (message.length - start) as u32;
                memory::write(message.at + 16 + start - 4, real | (1 << 16));
            }
        }
        message::GPADL_BODY => {
            message.half(few(random));
            message.half(few(random));
            range(random, message);
        }
        message::OPEN_CHANNEL => {
            message.half(few(random));
            message.half(random.half());
            message.half(few(random));
            message.half(random.below(3) as u32);
            message.half(random.below(12) as u32);
            for _ in 0..30 {
                message.half(random.half());
            }
        }
        _ => {
            message.half(few(random));
            message.half(few(random));
        }
    }
}

/// Stop what this CPU's SynIC does, so that what follows knows where it is.
pub(crate) fn put_away() {
    for timer in 0..4 {
        write(msr::STIMER0_CONFIG + timer * 2, 0);
        write(msr::STIMER0_COUNT + timer * 2, 0);
    }
    for sint in 0..16 {
        write(msr::sint(sint), SINT_MASKED);
    }
    for msr in [
        msr::SIMP,
        msr::SIEFP,
        msr::SCONTROL,
        msr::VP_ASSIST_PAGE,
        msr::TPR,
    ] {
        write(msr, 0);
    }
    write(msr::REFERENCE_TSC, 0);
    // Whatever was in service at that time.
    for _ in 0..256 {
        cpu::end_of_interrupt();
    }
}

/// What was done.
pub(crate) fn report(seed: u64, cpus: u64, checks: &Checks) {
    let result = |status: u64| RESULTS[status as usize].load(Relaxed);
    let named = [
        status::SUCCESS,
        status::INVALID_HYPERCALL_CODE,
        status::INVALID_HYPERCALL_INPUT,
        status::INVALID_ALIGNMENT,
        status::INSUFFICIENT_MEMORY,
        status::INVALID_PORT_ID,
        status::INVALID_CONNECTION_ID,
        status::INSUFFICIENT_BUFFERS,
    ];
    let all: u64 = RESULTS.iter().map(|count| count.load(Relaxed)).sum();
    let others = all - named.iter().map(|status| result(*status)).sum::<u64>();
    say!(
        "fuzz guest: seed={seed} cpus={cpus} checks={} operations={} gp={} ud={} interrupts={} \
         calls={all} success={} code={} input={} alignment={} memory={} port={} connection={} buffers={} \
         others={others} messages={} gpadls={} channels={}",
        checks.done,
        OPERATIONS.load(Relaxed),
        cpu::exceptions(PROTECTION),
        cpu::exceptions(UNDEFINED),
        cpu::all_interrupts(),
        result(named[0]),
        result(named[1]),
        result(named[2]),
        result(named[3]),
        result(named[4]),
        result(named[5]),
        result(named[6]),
        result(named[7]),
        MESSAGES.load(Relaxed),
        GPADLS.load(Relaxed),
        CHANNELS.load(Relaxed),
    );
}
