// SPDX-License-Identifier: GPL-2.0

//! Runs the fuzz guest (`qemu-tests/fuzz-guest`): a program without a kernel that breaks the rules of
//! the SynIC and of hypercalls, under the QEMU that presents Hyper-V without KVM.
//!
//! It needs no bed: it has a QEMU of its own for a few seconds, whose serial line and standard error
//! go to files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::failure::unmet;
use crate::paths::Paths;
use crate::qemu::{FIRMWARE, PROGRAM};

/// What all runs have.
const HYPER_V: &str = "hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-runtime,hv-synic,hv-stimer,\
                       hv-stimer-direct,hv-reset,hv-frequencies,hv-crash";

/// The machine. The guest knows how much memory it has.
const MACHINE: &str = "-accel tcg,thread=multi -machine q35 -m 64M -nodefaults -no-user-config \
                       -display none -no-reboot -action panic=exit-failure \
                       -device isa-debug-exit,iobase=0xf4,iosize=4 \
                       -device vmbus-bridge -device hv-balloon -device hv-scsi,id=scsi \
                       -blockdev driver=null-co,node-name=disk,size=1073741824,read-zeroes=on \
                       -device scsi-hd,drive=disk,bus=scsi.0";

/// How long the checks before and after the random part may take, on a busy machine.
const CHECKS: Duration = Duration::from_secs(120);

/// The lines of a log that a failure shows.
const TAIL: usize = 12;

/// What the guest's last line is when all is well.
const PASSED: &str = "fuzz guest: passed";

/// How a guest ends, and how its QEMU does then.
#[derive(Debug, Clone, Copy)]
enum End {
    /// By the device for that: its value 0x10.
    Exit,
    /// By Hyper-V's reset MSR; QEMU does not reboot.
    Reset,
    /// By Hyper-V's crash MSR.
    Crash,
}

impl End {
    fn argument(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Reset => "reset",
            Self::Crash => "crash",
        }
    }

    /// QEMU's exit status.
    fn status(self) -> i32 {
        match self {
            Self::Exit => (0x10 << 1) | 1,
            Self::Reset => 0,
            Self::Crash => 1,
        }
    }
}

/// One kind of machine.
struct Case {
    cpu: &'static str,
    cpus: u32,
    x2apic: bool,
    end: End,
}

/// Intel's and AMD's CPUs, both modes of the APIC, and none.
const CASES: [Case; 6] = [
    Case {
        cpu: "max,-erms,-fsrm",
        cpus: 2,
        x2apic: false,
        end: End::Exit,
    },
    Case {
        cpu: "max,-erms,-fsrm",
        cpus: 2,
        x2apic: true,
        end: End::Reset,
    },
    Case {
        cpu: "EPYC",
        cpus: 2,
        x2apic: false,
        end: End::Crash,
    },
    Case {
        cpu: "Skylake-Client",
        cpus: 1,
        x2apic: false,
        end: End::Exit,
    },
    Case {
        cpu: "max,-erms,-fsrm,-apic",
        cpus: 1,
        x2apic: false,
        end: End::Exit,
    },
    Case {
        cpu: "EPYC-Rome,+x2apic",
        cpus: 2,
        x2apic: true,
        end: End::Exit,
    },
];

/// What the guests have counted: sums, by name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Add the counts of a line like `fuzz guest: seed=1 operations=5 gp=3`.
    fn add(&mut self, line: &str) {
        for word in line.split_ascii_whitespace() {
            let Some((name, value)) = word.split_once('=') else {
                continue;
            };
            if let Ok(value) = value.parse::<u64>() {
                *self.0.entry(name.to_owned()).or_default() += value;
            }
        }
    }

    fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// For people.
    fn figures(&self, seconds: u64) -> String {
        let operations = self.get("operations");
        let mut text = format!(
            "{operations} operations ({} a second) and {} checks in {} machines",
            operations / seconds.max(1),
            self.get("checks"),
            CASES.len(),
        );
        let _ = write!(
            text,
            "; {} #GP, {} #UD, {} interrupts",
            self.get("gp"),
            self.get("ud"),
            self.get("interrupts")
        );
        let _ = write!(text, "; {} hypercalls:", self.get("calls"));
        for (name, status) in [
            ("success", "success"),
            ("code", "invalid code"),
            ("input", "invalid input"),
            ("alignment", "invalid alignment"),
            ("memory", "insufficient memory"),
            ("port", "invalid port"),
            ("connection", "invalid connection"),
            ("buffers", "insufficient buffers"),
            ("others", "others"),
        ] {
            let _ = write!(text, " {} {status},", self.get(name));
        }
        let _ = write!(
            text,
            " {} messages of VMBus, {} GPADLs, {} open channels",
            self.get("messages"),
            self.get("gpadls"),
            self.get("channels")
        );
        text
    }
}

/// A QEMU that is gone when this is.
struct Running(Child);

impl Running {
    /// How it ends; nothing if it does not in time.
    fn end(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn arguments(case: &Case, paths: &Paths, log: &Path, milliseconds: u64, seed: u64) -> Vec<String> {
    let mut words: Vec<String> = FIRMWARE.iter().map(|w| (*w).to_owned()).collect();
    words.extend(MACHINE.split_whitespace().map(str::to_owned));
    let command_line = format!(
        "seed={seed} ms={milliseconds} cpus={} x2apic={} end={}",
        case.cpus,
        u8::from(case.x2apic),
        case.end.argument()
    );
    for (option, value) in [
        ("-cpu", format!("{},{HYPER_V}", case.cpu)),
        ("-smp", case.cpus.to_string()),
        ("-serial", format!("file:{}", log.display())),
        ("-kernel", paths.fuzz_guest.display().to_string()),
        ("-append", command_line),
    ] {
        words.extend([option.to_owned(), value]);
    }
    words
}

fn last_lines(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n  ")
}

/// How a QEMU has ended, for people.
fn describe(status: Option<ExitStatus>) -> String {
    match status {
        None => "no end".to_owned(),
        Some(status) => match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => format!("exit status {}", status.code().unwrap_or(-1)),
        },
    }
}

/// One guest; adds what it has counted.
fn run_case(
    case: &Case,
    paths: &Paths,
    milliseconds: u64,
    seed: u64,
    counts: &mut Counts,
) -> Result<()> {
    let log = paths.logs.join(format!("fuzz-guest-{seed}.log"));
    let host = paths.logs.join(format!("fuzz-guest-{seed}-host.log"));
    let child = Command::new(paths.qemu.join(PROGRAM))
        .args(arguments(case, paths, &log, milliseconds, seed))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&host)?)
        .spawn()
        .context("QEMU for the fuzz guest")?;
    let status = Running(child).end(Duration::from_millis(milliseconds) + CHECKS)?;
    let said = fs::read(&log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let passed = said.lines().last() == Some(PASSED);
    if !passed || status.and_then(|status| status.code()) != Some(case.end.status()) {
        return Err(unmet(
            format!(
                "'{PASSED}' and QEMU's exit status {} (-cpu {}, {} CPUs, seed {seed})",
                case.end.status(),
                case.cpu,
                case.cpus
            ),
            format!(
                "{}\nthe guest's last lines:\n  {}\nQEMU's:\n  {}",
                describe(status),
                last_lines(&log),
                last_lines(&host)
            ),
        ));
    }
    said.lines().for_each(|line| counts.add(line));
    Ok(())
}

/// Run the fuzz guest on all kinds of machine, this many seconds in all (of random operations; the
/// checks come on top), with a seed for each. Gives the figures.
pub(crate) fn run(paths: &Paths, seconds: u64, seed: u64) -> Result<String> {
    let mut counts = Counts::default();
    let milliseconds = seconds * 1000 / CASES.len() as u64;
    for (case, seed) in CASES.iter().zip(seed..) {
        run_case(case, paths, milliseconds, seed, &mut counts)?;
    }
    Ok(counts.figures(seconds))
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn counts_add_up() {
        let mut counts = Counts::default();
        counts.add("fuzz guest: seed=1 operations=5 gp=3");
        counts.add("fuzz guest: passed");
        counts.add("fuzz guest: seed=2 operations=7 gp=0 more=x");
        assert_eq!(counts.get("operations"), 12);
        assert_eq!(counts.get("gp"), 3);
        assert_eq!(counts.get("more"), 0);
    }
}
