// SPDX-License-Identifier: GPL-2.0

//! The counter of instructions: a plugin of level 1's QEMU, see
//! `qemu-tests/qemu/plugins/icount.c`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use serde::de::DeserializeOwned;
use serde::Deserialize;

use crate::failure::bed;

const TIMEOUT: Duration = Duration::from_secs(60);

/// The line to the counter, which serves one at a time.
pub(crate) struct Counter(BufReader<UnixStream>);

/// Instructions so far.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Counts {
    /// Of the guest's kernel.
    pub(crate) nested_kernel: u64,
    /// Of the guest's programs.
    pub(crate) nested_user: u64,
}

/// A block of the guest's kernel: its address, and how many instructions it has.
pub(crate) type Block = (u64, u32);

/// How often each block was entered so far.
pub(crate) type Blocks = BTreeMap<Block, u64>;

#[derive(Deserialize)]
struct Reading {
    total: Counts,
}

#[derive(Deserialize)]
struct Profile {
    blocks: Vec<(u64, u32, u64)>,
    lost: u64,
}

/// What happened between two profiles.
pub(crate) fn difference(before: &Blocks, mut after: Blocks) -> Blocks {
    for (block, times) in before {
        if let Some(now) = after.get_mut(block) {
            *now -= times;
        }
    }
    after.retain(|_, times| *times > 0);
    after
}

impl Counter {
    /// Connect to the plugin's socket.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let line = UnixStream::connect(socket).context("the counter's socket")?;
        line.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self(BufReader::new(line)))
    }

    /// The counts.
    pub(crate) fn read(&mut self) -> Result<Counts> {
        Ok(self.ask::<Reading>("read")?.total)
    }

    /// The blocks.
    pub(crate) fn profile(&mut self) -> Result<Blocks> {
        let profile: Profile = self.ask("profile")?;
        ensure!(profile.lost == 0, "the counter has no room for more code");
        let blocks = profile.blocks.into_iter();
        Ok(blocks
            .map(|(at, length, times)| ((at, length), times))
            .collect())
    }

    fn ask<T: DeserializeOwned>(&mut self, what: &str) -> Result<T> {
        writeln!(self.0.get_mut(), "{what}")?;
        let mut line = String::new();
        self.0
            .read_line(&mut line)
            .map_err(|e| bed(format!("the counter does not answer: {e}")))?;
        serde_json::from_str(&line).with_context(|| format!("the counter's answer to {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{difference, Blocks};

    #[test]
    fn only_what_happened_between_counts() {
        let before = Blocks::from([((1, 3), 5), ((2, 1), 7)]);
        let after = Blocks::from([((1, 3), 9), ((2, 1), 7), ((4, 2), 1)]);
        let between = Blocks::from([((1, 3), 4), ((4, 2), 1)]);
        assert_eq!(difference(&before, after), between);
    }
}
