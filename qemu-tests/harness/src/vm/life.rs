// SPDX-License-Identifier: GPL-2.0

//! How a guest begins, is saved, goes on elsewhere, boots again and crashes.

use std::path::Path;
use std::sync::{atomic::Ordering, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{json, Value};
use vmbus_guest::protocol::{GuestReply, GuestRequest, NewFile, Numbered};

use super::{ask::refused, streams, Vm, TICK};
use crate::bed::Streams;
use crate::failure::{bed, unmet};
use crate::image::{CRASH_INITRAMFS, CRASH_KERNEL};
use crate::paths::Paths;
use crate::prepared::{self, Start};
use crate::{firmware, installed};

const BOOT_TIMEOUT: Duration = Duration::from_secs(150);
const CRASH_TIMEOUT: Duration = Duration::from_secs(150);
const CRASH_ARGUMENTS: &str = "console=ttyS0 loglevel=5 panic=1 nr_cpus=1 reset_devices";
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(120);
/// A card that is to go is looked after 5 s later; and then there is what the guest does.
const GONE: Duration = Duration::from_secs(60);

impl Vm {
    pub(super) fn begin(&self, start: &Start, files: Vec<NewFile>, streams: Streams) -> Result<()> {
        let (mut argv, mut plugged) = prepared::split(&self.argv);
        match start {
            Start::Boot => {
                argv.clone_from(&self.argv);
                plugged.clear();
            }
            Start::Leave(_) => {}
            Start::GoOn(state) => {
                argv.extend(["-incoming".to_owned(), format!("file:{}", state.display())]);
            }
        }
        self.bed.start_qemu(argv, files, streams)?;
        match start {
            Start::Boot => self.wait_for_boot()?,
            Start::Leave(state) => {
                self.wait_for_boot()?;
                self.leave(state).map_err(|e| bed(format!("{e:#}")))?;
            }
            Start::GoOn(_) => self.arrive().map_err(|e| bed(format!("{e:#}")))?,
        }
        for device in plugged {
            self.plug(&device)?;
        }
        Ok(())
    }

    fn wait_for_boot(&self) -> Result<()> {
        self.wait_for_user_space()?;
        self.qmp("qmp_capabilities", &Value::Null).map(drop)
    }

    /// Save the guest's state, and go on.
    fn leave(&self, state: &Path) -> Result<()> {
        self.qmp("stop", &Value::Null)?;
        self.save(&format!("file:{}", state.display()))?;
        self.qmp("cont", &Value::Null).map(drop)
    }

    /// A device as QEMU's command line has it.
    fn plug(&self, device: &str) -> Result<()> {
        self.try_plug(device)?
            .map_err(|said| bed(format!("'{device}' is not plugged: {said}")))
    }

    fn try_plug(&self, device: &str) -> Result<std::result::Result<(), String>> {
        let command = json!({ "command-line": format!("device_add {device}") });
        let said = self.qmp("human-monitor-command", &command)?;
        Ok(match said.as_str().unwrap_or_default().trim() {
            "" => Ok(()),
            refusal => Err(refusal.to_owned()),
        })
    }

    /// The host offers a device that was taken away again, as it was at the start. Gives QEMU's
    /// refusal, as while the former one is not gone yet.
    pub(crate) fn plug_again(&self, id: &str) -> Result<std::result::Result<(), String>> {
        let device =
            prepared::device(&self.argv, id).with_context(|| format!("no device '{id}'"))?;
        self.try_plug(device)
    }

    /// Plug in a device whose former one may not be gone on the host's side yet: the guest has to let go of it.
    pub(crate) fn plug_when_gone(&self, device: &Value) -> Result<()> {
        let what = format!(
            "the host's side of '{}' gone",
            device["id"].as_str().unwrap_or_default()
        );
        self.wait_until(GONE, &what, || {
            Ok(self
                .try_qmp("device_add", device)?
                .map(drop)
                .map_err(|refusal| refusal.desc))
        })
    }

    fn wait_for_user_space(&self) -> Result<()> {
        let deadline = Instant::now() + BOOT_TIMEOUT;
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if control
                .recv_timeout(TICK)
                .is_ok_and(|line| is_greeting(&line))
            {
                return Ok(());
            }
            if let Some(how) = self.ended() {
                let last = self.host.tail(1).pop().unwrap_or_default();
                return Err(bed(format!("QEMU ended before user space ({how}): {last}")));
            }
            if let Some(line) = self.trouble() {
                return Err(bed(format!("the guest failed before user space: {line}")));
            }
            if self.bed.is_gone() {
                return Err(bed("the agent died while the guest booted"));
            }
            if Instant::now() > deadline {
                return Err(bed(format!(
                    "no user space within {} s",
                    BOOT_TIMEOUT.as_secs()
                )));
            }
        }
    }

    /// Save the running guest to a file, end its QEMU, and go on in a new one.
    pub(crate) fn migrate(&self) -> Result<()> {
        let state = format!("file:{}/state", self.bed.folder);
        self.save(&state)?;
        self.bed.stop_qemu();

        self.start_again(["-incoming".to_owned(), state])?;
        self.wait_for_arrival("running")
    }

    /// Save the guest, which is stopped then.
    fn save(&self, to: &str) -> Result<()> {
        // a file is no network, which QEMU would spare
        self.qmp("migrate-set-parameters", &json!({ "max-bandwidth": 0 }))?;
        self.qmp("migrate", &json!({ "uri": to }))?;
        self.wait_until(MIGRATION_TIMEOUT, "the guest saved", || {
            let now = self.qmp("query-migrate", &Value::Null)?;
            match now["status"].as_str() {
                Some("completed") => Ok(Ok(())),
                Some("failed" | "cancelled") => Err(unmet("the guest saved", now)),
                _ => Ok(Err(now.to_string())),
            }
        })
    }

    /// Let a guest go on that was stopped before it was saved.
    fn arrive(&self) -> Result<()> {
        self.wait_for_arrival("paused")?;
        self.qmp("cont", &Value::Null).map(drop)
    }

    /// Wait until a guest that was saved is here, in the state that it was in.
    fn wait_for_arrival(&self, status: &str) -> Result<()> {
        self.wait_for_monitor()?;
        self.qmp("qmp_capabilities", &Value::Null)?;
        self.wait_until(MIGRATION_TIMEOUT, "the guest going on", || {
            let now = self.qmp("query-status", &Value::Null)?;
            Ok(if now["status"] == status {
                Ok(())
            } else {
                Err(now.to_string())
            })
        })
    }

    /// Another QEMU with the disks as they are.
    fn start_again(&self, more: impl IntoIterator<Item = String>) -> Result<()> {
        let (streams, control, monitor) = streams(&self.console, &self.host);
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = control;
        *self.monitor.lock().unwrap_or_else(PoisonError::into_inner) = monitor;
        let argv = self.argv.iter().cloned().chain(more).collect();
        self.bed.start_qemu(argv, Vec::new(), streams)
    }

    /// Boot once more, after the guest has ended.
    pub(crate) fn boot_again(&self) -> Result<()> {
        self.forget();
        self.start_again([])?;
        self.wait_for_boot()
    }

    /// The installed machine boots once more, after it has ended, with what its disk says now.
    pub(crate) fn boot_installed(&self, paths: &Paths) -> Result<()> {
        installed::update_firmware_disk(paths, Path::new(&self.bed.folder))?;
        self.boot_again()
    }

    /// The firmware trusts who has this certificate, from the next start on.
    pub(crate) fn trust(&self, paths: &Paths, certificate: &Path) -> Result<()> {
        let variables = Path::new(&self.bed.folder).join(firmware::VARIABLES);
        firmware::trust(paths, &variables, certificate)
    }

    /// Load the crash kernel that the initramfs has; it uses one CPU.
    pub(crate) fn load_crash_kernel(&self) -> Result<()> {
        let arguments = self.core.kernel_arguments();
        let ask = GuestRequest::LoadCrashKernel {
            kernel: CRASH_KERNEL.into(),
            initramfs: CRASH_INITRAMFS.into(),
            command_line: format!("{CRASH_ARGUMENTS} {arguments}"),
        };
        match self.ask(ask)? {
            GuestReply::Done => Ok(()),
            other => Err(refused(other)).context("a crash kernel"),
        }
    }

    /// Let the kernel panic on a CPU; what answers from then on is process 1 of the crash kernel.
    pub(crate) fn crash(&self, cpu: usize) -> Result<()> {
        let panic = format!("taskset -c {cpu} sh -c 'echo c > /proc/sysrq-trigger'");
        self.trouble_from.store(usize::MAX, Ordering::Relaxed);
        self.tell(GuestRequest::Exec {
            argv: ["sh", "-c", &panic].map(str::to_owned).into(),
        })?;
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let what = "process 1 of the crash kernel";
        self.receive(&control, CRASH_TIMEOUT, what, |line| {
            is_greeting(line).then_some(())
        })?;
        self.forget();
        Ok(())
    }

    /// What was of another kernel is the past.
    fn forget(&self) {
        self.trouble_from
            .store(self.console.len(), Ordering::Relaxed);
        self.core_loaded.store(false, Ordering::Relaxed);
    }
}

/// What process 1 says unasked, when it is there. Firmware may have written to its line before.
fn is_greeting(line: &str) -> bool {
    serde_json::from_str::<Numbered<GuestReply>>(line).is_ok_and(|reply| reply.id == 0)
}
