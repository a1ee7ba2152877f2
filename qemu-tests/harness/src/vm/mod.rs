// SPDX-License-Identifier: GPL-2.0

//! One guest under test, and waiting for what comes from it: what can be asked of it ([`ask`]) and of its
//! host ([`monitor`]), and how it begins and goes on ([`life`]).

mod ask;
mod life;
mod monitor;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use vmbus_guest::protocol::{Channel, NewFile};

use crate::bed::{Bed, Ended, Streams};
use crate::console::{is_trouble, Console};
use crate::counter::{self, Window};
use crate::drivers::Core;
use crate::failure::{bed, unmet};
use crate::level::Level;
use crate::machine::Machine;
use crate::paths::Paths;
use crate::prepared::Start;

/// Longer than the 60 s that the drivers give the host, so that their own words about it are on the
/// console when a scenario fails.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at something that is waited for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

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
    /// How many times as long as usual everything takes.
    slower: AtomicU32,
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
            slower: AtomicU32::new(1),
            core_loaded: AtomicBool::new(false),
            trouble_from: AtomicUsize::new(0),
        };
        vm.begin(start, files, streams)?;
        Ok(vm)
    }

    fn trouble(&self) -> Option<String> {
        self.console
            .trouble(self.trouble_from.load(Ordering::Relaxed), &[])
    }

    /// Every later wait ends at this time; the scenario's time-out.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
    }

    /// How many times as long as usual everything takes: what is waited for may take so much longer.
    pub(crate) fn set_slower(&self, slower: u32) {
        self.slower.store(slower.max(1), Ordering::Relaxed);
    }

    /// Whether everything takes longer than usual.
    pub(crate) fn is_slow(&self) -> bool {
        self.slower.load(Ordering::Relaxed) > 1
    }

    /// The level it runs on.
    pub(crate) fn level(&self) -> Level {
        self.bed.level
    }

    /// What was counted in the windows that the guest has marked so far.
    pub(crate) fn windows(&self) -> Result<Vec<Window>> {
        counter::windows(&self.bed.windows_file())
    }

    /// The text that the guest has written to the beginning of one of its disks.
    pub(crate) fn text_of_file(&self, name: &str) -> Result<String> {
        self.bed.text(name)
    }

    /// Bytes typed on the console.
    pub(crate) fn console_input(&self, data: &[u8]) -> Result<()> {
        self.bed.send(Channel::Console, data)
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
        let timeout = timeout * self.slower.load(Ordering::Relaxed);
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
            // looking costs the guest time; the longer it takes, the less does it matter when it is seen
            let pause = (start.elapsed() / 8).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            std::thread::sleep(pause);
        }
    }

    /// Wait for QEMU to end by itself, as after a panic or a reboot.
    pub(crate) fn wait_for_end(&self, timeout: Duration, what: &str) -> Result<Ended> {
        let start = Instant::now();
        let timeout = timeout * self.slower.load(Ordering::Relaxed);
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
