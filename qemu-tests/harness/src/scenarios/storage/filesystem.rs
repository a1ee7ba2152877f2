// SPDX-License-Identifier: GPL-2.0

//! Partitions, ext4, checksums over dropped caches, and discard.

use anyhow::{Context as _, Result};

use crate::failure::expect;
use crate::scenarios::Context;
use crate::storage::{self, script, BIG_SECTORS, MAIN, PLAIN};
use crate::vm::Vm;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    storage::load(vm)?;
    let plain = storage::wait_for(vm, MAIN, PLAIN)?;
    let big = storage::wait_for(vm, MAIN, BIG_SECTORS)?;
    script(
        vm,
        &format!(
            "printf 'size=100M\\nsize=100M\\n' | sfdisk -q /dev/{plain}
             for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/{plain}2 ] && break; sleep 0.3; done"
        ),
    )?;
    for partition in [format!("{plain}2"), big] {
        files(vm, &partition)?;
    }
    discard(vm, &plain)
}

/// Files that are read again from the disk are those that were written.
fn files(vm: &Vm, disk: &str) -> Result<()> {
    let text = format!(
        "mkfs.ext4 -q -F /dev/{disk}
         mkdir -p /mnt && mount -t ext4 /dev/{disk} /mnt
         cp /usr/bin/fio /bin/busybox /mnt
         for i in 1 2 3 4 5 6 7 8; do head -c $((i * 123457)) /dev/urandom > /mnt/random$i; done
         cd /mnt && sha256sum fio busybox random* > /tmp/sums && cd /
         umount /mnt
         echo 3 > /proc/sys/vm/drop_caches
         mount -t ext4 /dev/{disk} /mnt
         cd /mnt && sha256sum -c /tmp/sums && rm random3 && cd /
         umount /mnt
         e2fsck -f -n /dev/{disk}"
    );
    script(vm, &text).map(drop)
}

/// The host gets the space back, and the guest reads zeroes.
fn discard(vm: &Vm, disk: &str) -> Result<()> {
    const LEFT: u64 = 1 << 20;
    let before = host_bytes(vm)?;
    expect(before > LEFT, "a disk that takes space on the host", before)?;
    script(vm, &format!("blkdiscard /dev/{disk}"))?;
    let after = host_bytes(vm)?;
    expect(after < LEFT, "the space back after a discard", after)?;
    let zeroes = script(
        vm,
        &format!("head -c 4194304 /dev/{disk} | tr -d '\\000' | wc -c"),
    )?;
    expect(
        zeroes.trim() == "0",
        "zeroes after a discard",
        zeroes.trim(),
    )
}

/// What the plain disk takes on the host.
fn host_bytes(vm: &Vm) -> Result<u64> {
    let nodes = vm.qmp("query-named-block-nodes", &serde_json::Value::Null)?;
    nodes
        .as_array()
        .and_then(|nodes| nodes.iter().find(|n| n["node-name"] == "plain"))
        .and_then(|n| n["image"]["actual-size"].as_u64())
        .context("no size of the node 'plain' in query-named-block-nodes")
}
