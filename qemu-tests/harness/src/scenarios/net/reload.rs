// SPDX-License-Identifier: GPL-2.0

//! The driver goes and comes again, with traffic in between. The C driver's module is removed too; only
//! its bus stays.

use anyhow::Result;

use crate::net::{Wire, TRANSFER};
use crate::scenarios::Context;
use crate::storage::script;

const ROUNDS: u32 = 5;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    Wire::connect(vm)?.serve()?;
    let module = vm.core.net_module();
    for _ in 0..ROUNDS {
        script(vm, &format!("rmmod {module}; modprobe {module}"))?;
        let wire = Wire::connect(vm)?;
        wire.ping("")?;
        wire.load("load", "-n 2M --bidir")?
            .expect_success(TRANSFER)?;
    }
    Ok(())
}
