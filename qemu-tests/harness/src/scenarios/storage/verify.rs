// SPDX-License-Identifier: GPL-2.0

//! fio writes, reads and compares: many sizes, depths and processes.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::failure::expect;
use crate::fio::Verify;
use crate::scenarios::Context;
use crate::storage::{self, BIG_SECTORS, IDE, MAIN, MAIN_QUEUES, PLAIN};
use crate::vm::Vm;

const fn verify(
    pattern: &'static str,
    block: &'static str,
    depth: u32,
    jobs: u32,
    mib: u32,
) -> Verify {
    Verify {
        pattern,
        block,
        depth,
        jobs,
        mib,
    }
}

const PLAIN_RUNS: [Verify; 7] = [
    verify("randwrite", "512", 1, 1, 1),
    verify("randwrite", "4k", 32, 1, 6),
    verify("randrw", "64k", 16, 2, 4),
    verify("write", "1m", 8, 1, 16),
    verify("randrw", "4k", 256, 2, 4),
    verify("randwrite", "512-1m", 32, 4, 8),
    verify("randrw", "132k", 4, 4, 3),
];

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    for run in &PLAIN_RUNS {
        run.run(vm, &plain)?;
    }
    let big = storage::wait_for(vm, MAIN, BIG_SECTORS)?;
    verify("randwrite", "4k-256k", 16, 2, 8).run(vm, &big)?;
    let ide = storage::wait_for(vm, IDE, (0, 0, 0))?;
    verify("randwrite", "512-128k", 16, 1, 8).run(vm, &ide)?;

    every_channel_works(vm, &plain)
}

/// I/O from every CPU goes through every channel: each has a CPU of its own.
fn every_channel_works(vm: &Vm, disk: &str) -> Result<()> {
    let before = events(vm)?;
    verify("randrw", "4k", 8, vm.machine.cpus, 1).run_on_each_cpu(vm, disk)?;
    let after = events(vm)?;

    let idle = before
        .iter()
        .filter(|(channel, n)| after.get(*channel) <= Some(n));
    let idle: Vec<_> = idle.map(|(channel, _)| channel.as_str()).collect();
    expect(
        after.len() == MAIN_QUEUES && idle.is_empty(),
        format!("interrupts of all {MAIN_QUEUES} channels"),
        format!("{after:?}, no new ones of {idle:?}"),
    )
}

/// Interrupts of each channel so far.
fn events(vm: &Vm) -> Result<BTreeMap<String, u64>> {
    let count = |channel: String| {
        let events = vm.read(&format!("{channel}/events"))?;
        Ok((channel, events.trim().parse()?))
    };
    storage::channels(vm, MAIN)?
        .into_iter()
        .map(count)
        .collect()
}

/// The same in small, where memory or rings are tight.
pub(in crate::scenarios) fn small(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    verify("randwrite", "4k", 64, 2, 3).run(vm, &plain)?;
    verify("randrw", "512-1m", 32, 2, 10).run(vm, &plain)
}
