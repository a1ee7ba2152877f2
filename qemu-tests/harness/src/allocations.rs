// SPDX-License-Identifier: GPL-2.0

//! Memory that the core and the drivers ask a guest's kernel for, with who asks: from the kernel's trace events, each with
//! its stack. For paths that memory may be waiting for, or that have to go on without, which must ask for none.

use anyhow::Result;

use crate::vm::Vm;

const FOLDER: &str = "/tmp/allocations";

/// What is looked at: objects, pages, areas of vmalloc and memory for each CPU.
const EVENTS: [&str; 5] = [
    "kmem/kmalloc",
    "kmem/kmem_cache_alloc",
    "kmem/mm_page_alloc",
    "vmalloc/alloc_vmap_area",
    "percpu/percpu_alloc_percpu",
];

/// Who asks: a filter of the events, since to look all stacks of a guest up takes minutes.
pub(crate) struct Who(&'static str);

impl Who {
    /// The kernel's threads that end commands, and those that work for others.
    pub(crate) const KERNEL: Self = Self("comm ~ \"scsi_eh_*\" || comm ~ \"kworker/*\"");
    /// Who unloads a module.
    pub(crate) const UNLOADS: Self = Self("comm == \"rmmod\"");
}

/// Joins an event and its stack, and prints those with a function whose name begins as those written in Rust do, or has
/// none any more since its module has gone. The guest does it: a trace is long, and the way out of the guest slow.
const JOIN: &str = r#"
    function flush() { if (rust) print event stack; stack = ""; rust = 0 }
    $1 == "=>" { stack = stack " <- " $2; if ($2 ~ /^_R|^0x/) rust = 1; next }
    /<stack trace>$/ { next }
    { flush(); event = $0 }
    END { flush() }"#;

/// Lines that a failure shows.
const MOST: usize = 60;

/// The trace of a guest, which goes on until this is dropped by [`Self::end`].
pub(crate) struct Allocations<'a> {
    vm: &'a Vm,
}

impl<'a> Allocations<'a> {
    /// From now on.
    pub(crate) fn watch(vm: &'a Vm, who: &Who) -> Result<Self> {
        let mount = format!("mkdir -p {FOLDER} && busybox mount -t tracefs tracefs {FOLDER}");
        vm.exec(&["sh", "-c", &mount])?;
        vm.write(&format!("{FOLDER}/buffer_size_kb"), "8192")?;
        vm.write(&format!("{FOLDER}/options/stacktrace"), "1")?;
        for event in EVENTS {
            vm.write(&format!("{FOLDER}/events/{event}/filter"), who.0)?;
            vm.write(&format!("{FOLDER}/events/{event}/enable"), "1")?;
        }
        Ok(Self { vm })
    }

    /// Those with a function in Rust in their stack since it was asked last, each with its stack in one line; the first
    /// ones, if there are many.
    pub(crate) fn take(&self) -> Result<Vec<String>> {
        let path = format!("{FOLDER}/trace");
        let chosen = format!("busybox awk '{JOIN}' {path} | busybox head -n {MOST}");
        let trace = self.vm.exec(&["sh", "-c", &chosen])?;
        self.vm.write(&path, "")?;
        Ok(trace.lines().map(str::to_owned).collect())
    }

    /// No more.
    pub(crate) fn end(self) -> Result<()> {
        for event in EVENTS {
            self.vm
                .write(&format!("{FOLDER}/events/{event}/enable"), "0")?;
            self.vm
                .write(&format!("{FOLDER}/events/{event}/filter"), "0")?;
        }
        self.vm
            .write(&format!("{FOLDER}/options/stacktrace"), "0")?;
        self.vm.exec(&["busybox", "umount", FOLDER])?;
        Ok(())
    }
}
