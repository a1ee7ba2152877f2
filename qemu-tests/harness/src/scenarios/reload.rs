// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading leaves nothing behind. The C core is built in, so for
//! it the driver is unbound and bound instead.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Context;
use crate::devices::{self, BUS};
use crate::drivers::Core;
use crate::failure::expect;
use crate::guest_files::{field_kib, free_pages, slabs};
use crate::kernel_log;
use crate::vm::Vm;

const ROUNDS: u64 = 20;
/// Before the first look, so that what is only made once is there.
const WARM_UP: u64 = 2;

/// What unrelated activity of an idle guest may add.
const SLAB_SLACK: u64 = 128 * 1024;
const VMALLOC_SLACK: u64 = 32 * 1024;
const PAGE_SLACK: u64 = 512;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    for _ in 0..WARM_UP {
        round(vm)?;
    }
    let before = Use::look(vm)?;
    for _ in 0..ROUNDS {
        round(vm)?;
    }
    let after = Use::look(vm)?;

    kernel_log::expect_no_complaint(vm)?;
    for (name, (objects, size)) in &after.slabs {
        let (old, _) = before.slabs.get(name).copied().unwrap_or((0, *size));
        let grown = objects.saturating_sub(old);
        expect(
            !(name.starts_with("kmalloc") && grown >= 2 * ROUNDS && grown * size > SLAB_SLACK),
            format!("cache {name} back at {old} objects"),
            format!("{objects} after {ROUNDS} rounds"),
        )?;
    }
    check(
        "slab bytes in use",
        before.slab_bytes(),
        after.slab_bytes(),
        SLAB_SLACK,
    )?;
    check(
        "vmalloc bytes in use",
        before.vmalloc,
        after.vmalloc,
        VMALLOC_SLACK,
    )?;
    check("pages in use", before.pages, after.pages, PAGE_SLACK)
}

fn check(what: &str, before: u64, after: u64, slack: u64) -> Result<()> {
    expect(
        after <= before + slack,
        format!("{what} back at {before} (+{slack})"),
        format!("{after} after {ROUNDS} rounds"),
    )
}

/// One round is one program in the guest: the control port is slow when nested.
fn round(vm: &Vm) -> Result<()> {
    let change = match vm.core {
        Core::Rust => {
            "modprobe -r hv_balloon_rust hv_vmbus_rust
             if [ -e $bus ]; then echo 'the bus is there without its module' >&2; exit 1; fi
             modprobe hv_vmbus_rust"
        }
        Core::C => {
            "cd $bus/drivers/hv_balloon
             device=$(ls -d *-*-*-*-*)
             echo $device > unbind
             echo $device > bind"
        }
    };
    let script = format!(
        "set -e
         bus={BUS}
         {change}
         tries=0
         until [ -e $(echo $bus/devices/*/driver) ]; do
             tries=$((tries + 1))
             if [ $tries -gt 200 ]; then echo 'no driver bound within 20 s' >&2; exit 1; fi
             sleep 0.1
         done"
    );
    vm.exec(&["sh", "-c", &script]).map(drop)
}

/// Kernel memory in use.
struct Use {
    slabs: BTreeMap<String, (u64, u64)>,
    vmalloc: u64,
    pages: u64,
}

impl Use {
    fn look(vm: &Vm) -> Result<Self> {
        // what is only cached goes first
        let shrink = "sync; echo 3 > /proc/sys/vm/drop_caches; \
                      for s in /sys/kernel/slab/*/shrink; do echo 1 > $s; done; sleep 2";
        vm.exec(&["sh", "-c", shrink])?;
        let meminfo = vm.read("/proc/meminfo")?;
        let free = free_pages(&vm.read("/proc/zoneinfo")?);
        let field = |name| field_kib(&meminfo, name).context(name);
        Ok(Self {
            slabs: slabs(&vm.read("/proc/slabinfo")?)
                .into_iter()
                .map(|s| (s.name, (s.objects, s.size)))
                .collect(),
            vmalloc: field("VmallocUsed")? * 1024,
            pages: (field("MemTotal")? / 4).saturating_sub(free),
        })
    }

    fn slab_bytes(&self) -> u64 {
        self.slabs
            .values()
            .map(|(objects, size)| objects * size)
            .sum()
    }
}
