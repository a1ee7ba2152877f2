// SPDX-License-Identifier: GPL-2.0

//! The guest is saved under load, and goes on in a new QEMU.

use anyhow::Result;

use crate::net::Wire;
use crate::scenarios::Context;

const ROUNDS: u32 = 2;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    wire.serve()?;
    for _ in 0..ROUNDS {
        let load = wire.stream()?;
        vm.migrate()?;
        load.stop()?;
        wire.ping("")?;
    }
    Ok(())
}
