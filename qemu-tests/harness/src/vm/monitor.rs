// SPDX-License-Identifier: GPL-2.0

//! QEMU's monitor.

use std::sync::{atomic::Ordering, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, Result};
use serde_json::Value;
use vmbus_guest::protocol::Channel;

use super::{Vm, CALL_TIMEOUT, TICK};
use crate::qmp;

impl Vm {
    /// The monitor hears nothing before it has greeted.
    pub(super) fn wait_for_monitor(&self) -> Result<()> {
        let monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        self.receive(&monitor, CALL_TIMEOUT, "the monitor's greeting", |line| {
            line.contains("\"QMP\"").then_some(())
        })
    }

    /// A command of the monitor.
    pub(crate) fn qmp(&self, name: &str, arguments: &Value) -> Result<Value> {
        match self.try_qmp(name, arguments)? {
            Ok(value) => Ok(value),
            Err(refusal) => Err(anyhow!("QMP {name}: {} ({})", refusal.desc, refusal.class)),
        }
    }

    /// A command of the monitor, which it may refuse.
    pub(crate) fn try_qmp(
        &self,
        name: &str,
        arguments: &Value,
    ) -> Result<std::result::Result<Value, qmp::Refusal>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.bed
            .send(Channel::Qmp, qmp::command(id, name, arguments).as_bytes())?;
        let monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        self.receive(&monitor, CALL_TIMEOUT, &format!("QMP {name}"), |line| {
            match serde_json::from_str(line).ok()? {
                qmp::Line::Return { value, id: Some(n) } if n == id => Some(Ok(value)),
                qmp::Line::Error { error, id: Some(n) } if n == id => Some(Err(error)),
                _ => None,
            }
        })
    }

    /// Wait for the next event of this name from now on; gives whether it came.
    pub(crate) fn next_event(&self, name: &str, timeout: Duration) -> Result<bool> {
        let monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        while monitor.try_recv().is_ok() {}
        let start = Instant::now();
        while start.elapsed() < timeout {
            if let Ok(line) = monitor.recv_timeout(TICK) {
                if matches!(serde_json::from_str(&line), Ok(qmp::Line::Event { event }) if event == name)
                {
                    return Ok(true);
                }
            } else {
                self.check_alive(name)?;
            }
        }
        Ok(false)
    }
}
