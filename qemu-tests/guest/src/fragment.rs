// SPDX-License-Identifier: GPL-2.0

//! Fragments the guest's memory: most of it is in pipes, whose pages the kernel cannot move, with holes of
//! 16 pages between them.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::fcntl::{fcntl, FcntlArg};
use nix::unistd::{pipe, write};

/// Blocks of memory count as large from this order on: 2^order pages.
const LARGE: usize = 6;
/// KiB that stay free in any case.
const LEFT_KIB: u64 = 8 * 1024;
/// Few of them, so that the limit of open files is not reached.
const PIPE_BYTES: i32 = 4 << 20;
const PAGE: usize = 4096;
/// Pages of a hole, and of what is between two of them.
const HOLE: usize = 16;

type Pipe = (OwnedFd, OwnedFd);

/// `READY-FILE`: makes that file when memory is fragmented, and then keeps it so until it is killed.
pub fn main(arguments: &[String]) -> Result<ExitCode> {
    let [ready] = arguments else {
        anyhow::bail!("usage: fragment READY-FILE");
    };
    // Or the kernel keeps large blocks for itself.
    fs::write("/proc/sys/vm/min_free_kbytes", "2048")?;
    let mut kept = Vec::new();
    let mut holes = Vec::new();
    while has_large_blocks()? {
        let (kept_pipe, hole_pipe) = (new_pipe()?, new_pipe()?);
        for _ in 0..usize::try_from(PIPE_BYTES)? / PAGE / HOLE {
            fill(&kept_pipe)?;
            fill(&hole_pipe)?;
            if !has_large_blocks()? {
                break;
            }
        }
        kept.push(kept_pipe);
        holes.push(hole_pipe);
    }
    drop(holes);
    fs::write(ready, format!("{} pipes\n", kept.len()))?;
    loop {
        std::thread::park();
    }
}

fn new_pipe() -> Result<Pipe> {
    let ends = pipe()?;
    fcntl(&ends.1, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).context("F_SETPIPE_SZ")?;
    Ok(ends)
}

/// Each write of a page takes a page.
fn fill((_, to): &Pipe) -> Result<()> {
    for _ in 0..HOLE {
        write(to, &[0x5a; PAGE]).context("a pipe with room")?;
    }
    Ok(())
}

/// Whether there are any that can be taken.
fn has_large_blocks() -> Result<bool> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let free = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemFree:"))
        .context("MemFree")?;
    let free: u64 = free.trim().trim_end_matches(" kB").parse()?;
    let blocks = fs::read_to_string("/proc/buddyinfo")?;
    // The DMA zone is kept for those who need it.
    let large = blocks
        .lines()
        .filter(|line| !line.contains(" DMA "))
        .any(|line| {
            let counts = line.split("zone").nth(1).unwrap_or_default();
            counts
                .split_whitespace()
                .skip(1 + LARGE)
                .any(|count| count != "0")
        });
    Ok(large && free > LEFT_KIB)
}
