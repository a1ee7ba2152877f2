// SPDX-License-Identifier: GPL-2.0

//! The memory that a guest's kernel uses, to find out what something that is repeated leaves behind.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::failure::expect;
use crate::guest_files::{field_kib, free_pages, slabs};
use crate::vm::Vm;

/// What unrelated activity of an idle guest may add.
const SLAB_SLACK: u64 = 128 * 1024;
/// Of one cache, if each time adds an object.
const CACHE_SLACK: u64 = 32 * 1024;
/// Besides what is kept of stacks of threads that have ended.
const VMALLOC_SLACK: u64 = 64 * 1024;
/// How many of those the kernel keeps for each CPU (`kernel/fork.c:NR_CACHED_STACKS`).
const STACKS_KEPT: u64 = 2;
const PAGE_SLACK: u64 = 512;

/// Kernel memory in use.
pub(crate) struct Use {
    slabs: BTreeMap<String, (u64, u64)>,
    vmalloc: u64,
    pages: u64,
    /// Of a thread; twice as large where the kernel checks accesses.
    stack: u64,
}

impl Use {
    /// What is in use now, but for what is only cached.
    pub(crate) fn look(vm: &Vm) -> Result<Self> {
        // what is only cached goes first
        let shrink = "sync; echo 3 > /proc/sys/vm/drop_caches; \
                      for s in /sys/kernel/slab/*/shrink; do echo 1 > $s; done; sleep 2";
        vm.exec(&["sh", "-c", shrink])?;
        let meminfo = vm.read("/proc/meminfo")?;
        let free = free_pages(&vm.read("/proc/zoneinfo")?);
        let field = |name| field_kib(&meminfo, name).context(name);
        let load = vm.read("/proc/loadavg")?;
        Ok(Self {
            slabs: slabs(&vm.read("/proc/slabinfo")?)
                .into_iter()
                .map(|s| (s.name, (s.objects, s.size)))
                .collect(),
            // workers come and go as they like
            vmalloc: field("VmallocUsed")?.saturating_sub(field("KernelStack")?) * 1024,
            pages: (field("MemTotal")? / 4).saturating_sub(free),
            stack: stack_bytes(field("KernelStack")? * 1024, &load)
                .with_context(|| format!("threads in {load}"))?,
        })
    }

    /// Expect, after something was done so many times, no more than now.
    pub(crate) fn expect_back(&self, vm: &Vm, times: u32) -> Result<()> {
        let after = Self::look(vm)?;
        for (name, (objects, size)) in &after.slabs {
            let (old, _) = self.slabs.get(name).copied().unwrap_or((0, *size));
            let grown = objects.saturating_sub(old);
            expect(
                !(name.starts_with("kmalloc")
                    && grown >= u64::from(times)
                    && grown * size > CACHE_SLACK),
                format!("cache {name} back at {old} objects"),
                format!("{objects} after {times} times"),
            )?;
        }
        let check = |what: &str, before: u64, after: u64, slack: u64| {
            expect(
                after <= before + slack,
                format!("{what} back at {before} (+{slack})"),
                format!("{after} after {times} times"),
            )
        };
        check(
            "slab bytes in use",
            self.slab_bytes(),
            after.slab_bytes(),
            SLAB_SLACK,
        )?;
        let kept = STACKS_KEPT * u64::from(vm.machine.cpus) * after.stack;
        check(
            "vmalloc bytes in use",
            self.vmalloc,
            after.vmalloc,
            VMALLOC_SLACK + kept,
        )?;
        check("pages in use", self.pages, after.pages, PAGE_SLACK)
    }

    fn slab_bytes(&self) -> u64 {
        self.slabs
            .values()
            .map(|(objects, size)| objects * size)
            .sum()
    }
}

/// The size of one stack, a power of two: the nearest one to all of them divided by the threads, whose number is behind
/// a slash in `loadavg`. Some threads may just have begun or ended.
fn stack_bytes(all: u64, loadavg: &str) -> Option<u64> {
    let (_, rest) = loadavg.split_once('/')?;
    let threads: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some((all.checked_div(threads)? * 3 / 4).next_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::stack_bytes;

    #[test]
    fn the_size_of_a_stack() {
        let load = "0.00 0.01 0.05 1/100 4711\n";
        assert_eq!(stack_bytes(99 * 16384, load), Some(16384));
        assert_eq!(stack_bytes(102 * 16384, load), Some(16384));
        assert_eq!(stack_bytes(100 * 32768, load), Some(32768));
        assert_eq!(stack_bytes(16384, "nothing"), None);
        assert_eq!(stack_bytes(16384, "1/0 1"), None);
    }
}
