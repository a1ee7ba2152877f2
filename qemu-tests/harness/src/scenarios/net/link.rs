// SPDX-License-Identifier: GPL-2.0

//! The host takes the link away and gives it back.

use anyhow::Result;

use crate::failure::expect;
use crate::net::{self, Wire};
use crate::scenarios::Context;

const ROUNDS: u32 = 3;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    wire.ping("")?;
    for _ in 0..ROUNDS {
        net::set_link(vm, "wire", false)?;
        net::wait_carrier(vm, &wire.name, false)?;
        let lost = vm.try_exec(&["sh", "-c", "ping -c 1 -W 2 192.168.7.2"])?;
        expect(lost.status != 0, "no answer without a link", lost.stdout)?;
        net::set_link(vm, "wire", true)?;
        net::wait_carrier(vm, &wire.name, true)?;
        wire.ping("")?;
    }
    // there and gone before anybody looks: what counts is how it ends
    net::set_link(vm, "wire", false)?;
    net::set_link(vm, "wire", true)?;
    net::wait_carrier(vm, &wire.name, true)?;
    wire.ping("")
}
