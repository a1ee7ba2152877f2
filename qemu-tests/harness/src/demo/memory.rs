// SPDX-License-Identifier: GPL-2.0

//! Memory goes to the host and comes back.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::Say;
use crate::ballooning::{expect_agreement, host_memory, memory, request, wait, Memory, MIB};
use crate::failure::expect;
use crate::qemu::MEMORY;
use crate::vm::Vm;

const TARGET: u64 = MEMORY / 2;

/// Half of the memory to the host and back; gives what was measured, in words.
pub(super) fn show(say: Say<'_>, bar: ProgressBar, vm: &Vm) -> Result<String> {
    let before = memory(vm)?;
    say(&format!(
        "{:12} {:>10} {:>10} {:>10} {:>8}",
        "memory, MiB", "host says", "MemTotal", "available", "took"
    ));
    print_memory(say, "before", before, None);
    // until the guest has less, or more
    let start = wait_for_host(&bar, vm)?;
    wait(vm, TARGET)?;
    let ballooned = expect_agreement(vm, before)?;
    let there = start.elapsed();
    print_memory(say, "ballooned", ballooned, Some(there));
    let start = Instant::now();
    request(vm, MEMORY)?;
    wait(vm, MEMORY)?;
    let after = expect_agreement(vm, before)?;
    let back = start.elapsed();
    print_memory(say, "after", after, Some(back));
    say("");
    expect(
        after.total == before.total,
        "all memory back",
        format!("{} KiB", after.total / 1024),
    )?;
    Ok(format!(
        "{} MiB to the host in {:.1} s and back in {:.1} s",
        (before.host - TARGET) / MIB,
        there.as_secs_f64(),
        back.as_secs_f64()
    ))
}

fn print_memory(say: Say<'_>, when: &str, m: Memory, took: Option<Duration>) {
    let took = took.map_or(String::new(), |t| format!("{:.1} s", t.as_secs_f64()));
    say(&format!(
        "{when:12} {:10} {:10} {:10} {took:>8}",
        m.host / MIB,
        m.total / MIB,
        m.available / MIB
    ));
}

/// The host does nothing for a while after the handshake; show that it is waiting. Gives when it had
/// done nothing yet.
fn wait_for_host(bar: &ProgressBar, vm: &Vm) -> Result<Instant> {
    bar.set_style(ProgressStyle::with_template("{msg} {spinner} {elapsed}")?);
    bar.set_message("waiting for the host's balloon");
    bar.enable_steady_tick(Duration::from_millis(200));
    let idle = Cell::new(Instant::now());
    request(vm, TARGET)?;
    vm.wait_until(Duration::from_secs(60), "the balloon to begin", || {
        let asked = Instant::now();
        let now = host_memory(vm)?;
        Ok(if now == MEMORY {
            idle.set(asked);
            Err("the host has taken nothing yet".into())
        } else {
            Ok(())
        })
    })?;
    bar.finish_and_clear();
    Ok(idle.get())
}
