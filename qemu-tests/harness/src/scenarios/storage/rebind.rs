// SPDX-License-Identifier: GPL-2.0

//! In one boot a controller goes from the Rust driver on the C core to the C driver and back, while another one
//! stays and is read and written.

use std::time::Duration;

use anyhow::Result;

use crate::devices::{change_driver, forget_override};
use crate::drivers::Core;
use crate::fio::{Passes, Verify};
use crate::scenarios::Context;
use crate::storage::{self, script, MAIN, PLAIN, SPARE};
use crate::vm::Vm;

const DISK: storage::Address = (0, 0, 0);
/// What goes on at the other controller.
const LOAD: Verify = Verify {
    pattern: "randwrite",
    block: "4k-64k",
    depth: 16,
    jobs: 1,
    mib: 16,
};
/// A round takes 6 s of a CPU.
const ROUNDS_TO_ONE: u32 = 4;
/// The two drivers, in turn.
const DRIVERS: [&str; 2] = ["hv_storvsc", "hv_storvsc_rust"];

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let other = storage::wait_for(vm, MAIN, PLAIN)?;
    storage::wait_for(vm, SPARE, DISK)?;
    script(vm, &format!("modprobe {}", Core::C.storage_module()))?;
    let load = Passes::start(vm, &other, &[LOAD])?;

    let rounds = cx.rounds.div_ceil(ROUNDS_TO_ONE);
    for round in 0..rounds {
        for (from, to) in [(DRIVERS[1], DRIVERS[0]), (DRIVERS[0], DRIVERS[1])] {
            change_driver(vm, SPARE, from, to)?;
            keeps(vm, &format!("{round} {to}"))?;
        }
    }
    forget_override(vm, SPARE)?;
    load.expect_running()?;
    load.stop()?;
    // else a controller that comes later may be its
    script(vm, &format!("rmmod {}", Core::C.storage_module()))?;
    *cx.figures = format!("{rounds} rounds");
    Ok(())
}

/// What one driver has written, and then something new.
fn keeps(vm: &Vm, text: &str) -> Result<()> {
    let disk = storage::wait_for(vm, SPARE, DISK)?;
    vm.wait_until(Duration::from_secs(20), "the disk to be readable", || {
        let read = vm.try_exec(&[
            "dd",
            &format!("if=/dev/{disk}"),
            "of=/dev/null",
            "bs=4k",
            "count=1",
        ])?;
        Ok(if read.status == 0 {
            Ok(())
        } else {
            Err(read.stderr)
        })
    })?;
    script(
        vm,
        &format!(
            "if [ -e /tmp/last ]; then
                 dd if=/dev/{disk} bs=4k count=256 iflag=direct 2>/dev/null | cmp - /tmp/last
             fi
             yes '{text}' | head -c 1048576 > /tmp/last
             dd if=/tmp/last of=/dev/{disk} bs=4k oflag=direct conv=fsync 2>/dev/null"
        ),
    )
    .map(drop)
}
