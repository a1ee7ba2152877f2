// SPDX-License-Identifier: GPL-2.0

//! Somebody reads a block into less room than it takes: the host says that it does not fit, the command fails, and
//! nothing is written where there is no room.

use anyhow::Result;

use crate::failure::expect;
use crate::scenarios::Context;
use crate::storage::{self, script, MAIN, PLAIN};
use crate::vm::Vm;

/// READ(10) of one block of 512 bytes.
const READ: &str = "28 00 00 00 00 00 00 00 01 00";

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let disk = storage::wait_for(vm, MAIN, PLAIN)?;
    script(
        vm,
        &format!("dd if=/dev/urandom of=/dev/{disk} bs=512 count=1 oflag=direct 2>/dev/null"),
    )?;
    // none at all, none of a block, and all but one of two
    for room in [16, 256, 511] {
        let (status, read) = read(vm, &disk, room)?;
        expect(
            status != 0 && read == 0,
            format!("a READ of 512 bytes to fail with room for {room}"),
            format!("status {status}, {read} bytes"),
        )?;
    }
    let (status, read) = read(vm, &disk, 512)?;
    expect(
        (status, read) == (0, 512),
        "a READ with room to succeed",
        format!("status {status}, {read} bytes"),
    )?;
    script(
        vm,
        &format!("dd if=/dev/{disk} bs=512 count=1 iflag=direct 2>/dev/null | cmp - /tmp/block"),
    )
    .map(drop)
}

/// The status of a READ with so much room, and how many bytes came.
fn read(vm: &Vm, disk: &str, room: u32) -> Result<(i32, u64)> {
    let command = format!("rm -f /tmp/block; sg_raw -o /tmp/block -r {room} /dev/{disk} {READ}");
    let done = vm.try_exec(&["sh", "-c", &command])?;
    let size = script(vm, "[ ! -e /tmp/block ] || wc -c < /tmp/block")?;
    Ok((done.status, size.trim().parse().unwrap_or(0)))
}
