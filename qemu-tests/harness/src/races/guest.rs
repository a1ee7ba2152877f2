// SPDX-License-Identifier: GPL-2.0

//! A QEMU whose guest nobody talks to: what is asked of it, is asked while the guest is stopped.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{channel, Receiver};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Result};
use serde_json::{json, Value};
use vmbus_guest::protocol::{Channel, NewFile};

use crate::bed::{Bed, Streams};
use crate::console::Console;
use crate::failure::{bed, unmet};
use crate::qmp;

/// For an answer of the monitor, and for a state to be saved.
const ANSWER: Duration = Duration::from_secs(60);
/// Until a guest stops itself that boots, or whose state is loaded.
pub(super) const BOOT: Duration = Duration::from_secs(150);
pub(super) const RESUME: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

/// The QEMU.
pub(super) struct Host<'a> {
    bed: &'a Bed,
    console: Arc<Console>,
    errors: Arc<Console>,
    monitor: Receiver<String>,
    next: AtomicU64,
}

impl<'a> Host<'a> {
    /// Start it, up to the monitor's greeting; `log` names its logs.
    pub(super) fn start(
        bed: &'a Bed,
        argv: Vec<String>,
        files: Vec<NewFile>,
        logs: &Path,
        log: &str,
    ) -> Result<Self> {
        let console = Console::create(&logs.join(format!("{log}-console.log")))?;
        let errors = Console::create(&logs.join(format!("{log}-host.log")))?;
        let (console, errors) = (Arc::new(console), Arc::new(errors));
        let (to_control, _control) = channel();
        let (to_monitor, monitor) = channel();
        let streams = Streams {
            console: Arc::clone(&console),
            host: Arc::clone(&errors),
            control: to_control,
            qmp: to_monitor,
        };
        bed.start_qemu(argv, files, streams)?;
        let it = Self {
            bed,
            console,
            errors,
            monitor,
            next: AtomicU64::new(1),
        };
        it.line("the monitor's greeting", |line| {
            line.contains("\"QMP\"").then_some(())
        })?;
        it.qmp("qmp_capabilities", &Value::Null)?;
        Ok(it)
    }

    /// Wait until the guest has stopped itself, and save it.
    pub(super) fn save(&self, to: &Path) -> Result<()> {
        self.wait_for_status("guest-panicked", BOOT)?;
        let uri = format!("file:{}", to.display());
        self.qmp("migrate", &json!({ "uri": uri }))?;
        self.wait(ANSWER, "the guest saved", || {
            let now = self.qmp("query-migrate", &Value::Null)?;
            match now["status"].as_str() {
                Some("completed") => Ok(Ok(())),
                Some("failed" | "cancelled") => Err(anyhow!("the guest is not saved: {now}")),
                _ => Ok(Err(now.to_string())),
            }
        })
    }

    /// Let a guest go on that has stopped itself, or will within this time.
    pub(super) fn go_on(&self, stops: Duration) -> Result<()> {
        self.wait_for_status("guest-panicked", stops)?;
        self.qmp("cont", &Value::Null).map(drop)
    }

    /// Wait until it has ended by itself.
    pub(super) fn wait_for_end(&self, timeout: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(ended) = self.bed.ended() {
                return match (ended.status, ended.signal) {
                    (Some(0), None) => Ok(()),
                    _ => Err(self.death()),
                };
            }
            if start.elapsed() > timeout {
                return Err(unmet(
                    "the end of the run",
                    format!("it still runs after {} s", timeout.as_secs()),
                ));
            }
            std::thread::sleep(TICK);
        }
    }

    /// What the guest has printed.
    pub(super) fn console(&self) -> Vec<String> {
        self.console.since(0)
    }

    fn wait_for_status(&self, status: &str, timeout: Duration) -> Result<()> {
        self.wait(timeout, &format!("status '{status}'"), || {
            let now = self.qmp("query-status", &Value::Null)?;
            Ok(if now["status"] == status {
                Ok(())
            } else {
                Err(now.to_string())
            })
        })
    }

    fn wait(
        &self,
        timeout: Duration,
        what: &str,
        mut poll: impl FnMut() -> Result<std::result::Result<(), String>>,
    ) -> Result<()> {
        let start = Instant::now();
        while let Err(found) = poll()? {
            if start.elapsed() > timeout {
                let last = self.console.tail(3).join(" | ");
                return Err(bed(format!("no {what}: {found}; {last}")));
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn qmp(&self, name: &str, arguments: &Value) -> Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let command = qmp::command(id, name, arguments);
        self.bed.send(Channel::Qmp, command.as_bytes())?;
        let answer = self.line(name, |line| match serde_json::from_str(line).ok()? {
            qmp::Line::Return { value, id: Some(n) } if n == id => Some(Ok(value)),
            qmp::Line::Error { error, id: Some(n) } if n == id => Some(Err(error)),
            _ => None,
        })?;
        answer.map_err(|refusal| bed(format!("QMP {name}: {}", refusal.desc)))
    }

    fn line<T>(&self, what: &str, mut take: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Ok(line) = self.monitor.recv_timeout(TICK) {
                if let Some(value) = take(&line) {
                    return Ok(value);
                }
            } else if self.bed.ended().is_some() {
                return Err(self.death());
            } else if start.elapsed() > ANSWER {
                return Err(bed(format!("no answer to {what}")));
            }
        }
    }

    fn death(&self) -> anyhow::Error {
        let said = self.errors.tail(2).join(" | ");
        bed(format!("QEMU ended: {said}"))
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        self.bed.stop_qemu();
    }
}
