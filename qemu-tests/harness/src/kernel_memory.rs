// SPDX-License-Identifier: GPL-2.0

//! The memory that a guest's kernel uses, to find out what something that is repeated leaves behind.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::failure::{expect, found_too};
use crate::guest_files::{field_kib, free_pages, slabs};
use crate::vm::Vm;

/// What unrelated activity of an idle guest may add.
const SLAB_SLACK: u64 = 128 * 1024;
/// Of one cache, if each time adds an object.
const CACHE_SLACK: u64 = 32 * 1024;
const VMALLOC_SLACK: u64 = 64 * 1024;
/// Areas of `vmallocinfo` that come and go as they like: those that are freed already, for whose address nobody has
/// flushed the TLB yet; stacks, of workers above all, of which those of a few threads that have ended are kept
/// (`kernel/fork.c:NR_CACHED_STACKS`); and chunks of memory for each CPU, 2 MiB at a time. Threads that do not end are
/// counted.
const COME_AND_GO: [&str; 5] = [
    "unpurged",
    "dup_task_struct",
    "copy_process",
    "kernel_clone",
    "pcpu_get_vm_areas",
];
/// Caches that are not looked at. What each thread has is about 9 KiB: a kernel makes as many workers as there is work
/// at a time, and keeps them for five minutes (`kernel/workqueue.c:IDLE_WORKER_TIMEOUT`). And the areas of vmalloc,
/// which are looked at by themselves, and of which those that nobody has flushed yet are kept.
const LEFT_OUT: [&str; 5] = [
    "task_struct",
    "sighand_cache",
    "signal_cache",
    "pid",
    "vmap_area",
];
/// The kernel's threads, but for workers. What a queue has for itself alone (`kworker/R-`) is one of them.
const THREADS: &str =
    "grep -l '^Kthread:.*1' /proc/[0-9]*/status 2> /dev/null | sed 's/status$/comm/' \
                       | xargs cat 2> /dev/null | grep -v '^kworker/[0-9u]' | sort";
const PAGE_SLACK: u64 = 512;
/// Where the kernel says how many pools it has for the stacks that its checks (KASAN) have seen, which only become
/// more; and a pool's pages (`lib/stackdepot.c`, `DEPOT_POOL_ORDER`).
const STACKS: &str = "cat /sys/kernel/debug/stackdepot/stats 2> /dev/null || true";
const PAGES_OF_STACKS: u64 = 4;
/// How often it is looked whether it is back, and how long in between.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(10);

/// Kernel memory in use.
pub(crate) struct Use {
    slabs: BTreeMap<String, (u64, u64)>,
    /// Areas of vmalloc, mapped memory included, in bytes by who has made them.
    areas: BTreeMap<String, u64>,
    pages: u64,
    threads: Vec<String>,
}

impl Use {
    /// What is in use now, but for what is only cached.
    pub(crate) fn look(vm: &Vm) -> Result<Self> {
        let threads = vm.exec(&["sh", "-c", THREADS])?;
        // what is only cached goes first, and what somebody has looked at is spared once
        let shrink = "sync; for n in 1 2 3; do echo 3 > /proc/sys/vm/drop_caches; done; \
                      for s in /sys/kernel/slab/*/shrink; do echo 1 > $s; done; sleep 2";
        vm.exec(&["sh", "-c", shrink])?;
        let meminfo = vm.read("/proc/meminfo")?;
        let free = free_pages(&vm.read("/proc/zoneinfo")?);
        let field = |name| field_kib(&meminfo, name).context(name);
        let stacks = pages_of_stacks(&vm.exec(&["sh", "-c", STACKS])?);
        Ok(Self {
            slabs: slabs(&vm.read("/proc/slabinfo")?)
                .into_iter()
                .map(|s| (s.name, (s.objects, s.size)))
                .collect(),
            areas: areas(&vm.read("/proc/vmallocinfo")?),
            pages: (field("MemTotal")? / 4).saturating_sub(free + stacks),
            threads: threads.lines().map(str::to_owned).collect(),
        })
    }

    /// Expect, after something was done so many times, no more than now. Some of it takes a while: what nobody may
    /// look at any more before it is freed.
    pub(crate) fn expect_back(&self, vm: &Vm, times: u32) -> Result<()> {
        let mut looks = 1;
        loop {
            let compared = self.compare(&Self::look(vm)?, times);
            if compared.is_ok() || looks == LOOKS {
                return compared;
            }
            looks += 1;
            sleep(PAUSE);
        }
    }

    fn compare(&self, after: &Self, times: u32) -> Result<()> {
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
        let check_sum = |what, before: &BTreeMap<_, _>, after: &BTreeMap<_, _>, slack| {
            check(what, before.values().sum(), after.values().sum(), slack)
                .map_err(|error| found_too(error, &grown(before, after)))
        };
        let (old, new) = (self.slab_bytes(), after.slab_bytes());
        check_sum("slab bytes in use", &old, &new, SLAB_SLACK)?;
        let (old, new) = (&self.areas, &after.areas);
        check_sum("bytes of vmalloc areas", old, new, VMALLOC_SLACK)?;
        expect(
            after.threads.len() <= self.threads.len(),
            format!("no more than {} kernel threads", self.threads.len()),
            after.threads.join(" "),
        )?;
        check("pages in use", self.pages, after.pages, PAGE_SLACK)
    }

    /// In use by cache, but for those that are left out.
    fn slab_bytes(&self) -> BTreeMap<String, u64> {
        self.slabs
            .iter()
            .filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()))
            .map(|(name, (objects, size))| (name.clone(), objects * size))
            .collect()
    }
}

/// Those that are in use for stacks; 0 on a kernel that keeps none.
fn pages_of_stacks(stats: &str) -> u64 {
    let pools = stats.lines().find_map(|line| line.strip_prefix("pools: "));
    pools
        .and_then(|pools| pools.parse::<u64>().ok())
        .unwrap_or(0)
        * PAGES_OF_STACKS
}

/// Bytes by who has made the areas, of `vmallocinfo`: an area, its bytes, and the place in the code.
fn areas(vmallocinfo: &str) -> BTreeMap<String, u64> {
    let mut areas = BTreeMap::new();
    for line in vmallocinfo.lines() {
        let mut words = line.split_whitespace().skip(1);
        let bytes = words.next().and_then(|bytes| bytes.parse::<u64>().ok());
        let place = words.next().and_then(|place| place.split('+').next());
        if let (Some(bytes), Some(place)) = (bytes, place.filter(|p| !COME_AND_GO.contains(p))) {
            *areas.entry(place.to_owned()).or_default() += bytes;
        }
    }
    areas
}

/// Who has more than before, and how much.
fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let more = after.iter().filter_map(|(place, bytes)| {
        let more = bytes.saturating_sub(before.get(place).copied().unwrap_or(0));
        (more > 0).then(|| format!("{place} +{more}"))
    });
    more.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{areas, grown, pages_of_stacks, Use, SLAB_SLACK};

    fn used(slabs: &[(&str, u64, u64)], threads: &[&str]) -> Use {
        Use {
            slabs: slabs
                .iter()
                .map(|(name, objects, size)| ((*name).to_owned(), (*objects, *size)))
                .collect(),
            areas: areas(""),
            pages: 1000,
            threads: threads.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn stacks_are_no_growth() {
        let stats = "pools: 12\nrefcounted_allocations: 3\n";
        assert_eq!(pages_of_stacks(stats), 48);
        assert_eq!(pages_of_stacks(""), 0);
    }

    #[test]
    fn what_is_left_behind_is_found() {
        let before = used(&[("task_struct", 90, 9024), ("dentry", 10, 192)], &["ksmd"]);
        // workers that idle
        let workers = used(
            &[("task_struct", 120, 9024), ("dentry", 10, 192)],
            &["ksmd"],
        );
        assert!(before.compare(&workers, 10).is_ok());
        let slack = 11 + SLAB_SLACK / 192;
        let much = used(
            &[("task_struct", 90, 9024), ("dentry", slack, 192)],
            &["ksmd"],
        );
        let error = before.compare(&much, 10).expect_err("much").to_string();
        assert!(error.contains("dentry +"), "{error}");
        let thread = used(&[], &["ksmd", "scsi_eh_7"]);
        let error = before
            .compare(&thread, 10)
            .expect_err("a thread")
            .to_string();
        assert!(error.contains("scsi_eh_7"), "{error}");
        // each time one
        let one = used(&[("kmalloc-4k", 10, 4096)], &["ksmd"]);
        assert!(before.compare(&one, 10).is_err());
    }

    #[test]
    fn who_has_more_of_vmalloc() {
        let before = areas(
            "0xffffc90000000000-0xffffc90000005000   20480 irq_init_percpu_irqstack+0x11/0x22 vmap\n\
             0xffffc90000010000-0xffffc90000019000   36864 dup_task_struct+0x5a/0x4d0 pages=8 vmalloc N0=8\n",
        );
        let after = areas(
            "0xffffc90000000000-0xffffc90000005000   20480 irq_init_percpu_irqstack+0x11/0x22 vmap\n\
             0xffffc90000010000-0xffffc90000019000   36864 dup_task_struct+0x5a/0x4d0 pages=8 vmalloc N0=8\n\
             0xffffc90000020000-0xffffc90000029000   36864 dup_task_struct+0x5a/0x4d0 pages=8 vmalloc N0=8\n\
             0xffffc90000030000-0xffffc90000032000    8192 unpurged vm_area\n\
             0xffffc90000040000-0xffffc90000045000   20480 hv_vmbus_shim_vmap+0x5a/0x4d0 [hv_vmbus_rust] vmap\n",
        );
        assert_eq!(grown(&before, &after), "hv_vmbus_shim_vmap +20480");
        assert_eq!(grown(&after, &before), "");
    }
}
