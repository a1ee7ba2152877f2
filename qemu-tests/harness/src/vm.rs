// SPDX-License-Identifier: GPL-2.0

//! One guest under test: its boot, and what can be asked of it and of its host.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Result};
use serde_json::{json, Value};
use vmbus_guest::protocol::{Channel, GuestReply, GuestRequest, NewFile, Numbered};

use crate::bed::{Bed, Ended, Streams};
use crate::console::{is_trouble, Console};
use crate::counter::{self, Window};
use crate::drivers::Core;
use crate::failure::{bed, unmet};
use crate::image::{CRASH_INITRAMFS, CRASH_KERNEL};
use crate::level::Level;
use crate::machine::Machine;
use crate::paths::Paths;
use crate::prepared::{self, Start};
use crate::qmp;

const BOOT_TIMEOUT: Duration = Duration::from_secs(150);
/// Longer than the 60 s that the drivers give the host, so that their own words about it are on the
/// console when a scenario fails.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);
/// A benchmark does a number of things, however long they take.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(1200);
const CRASH_TIMEOUT: Duration = Duration::from_secs(150);
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(100);

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

/// A guest that runs.
pub(crate) struct Vm {
    /// Whose drivers it runs.
    pub(crate) core: Core,
    /// What it has.
    pub(crate) machine: &'static Machine,
    /// What it prints.
    pub(crate) console: Arc<Console>,
    /// What QEMU says, with its trace.
    pub(crate) host: Arc<Console>,
    bed: Arc<Bed>,
    argv: Vec<String>,
    control: Mutex<Receiver<String>>,
    monitor: Mutex<Receiver<String>>,
    next: AtomicU64,
    deadline: Mutex<Option<Instant>>,
    core_loaded: AtomicBool,
    /// From which line of the console on trouble means the end.
    trouble_from: AtomicUsize,
}

impl Vm {
    /// Start a guest, up to its user space and with its devices; `name` is for its log files.
    #[allow(clippy::too_many_arguments)] // what a guest is made of
    pub(crate) fn start(
        on: &Arc<Bed>,
        paths: &Paths,
        argv: Vec<String>,
        files: Vec<NewFile>,
        machine: &'static Machine,
        core: Core,
        name: &str,
        start: &Start,
    ) -> Result<Self> {
        let console = Arc::new(Console::create(
            &paths.logs.join(format!("{name}-console.log")),
        )?);
        let host = Arc::new(Console::create(
            &paths.logs.join(format!("{name}-host.log")),
        )?);
        let (streams, control, monitor) = streams(&console, &host);
        let vm = Self {
            core,
            machine,
            argv,
            console,
            host,
            bed: Arc::clone(on),
            control: Mutex::new(control),
            monitor: Mutex::new(monitor),
            next: AtomicU64::new(1),
            deadline: Mutex::new(None),
            core_loaded: AtomicBool::new(false),
            trouble_from: AtomicUsize::new(0),
        };
        vm.begin(start, files, streams)?;
        Ok(vm)
    }

    fn begin(&self, start: &Start, files: Vec<NewFile>, streams: Streams) -> Result<()> {
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
        let command = json!({ "command-line": format!("device_add {device}") });
        let said = self.qmp("human-monitor-command", &command)?;
        match said.as_str() {
            Some("") => Ok(()),
            _ => Err(bed(format!("'{device}' is not plugged: {said}"))),
        }
    }

    fn wait_for_user_space(&self) -> Result<()> {
        let deadline = Instant::now() + BOOT_TIMEOUT;
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if control.recv_timeout(TICK).is_ok() {
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

    fn trouble(&self) -> Option<String> {
        self.console
            .trouble(self.trouble_from.load(Ordering::Relaxed), &[])
    }

    /// Every later wait ends at this time; the scenario's time-out.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
    }

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

    /// The level it runs on.
    pub(crate) fn level(&self) -> Level {
        self.bed.level
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

    /// What was counted in the windows that the guest has marked so far.
    pub(crate) fn windows(&self) -> Result<Vec<Window>> {
        counter::windows(&self.bed.windows_file())
    }

    /// The text that the guest has written to the beginning of one of its disks.
    pub(crate) fn text_of_file(&self, name: &str) -> Result<String> {
        self.bed.text(name)
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

    /// Bytes typed on the console.
    pub(crate) fn console_input(&self, data: &[u8]) -> Result<()> {
        self.bed.send(Channel::Console, data)
    }

    /// Ask without waiting for an answer; for what the guest does not survive.
    pub(crate) fn tell(&self, ask: GuestRequest) -> Result<()> {
        self.send(ask).map(drop)
    }

    fn ask(&self, ask: GuestRequest) -> Result<GuestReply> {
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

    /// Load the crash kernel that the initramfs has.
    pub(crate) fn load_crash_kernel(&self, command_line: &str) -> Result<()> {
        let ask = GuestRequest::LoadCrashKernel {
            kernel: CRASH_KERNEL.into(),
            initramfs: CRASH_INITRAMFS.into(),
            command_line: command_line.into(),
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
            let reply: Numbered<GuestReply> = serde_json::from_str(line).ok()?;
            (reply.id == 0).then_some(())
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

    /// The monitor hears nothing before it has greeted.
    fn wait_for_monitor(&self) -> Result<()> {
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

    /// The first line that `take` accepts, watching the guest meanwhile.
    fn receive<T>(
        &self,
        from: &Receiver<String>,
        timeout: Duration,
        what: &str,
        mut take: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            match from.recv_timeout(TICK) {
                Ok(line) => {
                    if let Some(value) = take(&line) {
                        return Ok(value);
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.check_alive(what)?;
            if start.elapsed() > timeout {
                return Err(unmet(
                    what,
                    format!("nothing within {} s", timeout.as_secs()),
                ));
            }
        }
    }

    /// Poll until there is a value; `what` names it in the error.
    pub(crate) fn wait_until<T>(
        &self,
        timeout: Duration,
        what: &str,
        mut poll: impl FnMut() -> Result<std::result::Result<T, String>>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            let found = match poll()? {
                Ok(value) => return Ok(value),
                Err(found) => found,
            };
            self.check_alive(what)?;
            if start.elapsed() > timeout {
                return Err(unmet(
                    format!("{what} within {} s", timeout.as_secs()),
                    found,
                ));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Wait for QEMU to end by itself, as after a panic or a reboot.
    pub(crate) fn wait_for_end(&self, timeout: Duration, what: &str) -> Result<Ended> {
        let start = Instant::now();
        loop {
            if let Some(ended) = self.bed.ended() {
                return Ok(ended);
            }
            if self.bed.is_gone() {
                return Err(bed("the agent died"));
            }
            if start.elapsed() > timeout {
                return Err(unmet(
                    what,
                    format!("still running after {} s", timeout.as_secs()),
                ));
            }
            std::thread::sleep(TICK);
        }
    }

    /// An error if nothing more can come from this guest.
    fn check_alive(&self, waiting_for: &str) -> Result<()> {
        if let Some(ended) = self.bed.ended() {
            return Err(self.death(ended, waiting_for));
        }
        if self.bed.is_gone() {
            return Err(bed(format!("the agent died before {waiting_for}")));
        }
        if let Some(line) = self.trouble().filter(|l| l.contains("Kernel panic")) {
            return Err(unmet(waiting_for, line));
        }
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        if deadline.is_some_and(|d| Instant::now() > d) {
            return Err(unmet(waiting_for, "the scenario's time is over"));
        }
        Ok(())
    }

    /// What it means that QEMU ended when nobody asked it to.
    ///
    /// Killed by a signal (its own asserts) is a failure of the bed. So is, under
    /// level 1, a reset without a word on the console: emulated SVM does that now
    /// and then, to the C drivers too. The second time it is not excused.
    fn death(&self, ended: Ended, waiting_for: &str) -> anyhow::Error {
        let how = describe(ended);
        if ended.signal.is_some() {
            let last = self.host.tail(1).pop().unwrap_or_default();
            return bed(format!("QEMU died ({how}) before {waiting_for}: {last}"));
        }
        let spoke = self
            .console
            .since(0)
            .iter()
            .any(|l| is_trouble(l) || l.contains("reboot:"));
        if self.bed.level == Level::Nested && !spoke {
            return bed(format!(
                "the guest reset without a word before {waiting_for}"
            ));
        }
        unmet(
            waiting_for,
            format!("the guest reset or QEMU ended ({how})"),
        )
    }

    fn ended(&self) -> Option<String> {
        self.bed.ended().map(describe)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.bed.stop_qemu();
    }
}

/// What a QEMU's bytes go to: the two texts, and the lines of the control port and of the monitor.
fn streams(
    console: &Arc<Console>,
    host: &Arc<Console>,
) -> (Streams, Receiver<String>, Receiver<String>) {
    let (to_control, control) = channel();
    let (to_monitor, monitor) = channel();
    let streams = Streams {
        console: Arc::clone(console),
        host: Arc::clone(host),
        control: to_control,
        qmp: to_monitor,
    };
    (streams, control, monitor)
}

fn describe(ended: Ended) -> String {
    match (ended.signal, ended.status) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(status)) => format!("status {status}"),
        (None, None) => "unknown".into(),
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

fn refused(reply: GuestReply) -> anyhow::Error {
    match reply {
        GuestReply::Error { message, .. } => anyhow!("the guest says: {message}"),
        other => anyhow!("the guest answered {other:?}"),
    }
}
