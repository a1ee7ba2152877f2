// SPDX-License-Identifier: GPL-2.0

//! A load that compares: threads write to a disk, past every cache, and read what they wrote. Small, so that
//! it is under way soon in a guest whose instructions are counted.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use nix::libc;

const BLOCK: usize = 4096;
/// Most blocks of a request.
const MOST: usize = 16;
/// Blocks of a thread's part of the disk.
const PART: usize = 256;

/// How a thread ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Stopped,
    /// The disk gave an error.
    Error,
    /// It gave other data than were written.
    Mismatch,
}

/// `DISK THREADS STOP-FILE`: until there is that file, or an error. The status is 0, 2 for an error of the
/// disk, which may be gone before it is opened, and 3 for wrong data.
pub fn main(arguments: &[String]) -> Result<ExitCode> {
    let [disk, threads, stop] = arguments else {
        anyhow::bail!("usage: verify-load DISK THREADS STOP-FILE");
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(disk);
    let file = match file {
        Err(e) if is_gone(&e) => {
            println!("verify-load: {disk}: {e}");
            return Ok(ExitCode::from(2));
        }
        file => Arc::new(file.with_context(|| disk.clone())?),
    };
    let running: Vec<_> = (0..threads.parse()?)
        .map(|number| {
            let (file, stop) = (Arc::clone(&file), PathBuf::from(stop));
            thread::spawn(move || Part::new(&file, number).run(&stop))
        })
        .collect();
    let mut worst = End::Stopped;
    for thread in running {
        worst = worst.max(thread.join().unwrap_or(End::Mismatch));
    }
    Ok(ExitCode::from(match worst {
        End::Stopped => 0,
        End::Error => 2,
        End::Mismatch => 3,
    }))
}

/// There was such a disk.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENXIO | libc::ENODEV | libc::ENOENT)
    )
}

#[repr(C, align(4096))]
#[derive(Clone)]
struct Block([u8; BLOCK]);

/// A thread's part of the disk.
struct Part<'a> {
    file: &'a File,
    first: usize,
    random: u64,
    /// Of each block, which write was the last; 0: none.
    written: Vec<u64>,
    buffer: Vec<Block>,
}

impl<'a> Part<'a> {
    fn new(file: &'a File, number: usize) -> Self {
        Self {
            file,
            first: number * PART,
            random: (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            written: vec![0; PART],
            buffer: vec![Block([0; BLOCK]); MOST],
        }
    }

    fn run(mut self, stop: &Path) -> End {
        for turn in 1.. {
            if stop.exists() {
                break;
            }
            if let Err(e) = self.write(turn) {
                return self.failed("write", &e);
            }
            match self.read() {
                Ok(None) => {}
                Ok(Some(block)) => {
                    println!("verify-load: wrong data in block {block}");
                    return End::Mismatch;
                }
                Err(e) => return self.failed("read", &e),
            }
        }
        End::Stopped
    }

    fn failed(&self, what: &str, error: &io::Error) -> End {
        println!("verify-load: {what} in part {}: {error}", self.first / PART);
        End::Error
    }

    fn write(&mut self, turn: u64) -> io::Result<()> {
        let (start, count) = self.range();
        for index in start..start + count {
            let value = self.value(index, turn);
            fill(&mut self.buffer[index - start], value);
        }
        let offset = self.offset(start);
        let bytes = bytes(&mut self.buffer[..count]);
        // A write that failed may have been done, in part.
        self.written[start..start + count].fill(0);
        self.file.write_all_at(bytes, offset)?;
        self.written[start..start + count].fill(turn);
        Ok(())
    }

    /// Gives a block that has other data than were written.
    fn read(&mut self) -> io::Result<Option<usize>> {
        let (start, count) = self.range();
        let offset = self.offset(start);
        for block in &mut self.buffer[..count] {
            // what stays there was not read
            fill(block, 0);
        }
        self.file
            .read_exact_at(bytes(&mut self.buffer[..count]), offset)?;
        let mut expected = Block([0; BLOCK]);
        for index in start..start + count {
            let turn = self.written[index];
            if turn == 0 {
                continue;
            }
            fill(&mut expected, self.value(index, turn));
            if expected.0 != self.buffer[index - start].0 {
                return Ok(Some(self.first + index));
            }
        }
        Ok(None)
    }

    /// What a block is full of after a turn; never 0.
    fn value(&self, index: usize, turn: u64) -> u64 {
        (turn << 32) | (self.first + index + 1) as u64
    }

    /// In bytes, from the beginning of the disk.
    fn offset(&self, index: usize) -> u64 {
        ((self.first + index) * BLOCK) as u64
    }

    fn range(&mut self) -> (usize, usize) {
        let count = 1 + self.below(MOST);
        (self.below(PART - count + 1), count)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // the remainder is less than a number of blocks
        ((self.random >> 16) % limit as u64) as usize
    }
}

fn fill(block: &mut Block, value: u64) {
    for word in block.0.chunks_exact_mut(8) {
        word.copy_from_slice(&value.to_le_bytes());
    }
}

fn bytes(blocks: &mut [Block]) -> &mut [u8] {
    let len = std::mem::size_of_val(blocks);
    // SAFETY: A block is bytes and nothing else, without padding, and so are blocks in a row.
    unsafe { std::slice::from_raw_parts_mut(blocks.as_mut_ptr().cast(), len) }
}

#[cfg(test)]
mod tests {
    use super::{fill, Block, Part, BLOCK, PART};
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_was_written_is_told_from_other_data() {
        let path = std::env::temp_dir().join(format!("verify-load-{}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        file.set_len((2 * PART * BLOCK) as u64).unwrap();
        let mut part = Part::new(&file, 1);
        for turn in 1..50 {
            part.write(turn).unwrap();
            assert_eq!(part.read().unwrap(), None);
        }
        let mut other = Block([0; BLOCK]);
        fill(&mut other, 1);
        for block in PART..2 * PART {
            file.write_all_at(&other.0, (block * BLOCK) as u64).unwrap();
        }
        let found = (0..50).find_map(|_| part.read().unwrap());
        assert!(found.is_some_and(|block| block >= PART));
        fs::remove_file(path).unwrap();
    }
}
