// SPDX-License-Identifier: GPL-2.0

//! In one boot an adapter goes from the Rust driver on the C core to the C driver and back, and connections through
//! it survive: the interface is another one each time and gets the same address.

use anyhow::Result;

use crate::devices::{change_driver, forget_override};
use crate::drivers::Core;
use crate::net::{Wire, WIRE};
use crate::scenarios::Context;
use crate::storage::script;

/// Each takes two new interfaces, and connections find back to their pace.
const ROUNDS_TO_ONE: u32 = 4;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let mut wire = Wire::connect(vm)?;
    wire.serve()?;
    script(vm, &format!("modprobe {}", Core::C.net_module()))?;
    let mut load = wire.stream()?;

    let rounds = cx.rounds.div_ceil(ROUNDS_TO_ONE);
    let (rust, c) = (vm.core.net_driver(), Core::C.net_driver());
    for _ in 0..rounds {
        for (from, to) in [(rust, c), (c, rust)] {
            change_driver(vm, WIRE, from, to)?;
            wire = Wire::connect(vm)?;
            load.goes_by(&wire);
            load.expect_flow()?;
        }
    }
    forget_override(vm, WIRE)?;
    load.stop()?;
    wire.ping("")?;
    // else an adapter that comes later may be its
    script(vm, &format!("rmmod {}", Core::C.net_module()))?;
    *cx.figures = format!("{rounds} rounds, no connection lost");
    Ok(())
}
