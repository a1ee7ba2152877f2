// SPDX-License-Identifier: GPL-2.0

//! What the guest can see of its hypervisor, as it is: a text, one thing a line, `name = value`.

use std::arch::x86_64::{CpuidResult, __cpuid};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Leaves that belong to hypervisors.
const LEAVES: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x4000_00ff;

/// MSRs that belong to Hyper-V: all that it has for partitions like ours, and the room around them.
const MSRS: std::ops::RangeInclusive<u32> = 0x4000_0000..=0x4000_01ff;

/// In leaf 1, ECX: there is a hypervisor.
const HYPERVISOR: u32 = 1 << 31;

/// All of it; the `msr` module must be there.
pub(crate) fn look() -> Result<String> {
    let mut text = String::new();
    cpuid(&mut text)?;
    for cpu in 0.. {
        let path = format!("/dev/cpu/{cpu}/msr");
        if !Path::new(&path).exists() {
            break;
        }
        msrs(&mut text, cpu, &File::open(&path).context(path)?)?;
    }
    interrupts(&mut text)?;
    Ok(text)
}

fn leaf(number: u32) -> CpuidResult {
    // SAFETY: Every 64-bit x86 has CPUID.
    unsafe { __cpuid(number) }
}

/// Leaves that are all zero are not there.
fn cpuid(text: &mut String) -> Result<()> {
    let hypervisor = leaf(1).ecx & HYPERVISOR != 0;
    writeln!(text, "cpuid hypervisor = {hypervisor}")?;
    for number in LEAVES {
        let CpuidResult { eax, ebx, ecx, edx } = leaf(number);
        if (eax | ebx | ecx | edx) == 0 {
            continue;
        }
        for (name, value) in [("eax", eax), ("ebx", ebx), ("ecx", ecx), ("edx", edx)] {
            writeln!(text, "cpuid {number:08x} {name} = {value:#x}")?;
        }
    }
    Ok(())
}

/// One that is refused (#GP) has no line.
fn msrs(text: &mut String, cpu: usize, file: &File) -> Result<()> {
    for msr in MSRS {
        let mut value = [0; 8];
        match file.read_exact_at(&mut value, msr.into()) {
            Ok(()) => writeln!(
                text,
                "msr {msr:08x} cpu{cpu} = {:#x}",
                u64::from_le_bytes(value)
            )?,
            Err(e) if e.raw_os_error() == Some(nix::libc::EIO) => {}
            Err(e) => return Err(e).with_context(|| format!("msr {msr:#x}")),
        }
    }
    Ok(())
}

/// Which of the vectors that the kernel has for Hyper-V are used.
fn interrupts(text: &mut String) -> Result<()> {
    let counts = fs::read_to_string("/proc/interrupts")?;
    for line in counts.lines() {
        let Some((name @ ("HYP" | "HRE" | "HVS"), counts)) = line.trim().split_once(':') else {
            continue;
        };
        let sum: u64 = counts
            .split_whitespace()
            .map_while(|count| count.parse::<u64>().ok())
            .sum();
        writeln!(
            text,
            "interrupts {name} = {}",
            if sum > 0 { "some" } else { "none" }
        )?;
    }
    Ok(())
}
