// SPDX-License-Identifier: GPL-2.0

//! The guest is saved under load, and goes on in a new QEMU.

use anyhow::Result;

use crate::net::{Wire, TRANSFER};
use crate::scenarios::Context;
use crate::storage::script;

const ROUNDS: u32 = 2;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    wire.serve()?;
    for _ in 0..ROUNDS {
        let load = wire.load("load", "-t 15 -P 4 --bidir")?;
        script(vm, "sleep 3")?;
        load.expect_running()?;
        vm.migrate()?;
        load.expect_running()?;
        load.expect_success(TRANSFER)?;
        wire.ping("")?;
    }
    Ok(())
}
