// SPDX-License-Identifier: GPL-2.0

//! What the counter of instructions has found in the windows that a guest marked; it is a plugin of
//! QEMU, see `qemu-tests/qemu/plugins/icount.c`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use serde::Deserialize;

/// A block of the guest's kernel: its address, and how many instructions it has.
pub(crate) type Block = (u64, u32);

/// How often each block was entered.
pub(crate) type Blocks = BTreeMap<Block, u64>;

/// What was counted in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    /// Instructions of the guest's kernel.
    pub(crate) kernel: u64,
    /// Instructions of its programs.
    pub(crate) user: u64,
    /// Where those of the kernel were.
    pub(crate) blocks: Blocks,
}

/// A line of the counter.
#[derive(Deserialize)]
struct Line {
    kernel: u64,
    user: u64,
    blocks: Vec<(u64, u32, u64)>,
    lost: u64,
}

/// All windows of a file of the counter.
pub(crate) fn windows(file: &Path) -> Result<Vec<Window>> {
    let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    text.lines().map(window).collect()
}

fn window(line: &str) -> Result<Window> {
    let line: Line = serde_json::from_str(line).context("a line of the counter")?;
    ensure!(
        line.lost == 0,
        "the counter has no room for more code: make BLOCKS larger in qemu-tests/qemu/plugins/icount.c"
    );
    let blocks = line.blocks.into_iter();
    Ok(Window {
        kernel: line.kernel,
        user: line.user,
        blocks: blocks
            .map(|(at, length, times)| ((at, length), times))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::{window, Blocks, Window};

    #[test]
    fn a_line_is_a_window() {
        let line = r#"{"kernel":9,"user":2,"blocks":[[16,3,2],[32,1,3]],"lost":0}"#;
        let wanted = Window {
            kernel: 9,
            user: 2,
            blocks: Blocks::from([((16, 3), 2), ((32, 1), 3)]),
        };
        assert_eq!(window(line).unwrap(), wanted);
        assert!(window(&line.replace("\"lost\":0", "\"lost\":1")).is_err());
    }
}
