// SPDX-License-Identifier: GPL-2.0

//! The bed: an agent that can run QEMU with Hyper-V enlightenments, in level 1 or
//! on this machine, and the line to it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use vmbus_guest::level1::{PORT, ROOT_TAG};
use vmbus_guest::protocol::{read_frame, write_frame, AgentEvent, AgentRequest, Channel, NewFile};

use crate::console::Console;
use crate::cpu_time;
use crate::failure::bed;
use crate::image::Images;
use crate::level::Level;
use crate::paths::Paths;
use crate::qemu;

const AGENT_TIMEOUT: Duration = Duration::from_secs(120);
const START_TIMEOUT: Duration = Duration::from_secs(60);
const TEXT_TIMEOUT: Duration = Duration::from_secs(120);
const PING_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What one QEMU says, by channel.
pub(crate) struct Streams {
    /// The guest's console.
    pub(crate) console: Arc<Console>,
    /// QEMU's standard error: warnings and the host's trace.
    pub(crate) host: Arc<Console>,
    /// Lines of the guest's control port.
    pub(crate) control: Sender<String>,
    /// Lines of the monitor.
    pub(crate) qmp: Sender<String>,
}

/// How a QEMU ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Exit status, if it exited by itself.
    pub(crate) status: Option<i32>,
    /// Signal, if one killed it.
    pub(crate) signal: Option<i32>,
}

#[derive(Default)]
struct Shared {
    streams: Option<Streams>,
    partial: HashMap<u8, Vec<u8>>,
    ended: Option<Ended>,
    gone: bool,
}

/// How the time of emulated guests passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as it can, in step with this machine's clock.
    Free,
    /// By the guest's own instructions, 2 ns each, which are counted; while it waits, at once. What
    /// happens when does not depend on what else this machine does. Only on [`Level::Emulated`].
    Counted,
    /// By the guest's instructions, 2 ns each: a run in which nothing comes from outside repeats. On
    /// the emulated level only.
    Repeatable,
}

/// The name of the file that the counter of instructions writes.
const WINDOWS: &str = "windows";

/// A running agent.
pub(crate) struct Bed {
    /// How the guest runs.
    pub(crate) level: Level,
    /// How its time passes.
    pub(crate) pace: Pace,
    /// The agent's folder with the sockets for QEMU.
    pub(crate) folder: String,
    process: Child,
    line: Mutex<UnixStream>,
    events: Mutex<Receiver<AgentEvent>>,
    shared: Arc<Mutex<Shared>>,
    sockets: PathBuf,
}

impl Bed {
    /// Start the agent: boot level 1, or run it here. The number is for its logs.
    pub(crate) fn start(
        level: Level,
        pace: Pace,
        number: u32,
        paths: &Paths,
        images: &Images,
    ) -> Result<Self> {
        let sockets = PathBuf::from(format!("/run/vmbus-{}-{number}", std::process::id()));
        fs::create_dir_all(&sockets)?;
        let socket = sockets.join("agent");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).context("agent socket")?;
        listener.set_nonblocking(true)?;
        let log = |what| paths.logs.join(format!("bed{number:02}-{what}.log"));
        let mut command = match level {
            Level::Nested => level1_command(paths, images, &socket, &log("console")),
            Level::Direct | Level::Emulated => agent_command(paths, &socket),
        };
        let log = log("host");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        // A killed harness takes its machines along.
        // SAFETY: prctl is async-signal-safe and this closure does nothing else.
        unsafe {
            command
                .pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
        }
        let mut process = command.spawn().context("start the agent")?;
        let stream = accept(&listener, &mut process).map_err(|e| {
            let _ = process.kill();
            let said = fs::read_to_string(&log).unwrap_or_default();
            bed(format!(
                "{e}; its output ({}): {}",
                log.display(),
                said.trim()
            ))
        })?;
        stream.set_nonblocking(false)?;

        let shared = Arc::new(Mutex::new(Shared::default()));
        let (send, events) = channel();
        let reader = stream.try_clone()?;
        let for_reader = Arc::clone(&shared);
        thread::spawn(move || receive(reader, &send, &for_reader));
        let mut it = Self {
            level,
            pace,
            folder: String::new(),
            process,
            line: Mutex::new(stream),
            events: Mutex::new(events),
            shared,
            sockets,
        };
        match it.event(AGENT_TIMEOUT)? {
            AgentEvent::Hello { folder } => it.folder = folder,
            other => return Err(bed(format!("the agent began with {other:?}"))),
        }
        Ok(it)
    }

    /// Where the counter of a [`Pace::Counted`] guest writes.
    pub(crate) fn windows_file(&self) -> PathBuf {
        self.sockets.join(WINDOWS)
    }

    /// Run a QEMU, whose bytes go to these streams.
    pub(crate) fn start_qemu(
        &self,
        argv: Vec<String>,
        files: Vec<NewFile>,
        streams: Streams,
    ) -> Result<()> {
        {
            let mut shared = self.lock();
            shared.streams = Some(streams);
            shared.partial.clear();
            shared.ended = None;
        }
        self.ask(&AgentRequest::Start { argv, files })?;
        match self.event(START_TIMEOUT)? {
            AgentEvent::Started => Ok(()),
            AgentEvent::NotStarted { message } => Err(bed(format!("QEMU: {message}"))),
            other => Err(bed(format!("the agent said {other:?} to a start"))),
        }
    }

    /// End the QEMU, and wait until its last bytes are here.
    pub(crate) fn stop_qemu(&self) {
        if self.ask(&AgentRequest::Stop).is_err() {
            return;
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.ended().is_none() && !self.is_gone() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        self.lock().streams = None;
    }

    /// The text at the beginning of one of the QEMU's files.
    pub(crate) fn text(&self, name: &str) -> Result<String> {
        self.ask(&AgentRequest::Text { name: name.into() })?;
        match self.event(TEXT_TIMEOUT)? {
            AgentEvent::Text { text } => text.with_context(|| format!("no text in '{name}'")),
            other => Err(bed(format!(
                "the agent said {other:?} when asked for a text"
            ))),
        }
    }

    /// Bytes for the QEMU.
    pub(crate) fn send(&self, to: Channel, data: &[u8]) -> Result<()> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *line, to, data).map_err(|e| bed(format!("the agent's line: {e}")))
    }

    /// How the QEMU ended, if it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.lock().ended
    }

    /// Whether the agent, and with it level 1, has gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.lock().gone
    }

    /// Whether the agent, and with it level 1, still answers. If it does not, it counts as gone from
    /// now on, so that the next guest gets a new one.
    pub(crate) fn answers(&self) -> bool {
        let deadline = Instant::now() + PING_TIMEOUT;
        if self.is_gone() || self.ask(&AgentRequest::Ping).is_err() {
            return false;
        }
        // Events that nobody waited for any more may come first.
        while let Ok(event) = self.event(deadline.saturating_duration_since(Instant::now())) {
            if matches!(event, AgentEvent::Alive) {
                return true;
            }
        }
        self.lock().gone = true;
        false
    }

    /// CPU seconds that the agent and its QEMUs have taken so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_time::seconds_of(self.process.id())
    }

    fn ask(&self, request: &AgentRequest) -> Result<()> {
        self.send(Channel::Rpc, &serde_json::to_vec(request)?)
    }

    fn event(&self, timeout: Duration) -> Result<AgentEvent> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.recv_timeout(timeout).map_err(|e| match e {
            RecvTimeoutError::Timeout => bed(format!(
                "no answer from the agent within {} s",
                timeout.as_secs()
            )),
            RecvTimeoutError::Disconnected => bed("the agent has gone"),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.sockets);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &UnixListener, process: &mut Child) -> std::result::Result<UnixStream, String> {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if let Ok((stream, _)) = listener.accept() {
            return Ok(stream);
        }
        if let Ok(Some(status)) = process.try_wait() {
            return Err(format!("the agent's process ended at once ({status})"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err("the agent did not connect".into())
}

/// Sort what the agent sends until it is gone.
fn receive(mut from: UnixStream, events: &Sender<AgentEvent>, shared: &Mutex<Shared>) {
    while let Ok(Some((channel, data))) = read_frame(&mut from) {
        if channel != Channel::Rpc {
            lock(shared).pass(channel, &data);
            continue;
        }
        match serde_json::from_slice(&data) {
            Ok(AgentEvent::Ended { status, signal }) => {
                lock(shared).ended = Some(Ended { status, signal });
            }
            Ok(event) => {
                if events.send(event).is_err() {
                    return;
                }
            }
            Err(e) => eprintln!("harness: not an event of the agent: {e}"),
        }
    }
    lock(shared).gone = true;
}

impl Shared {
    fn pass(&mut self, channel: Channel, data: &[u8]) {
        let Some(streams) = &self.streams else { return };
        let lines = match channel {
            Channel::Rpc => return,
            Channel::Console => return streams.console.feed(data),
            Channel::Stderr => return streams.host.feed(data),
            Channel::Control => &streams.control,
            Channel::Qmp => &streams.qmp,
        };
        let partial = self.partial.entry(channel as u8).or_default();
        partial.extend_from_slice(data);
        while let Some(end) = partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            // Nobody reads any more when the guest is being put away.
            let _ = lines.send(String::from_utf8_lossy(&line).trim().to_owned());
        }
    }
}

fn agent_command(paths: &Paths, socket: &Path) -> Command {
    let mut command = Command::new(&paths.guest_program);
    command.arg("agent").arg(socket);
    command
}

/// Level 1: an emulated machine with SVM, which shares this root by 9p. The packaged QEMU's emulation
/// of SVM resets guests and corrupts level 1 now and then; ours is mended.
fn level1_command(paths: &Paths, images: &Images, socket: &Path, console: &Path) -> Command {
    let mut command = Command::new(paths.qemu.join(qemu::PROGRAM));
    command
        .args(qemu::FIRMWARE)
        .args(["-accel", "tcg,thread=multi,tb-size=1024", "-smp", "2"])
        .args(["-cpu", "EPYC-Rome-v4,+svm,+npt,+nrip-save"])
        .args(["-m", &format!("{}M", level1_memory())])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(&images.level1_kernel)
        .arg("-initrd")
        .arg(&images.level1)
        .args(["-append", "console=ttyS0 quiet rdinit=/level1 panic=-1"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-fsdev")
        .arg("local,id=root,path=/,security_model=none,readonly=on,multidevs=remap")
        .args([
            "-device",
            &format!("virtio-9p-pci,fsdev=root,mount_tag={ROOT_TAG}"),
        ])
        .args(["-device", "virtio-serial-pci"])
        .args([
            "-chardev",
            &format!("socket,id=agent,path={}", socket.display()),
        ])
        .args([
            "-device",
            &format!("virtserialport,chardev=agent,name={PORT}"),
        ]);
    command
}

/// Megabytes for level 1: 6 GiB, or half of what is free.
fn level1_memory() -> u64 {
    let free = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| crate::guest_files::field_kib(&text, "MemAvailable"))
        .map_or(6144, |kib| kib / 1024);
    (free / 2).clamp(2560, 6144)
}
