// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading leaves nothing behind. The C core is built in, so for
//! it the driver is unbound and bound instead.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::devices::{self, BUS};
use crate::drivers::Core;
use crate::kernel_log;
use crate::kernel_memory::Use;
use crate::vm::Vm;

/// Before the first look, so that what is only made once is there.
const WARM_UP: u64 = 2;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, Duration::from_secs(40))?;
    for _ in 0..WARM_UP {
        round(vm)?;
    }
    let before = Use::look(vm)?;
    for _ in 0..cx.rounds {
        round(vm)?;
    }
    kernel_log::expect_no_complaint(vm)?;
    *cx.figures = format!("{} rounds", cx.rounds);
    before.expect_back(vm, cx.rounds)
}

/// One round is one program in the guest: the control port is slow when nested.
fn round(vm: &Vm) -> Result<()> {
    let change = match vm.core {
        Core::Rust => {
            "modprobe -r hv_balloon_rust hv_vmbus_rust
             if [ -e $bus ]; then echo 'the bus is there without its module' >&2; exit 1; fi
             modprobe hv_vmbus_rust"
        }
        Core::RustOnC => {
            "modprobe -r hv_balloon_rust_on_c hv_vmbus_rust_on_c
             if [ -e /sys/module/hv_vmbus_rust_on_c ]; then echo 'still there' >&2; exit 1; fi
             modprobe hv_balloon_rust_on_c"
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
