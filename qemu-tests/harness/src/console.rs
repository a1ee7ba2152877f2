// SPDX-License-Identifier: GPL-2.0

//! What a machine prints: kept in a file, and searched for signs of trouble.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result};

/// Lines that mean the kernel is in trouble. `rcu:` stalls have text between
/// their two halves, hence the pairs.
const TROUBLE: [(&str, &str); 11] = [
    ("Kernel panic", ""),
    ("BUG:", ""),
    ("kernel BUG at", ""),
    ("Oops:", ""),
    ("WARNING:", ""),
    ("general protection fault", ""),
    ("rcu:", "stall"),
    ("INFO: task", "blocked for more than"),
    ("Out of memory:", ""),
    ("INFO: trying to register", "key"),
    ("UBSAN:", ""),
];

/// A text that grows.
pub(crate) struct Console {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    start: Instant,
    partial: Vec<u8>,
    lines: Vec<String>,
    echo: bool,
}

impl Console {
    /// A text that is also written to this file, each line with its time.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            path: path.to_owned(),
            inner: Mutex::new(Inner {
                file,
                start: Instant::now(),
                partial: Vec::new(),
                lines: Vec::new(),
                echo: false,
            }),
        })
    }

    /// Where it is written.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Also show the raw bytes on the standard output, or no longer.
    pub(crate) fn set_echo(&self, echo: bool) {
        self.lock().echo = echo;
    }

    /// More bytes.
    pub(crate) fn feed(&self, data: &[u8]) {
        self.lock().feed(data);
    }

    /// How many whole lines there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// The lines from a position on.
    pub(crate) fn since(&self, start: usize) -> Vec<String> {
        self.lock().lines.get(start..).unwrap_or_default().to_vec()
    }

    /// The last lines.
    pub(crate) fn tail(&self, count: usize) -> Vec<String> {
        let inner = self.lock();
        let start = inner.lines.len().saturating_sub(count);
        inner.lines[start..].to_vec()
    }

    /// The first sign of trouble from a position on, apart from those expected.
    pub(crate) fn trouble(&self, start: usize, expected: &[&str]) -> Option<String> {
        self.since(start)
            .into_iter()
            .find(|line| is_trouble(line) && !expected.iter().any(|e| line.contains(e)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn feed(&mut self, data: &[u8]) {
        if self.echo {
            let mut out = std::io::stdout();
            // A closed terminal ends the program by its own signal.
            let _ = out.write_all(data).and_then(|()| out.flush());
        }
        for byte in data {
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
                    self.partial.clear();
                    let time = self.start.elapsed().as_secs_f64();
                    // The log is a help; a full disk shows elsewhere.
                    let _ = writeln!(self.file, "[{time:9.3}] {line}");
                    self.lines.push(line);
                }
                b'\r' | 0 => {}
                other => self.partial.push(*other),
            }
        }
    }
}

/// Whether a line of a kernel log means trouble.
pub(crate) fn is_trouble(line: &str) -> bool {
    TROUBLE.iter().any(|(first, second)| {
        line.split_once(first)
            .is_some_and(|(_, rest)| rest.contains(second))
    })
}

#[cfg(test)]
mod tests {
    use super::is_trouble;

    #[test]
    fn trouble_is_told_from_chatter() {
        assert!(is_trouble("[    1.0] Kernel panic - not syncing: x"));
        assert!(is_trouble(
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"
        ));
        assert!(is_trouble(
            "INFO: task modprobe:77 blocked for more than 120 seconds."
        ));
        assert!(!is_trouble("rcu: Hierarchical RCU implementation."));
        assert!(!is_trouble("hv_vmbus: Vmbus version:4.0"));
    }
}
