// SPDX-License-Identifier: GPL-2.0

//! The agent: runs one QEMU at a time for the harness and carries its bytes.
//!
//! QEMU is the client of the agent's sockets, so nothing it says is lost
//! however early it says it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{anyhow, Context, Result};
use nix::sys::signal::Signal;

use crate::protocol::{read_frame, write_frame, AgentEvent, AgentRequest, Channel, NewFile};

type Out = Arc<Mutex<Box<dyn Write + Send>>>;

/// A QEMU that runs, and what is needed to end it and to write to it.
struct Running {
    child: Arc<Mutex<Child>>,
    inputs: Vec<(Channel, Arc<Mutex<Option<UnixStream>>>)>,
    watcher: JoinHandle<()>,
}

/// Serve a harness that listens on a socket; without level 1.
pub fn on_socket(path: &Path) -> Result<()> {
    let stream = UnixStream::connect(path).with_context(|| path.display().to_string())?;
    let folder = path.with_extension("sockets");
    serve(stream.try_clone()?, Box::new(stream), &folder)
}

/// Serve until the harness is gone.
pub fn serve(mut from: impl Read, to: Box<dyn Write + Send>, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let out: Out = Arc::new(Mutex::new(to));
    tell(
        &out,
        &AgentEvent::Hello {
            folder: folder.to_string_lossy().into_owned(),
        },
    )?;
    let mut running: Option<Running> = None;

    while let Some((channel, data)) = read_frame(&mut from)? {
        if channel != Channel::Rpc {
            if let Some(r) = &running {
                r.input(channel, &data);
            }
            continue;
        }
        match serde_json::from_slice(&data)? {
            AgentRequest::Start { argv, files } => {
                if let Some(r) = running.take() {
                    r.end();
                }
                let started =
                    make_files(&files, folder).and_then(|()| Running::start(&argv, folder, &out));
                match started {
                    Ok(r) => running = Some(r),
                    Err(e) => tell(
                        &out,
                        &AgentEvent::NotStarted {
                            message: format!("{e:#}"),
                        },
                    )?,
                }
            }
            AgentRequest::Text { name } => {
                let text = text(&folder.join(name)).ok();
                tell(&out, &AgentEvent::Text { text })?;
            }
            AgentRequest::Ping => tell(&out, &AgentEvent::Alive)?,
            AgentRequest::Stop => {
                if let Some(r) = running.take() {
                    r.end();
                }
            }
        }
    }
    if let Some(r) = running.take() {
        r.end();
    }
    Ok(())
}

impl Running {
    fn start(argv: &[String], folder: &Path, out: &Out) -> Result<Self> {
        let (program, args) = argv.split_first().context("nothing to run")?;
        let mut listeners = Vec::new();
        for (channel, name) in Channel::SOCKETS {
            let path: PathBuf = folder.join(name);
            let _ = fs::remove_file(&path);
            listeners.push((channel, UnixListener::bind(&path).context("socket")?));
        }
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // A killed agent takes its QEMU along.
        // SAFETY: prctl is async-signal-safe and this closure does nothing else.
        unsafe {
            command
                .pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let stderr = child.stderr.take().context("standard error")?;
        tell(out, &AgentEvent::Started)?;

        let mut carriers = vec![carry(stderr, Channel::Stderr, out)];
        let child = Arc::new(Mutex::new(child));
        let mut inputs = Vec::new();
        for (channel, listener) in listeners {
            let input = Arc::new(Mutex::new(None));
            inputs.push((channel, Arc::clone(&input)));
            carriers.push(accept(listener, channel, input, &child, out));
        }
        let watcher = watch(Arc::clone(&child), carriers, Arc::clone(out));
        Ok(Self {
            child,
            inputs,
            watcher,
        })
    }

    fn input(&self, channel: Channel, data: &[u8]) {
        for (_, input) in self.inputs.iter().filter(|(c, _)| *c == channel) {
            if let Ok(mut input) = input.lock() {
                if let Some(stream) = input.as_mut() {
                    // A QEMU that is gone is reported by its end.
                    let _ = stream.write_all(data);
                }
            }
        }
    }

    fn end(self) {
        if let Ok(mut child) = self.child.lock() {
            let _ = child.kill();
        }
        let _ = self.watcher.join();
    }
}

fn make_files(files: &[NewFile], folder: &Path) -> Result<()> {
    for new in files {
        let path = folder.join(&new.name);
        let mut file = File::create(&path).with_context(|| path.display().to_string())?;
        let len = if let Some(from) = &new.from {
            let mut from = File::open(from).with_context(|| from.clone())?;
            io::copy(&mut from, &mut file)?
        } else {
            file.write_all(new.text.as_bytes())?;
            new.text.len() as u64
        };
        file.set_len(new.size.max(len))?;
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    let mut text = Vec::new();
    BufReader::new(File::open(path)?).read_until(0, &mut text)?;
    if text.last() == Some(&0) {
        text.pop();
    }
    Ok(String::from_utf8(text)?)
}

fn tell(out: &Out, event: &AgentEvent) -> Result<()> {
    let data = serde_json::to_vec(event)?;
    let mut out = out.lock().map_err(|_| anyhow!("the harness line failed"))?;
    Ok(write_frame(&mut *out, Channel::Rpc, &data)?)
}

/// Everything from a source, to the harness.
fn carry(mut from: impl Read + Send + 'static, channel: Channel, out: &Out) -> JoinHandle<()> {
    let out = Arc::clone(out);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len) = from.read(&mut buffer) {
            if len == 0 {
                return;
            }
            let Ok(mut out) = out.lock() else { return };
            if write_frame(&mut *out, channel, &buffer[..len]).is_err() {
                return;
            }
        }
    })
}

/// Wait for QEMU to connect, then carry what it says.
fn accept(
    listener: UnixListener,
    channel: Channel,
    input: Arc<Mutex<Option<UnixStream>>>,
    child: &Arc<Mutex<Child>>,
    out: &Out,
) -> JoinHandle<()> {
    let (child, out) = (Arc::clone(child), Arc::clone(out));
    thread::spawn(move || {
        if listener.set_nonblocking(true).is_err() {
            return;
        }
        let stream = loop {
            if let Ok((stream, _)) = listener.accept() {
                break stream;
            }
            if has_ended(&child) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        };
        let Ok(other) = stream.try_clone() else {
            return;
        };
        if stream.set_nonblocking(false).is_err() {
            return;
        }
        if let Ok(mut input) = input.lock() {
            *input = Some(other);
        }
        let _ = carry(stream, channel, &out).join();
    })
}

fn has_ended(child: &Mutex<Child>) -> bool {
    !matches!(child.lock().map(|mut c| c.try_wait()), Ok(Ok(None)))
}

/// Tell the harness when QEMU has ended and all its bytes are sent.
fn watch(child: Arc<Mutex<Child>>, carriers: Vec<JoinHandle<()>>, out: Out) -> JoinHandle<()> {
    thread::spawn(move || {
        for c in carriers {
            let _ = c.join();
        }
        // Its ends of the sockets are closed: it is ending or has ended.
        let status = loop {
            match child.lock().map(|mut c| c.try_wait()) {
                Ok(Ok(None)) => thread::sleep(Duration::from_millis(20)),
                Ok(Ok(Some(status))) => break Some(status),
                _ => break None,
            }
        };
        let event = AgentEvent::Ended {
            status: status.and_then(|s| s.code()),
            signal: status.and_then(|s| s.signal()),
        };
        let _ = tell(&out, &event);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_begin_as_texts_or_copies() {
        let folder = std::env::temp_dir().join(format!("vmbus-agent-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let new = |name: &str, from: Option<String>, size| NewFile {
            name: name.into(),
            from,
            text: "text".into(),
            size,
        };
        let text = folder.join("text").to_string_lossy().into_owned();
        let files = [new("text", None, 6), new("copy", Some(text), 0)];
        make_files(&files, &folder).unwrap();
        for name in ["text", "copy"] {
            assert_eq!(fs::read(folder.join(name)).unwrap(), b"text\0\0");
        }
        let missing = folder.join("missing").to_string_lossy().into_owned();
        assert!(make_files(&[new("copy", Some(missing), 0)], &folder).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
