// SPDX-License-Identifier: GPL-2.0

//! What can be asked of the guest, over its control port.

use std::collections::BTreeMap;
use std::sync::{atomic::Ordering, PoisonError};
use std::time::Duration;

use anyhow::{anyhow, Context, Result};
use vmbus_guest::protocol::{Channel, GuestReply, GuestRequest, Numbered};

use super::{Vm, CALL_TIMEOUT};
use crate::drivers::Core;
use crate::failure::unmet;

/// A benchmark does a number of things, however long they take.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(1200);

/// What a program in the guest gave.
#[derive(Debug)]
pub(crate) struct Exec {
    /// Its exit status.
    pub(crate) status: i32,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Vm {
    /// Bring the drivers in: the core by name, the rest by device events.
    pub(crate) fn load_core(&self) -> Result<()> {
        if self.core_loaded.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let parameters = self.machine.modprobe_settings();
        let settings = self.core.modprobe_settings().to_owned() + &parameters;
        self.write("/etc/modprobe.d/vmbus.conf", &settings)?;
        self.ask(GuestRequest::Autoload)?;
        if self.core == Core::Rust {
            self.exec(&["modprobe", "hv_vmbus_rust"])?;
        }
        Ok(())
    }

    /// What the guest can see of its hypervisor.
    pub(crate) fn look(&self) -> Result<String> {
        match self.ask(GuestRequest::Look)? {
            GuestReply::Data { data } => Ok(data),
            other => Err(refused(other)).context("a look at the hypervisor"),
        }
    }

    /// Make the file system on this disk the guest's root.
    pub(crate) fn enter_root(&self, disk: &str) -> Result<()> {
        let device = format!("/dev/{disk}");
        match self.ask(GuestRequest::EnterRoot { device })? {
            GuestReply::Done => Ok(()),
            other => Err(refused(other)).with_context(|| format!("a root on {disk}")),
        }
    }

    /// Run a program in the guest; a failing one is an error.
    pub(crate) fn exec(&self, argv: &[&str]) -> Result<String> {
        let done = self.try_exec(argv)?;
        if done.status != 0 {
            return Err(unmet(
                format!("'{}' to succeed", summary(argv)),
                format!("status {}: {}", done.status, done.stderr.trim()),
            ));
        }
        Ok(done.stdout)
    }

    /// Run a program in the guest.
    pub(crate) fn try_exec(&self, argv: &[&str]) -> Result<Exec> {
        let argv = argv.iter().map(|s| (*s).to_owned()).collect();
        match self.ask(GuestRequest::Exec { argv })? {
            GuestReply::Exec {
                status,
                stdout,
                stderr,
            } => Ok(Exec {
                status,
                stdout,
                stderr,
            }),
            other => Err(refused(other)),
        }
    }

    /// A file of the guest.
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        match self.ask(GuestRequest::Read {
            path: path.to_owned(),
        })? {
            GuestReply::Data { data } => Ok(data),
            other => Err(refused(other)).with_context(|| format!("read {path} in the guest")),
        }
    }

    /// What an interface has counted: the netlink family's queues by their names, and `all`, each with packets and
    /// bytes received, then sent.
    pub(crate) fn queue_statistics(
        &self,
        device: &str,
    ) -> Result<BTreeMap<String, [Option<u64>; 4]>> {
        let reply = self.ask(GuestRequest::QueueStatistics {
            device: device.to_owned(),
        })?;
        let GuestReply::Data { data } = reply else {
            return Err(refused(reply)).context("statistics of queues");
        };
        data.lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let (name, numbers) = words
                    .split_last_chunk::<4>()
                    .with_context(|| line.to_owned())?;
                Ok((name.join(" "), numbers.map(|number| number.parse().ok())))
            })
            .collect()
    }

    /// Write a file of the guest; a refusal is an error.
    pub(crate) fn write(&self, path: &str, data: &str) -> Result<()> {
        match self.try_write(path, data)? {
            None => Ok(()),
            Some(errno) => Err(unmet(
                format!("a write of '{}' to {path} to succeed", data.trim()),
                std::io::Error::from_raw_os_error(errno),
            )),
        }
    }

    /// Write a file of the guest; gives the error number of a refusal.
    pub(crate) fn try_write(&self, path: &str, data: &str) -> Result<Option<i32>> {
        let ask = GuestRequest::Write {
            path: path.to_owned(),
            data: data.to_owned(),
        };
        match self.ask(ask)? {
            GuestReply::Done => Ok(None),
            GuestReply::Error {
                errno: Some(errno), ..
            } => Ok(Some(errno)),
            other => Err(refused(other)),
        }
    }

    /// The names in a folder of the guest; none if there is no such folder.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>> {
        match self.ask(GuestRequest::List {
            path: path.to_owned(),
        })? {
            GuestReply::Names { names } => Ok(names),
            GuestReply::Error { .. } => Ok(Vec::new()),
            other => Err(refused(other)),
        }
    }

    /// The last part of a link's target in the guest, if there is the link.
    pub(crate) fn link_name(&self, path: &str) -> Result<Option<String>> {
        match self.ask(GuestRequest::Link {
            path: path.to_owned(),
        })? {
            GuestReply::Data { data } => Ok(data.rsplit('/').next().map(str::to_owned)),
            GuestReply::Error { .. } => Ok(None),
            other => Err(refused(other)),
        }
    }

    /// What the script that the guest began with gave. Nothing may be asked of the guest before: it
    /// would come at a time of this machine's.
    pub(crate) fn script(&self) -> Result<Vec<GuestReply>> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let what = "the end of the guest's script";
        self.receive(
            &control,
            SCRIPT_TIMEOUT,
            what,
            |line| match serde_json::from_str::<Numbered<GuestReply>>(line)
                .ok()?
                .body
            {
                GuestReply::Script { replies } => Some(replies),
                _ => None,
            },
        )
    }

    /// The kernel's log: all of it from process 1 on, of the boot only what is about Hyper-V.
    pub(crate) fn dmesg(&self) -> Result<String> {
        self.log("dmesg")
    }

    /// The same, with `<level>` in front of each line.
    pub(crate) fn raw_dmesg(&self) -> Result<String> {
        self.log("dmesg -r")
    }

    /// The whole log takes the control port of a nested guest ten seconds.
    fn log(&self, command: &str) -> Result<String> {
        const FILTER: &str =
            "NR == 1 { all = !/Linux version/ } /Run .* as init process/ { all = 1 } \
                              all || /hv_|Hyper-V/";
        self.exec(&["sh", "-c", &format!("{command} | busybox awk '{FILTER}'")])
    }

    /// A shell on the console, until it ends.
    pub(crate) fn shell(&self) -> Result<()> {
        self.call(GuestRequest::Shell, Duration::from_secs(u64::MAX / 4))
            .map(drop)
    }

    /// Ask without waiting for an answer; for what the guest does not survive.
    pub(crate) fn tell(&self, ask: GuestRequest) -> Result<()> {
        self.send(ask).map(drop)
    }

    pub(super) fn ask(&self, ask: GuestRequest) -> Result<GuestReply> {
        self.call(ask, CALL_TIMEOUT)
    }

    fn send(&self, body: GuestRequest) -> Result<u64> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut line = serde_json::to_string(&Numbered { id, body })?;
        line.push('\n');
        self.bed.send(Channel::Control, line.as_bytes())?;
        Ok(id)
    }

    fn call(&self, body: GuestRequest, timeout: Duration) -> Result<GuestReply> {
        let what = format!("{body:?}");
        let id = self.send(body)?;
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        self.receive(
            &control,
            timeout,
            &format!("the guest's answer to {what}"),
            |line| {
                let reply: Numbered<GuestReply> = serde_json::from_str(line).ok()?;
                (reply.id == id).then_some(reply.body)
            },
        )
    }
}

/// A command as an error names it: scripts by their beginning.
fn summary(argv: &[&str]) -> String {
    let all = argv.join(" ");
    let mut words = all.split_whitespace();
    let short: Vec<&str> = words.by_ref().take(8).collect();
    let rest = if words.next().is_some() { " ..." } else { "" };
    short.join(" ") + rest
}

pub(super) fn refused(reply: GuestReply) -> anyhow::Error {
    match reply {
        GuestReply::Error { message, .. } => anyhow!("the guest says: {message}"),
        other => anyhow!("the guest answered {other:?}"),
    }
}
