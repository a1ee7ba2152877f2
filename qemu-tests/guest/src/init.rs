// SPDX-License-Identifier: GPL-2.0

//! Process 1 of the guest under test: mounts the usual file systems, then does
//! what the harness asks on the second serial port.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use nix::mount::MsFlags;

use crate::protocol::{GuestReply, GuestRequest, Numbered, SCRIPT};
use crate::window::Window;
use crate::{io_load, look, net_load, queue_stats, scripted, system, uevent};

const CONTROL: &str = "/dev/ttyS1";
const CONSOLE: &str = "/dev/ttyS0";
/// This program on a root disk.
const INIT: &str = "/sbin/init";

/// Runs until the machine ends. The argument is the number of the request that led here from an
/// initramfs; the kernel gives none that is a number.
pub fn main(argument: Option<&str>) -> ! {
    if let Err(e) = serve(argument.and_then(|a| a.parse().ok())) {
        eprintln!("init: {e:#}");
    }
    system::power_off()
}

fn serve(unanswered: Option<u64>) -> Result<()> {
    if unanswered.is_none() {
        system::mount_usual("")?;
        system::mount_at(
            "debugfs",
            "/sys/kernel/debug",
            "debugfs",
            MsFlags::empty(),
            "",
        )?;
    }
    std::env::set_var("PATH", "/bin:/sbin:/usr/bin:/usr/sbin");
    std::env::set_var("HOME", "/");
    if scripted::is_asked_for() {
        return scripted::run();
    }

    let port = OpenOptions::new()
        .read(true)
        .write(true)
        .open(CONTROL)
        .context(CONTROL)?;
    system::make_raw(&port)?;
    let replies = Arc::new(Mutex::new(port.try_clone()?));
    send(&replies, unanswered.unwrap_or(0), GuestReply::Done)?;
    if let Ok(script) = fs::read_to_string(SCRIPT) {
        send(&replies, 0, run_script(&script)?)?;
    }

    for line in BufReader::new(port).lines() {
        let line = line?;
        let ask: Numbered<GuestRequest> = match serde_json::from_str(&line) {
            Ok(ask) => ask,
            Err(e) => {
                eprintln!("init: not a request ({e}): {line}");
                continue;
            }
        };
        // A request may hang in the kernel; the next one must still be served.
        let replies = Arc::clone(&replies);
        thread::spawn(move || {
            let reply = answer(ask.id, ask.body);
            if let Err(e) = send(&replies, ask.id, reply) {
                eprintln!("init: reply: {e:#}");
            }
        });
    }
    bail!("the control line ended")
}

fn send(port: &Mutex<File>, id: u64, body: GuestReply) -> Result<()> {
    let mut line = serde_json::to_string(&Numbered { id, body })?;
    line.push('\n');
    let mut port = port
        .lock()
        .map_err(|_| io::Error::other("a reply failed before"))?;
    port.write_all(line.as_bytes())?;
    Ok(())
}

/// Do what a script says, up to the first error.
fn run_script(script: &str) -> Result<GuestReply> {
    let requests: Vec<GuestRequest> = serde_json::from_str(script).context(SCRIPT)?;
    let mut replies = Vec::new();
    for request in requests {
        replies.push(answer(0, request));
        if let Some(GuestReply::Error { .. }) = replies.last() {
            break;
        }
    }
    Ok(GuestReply::Script { replies })
}

fn answer(id: u64, ask: GuestRequest) -> GuestReply {
    perform(id, ask).unwrap_or_else(|e| GuestReply::Error {
        errno: e
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error),
        message: format!("{e:#}"),
    })
}

fn perform(id: u64, ask: GuestRequest) -> Result<GuestReply> {
    Ok(match ask {
        GuestRequest::Ping => GuestReply::Done,
        GuestRequest::Exec { argv } => exec(&argv)?,
        GuestRequest::Read { path } => {
            let data = fs::read(&path)?;
            GuestReply::Data {
                data: String::from_utf8_lossy(&data).into_owned(),
            }
        }
        GuestRequest::Write { path, data } => {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)?;
            file.write_all(data.as_bytes())?;
            GuestReply::Done
        }
        GuestRequest::List { path } => {
            let mut names = fs::read_dir(&path)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort();
            GuestReply::Names { names }
        }
        GuestRequest::Link { path } => GuestReply::Data {
            data: fs::read_link(&path)?.to_string_lossy().into_owned(),
        },
        GuestRequest::Autoload => {
            uevent::autoload()?;
            GuestReply::Done
        }
        GuestRequest::EnterRoot { device } => {
            system::enter_root(&device)?;
            let error = Command::new(INIT).arg(id.to_string()).exec();
            return Err(error).context(INIT);
        }
        GuestRequest::LoadCrashKernel {
            kernel,
            initramfs,
            command_line,
        } => {
            system::load_crash_kernel(&kernel, &initramfs, &command_line)?;
            GuestReply::Done
        }
        GuestRequest::Look => GuestReply::Data {
            data: look::look()?,
        },
        GuestRequest::Shell => shell()?,
        GuestRequest::Load(load) => GuestReply::Loaded(io_load::run(&load)?),
        GuestRequest::Packets(load) => {
            net_load::packets(&load)?;
            GuestReply::Done
        }
        GuestRequest::Stream(load) => {
            net_load::stream(&load)?;
            GuestReply::Done
        }
        GuestRequest::RoundTrips(load) => GuestReply::Loaded(net_load::round_trips(&load)?),
        GuestRequest::QueueStatistics { device } => GuestReply::Data {
            data: queue_stats::of(&device)?,
        },
        GuestRequest::Watch { milliseconds } => {
            let window = Window::begin();
            thread::sleep(Duration::from_millis(milliseconds));
            drop(window);
            GuestReply::Done
        }
    })
}

fn exec(argv: &[String]) -> Result<GuestReply> {
    let (program, args) = argv.split_first().context("nothing to run")?;
    let out = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    Ok(GuestReply::Exec {
        status: status_number(out.status),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    })
}

fn status_number(status: std::process::ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn shell() -> Result<GuestReply> {
    let console = OpenOptions::new().read(true).write(true).open(CONSOLE)?;
    let status = Command::new("/bin/busybox")
        .args(["setsid", "-c", "sh", "-i"])
        .env("PS1", "guest# ")
        .stdin(console.try_clone()?)
        .stdout(console.try_clone()?)
        .stderr(console)
        .status()?;
    Ok(GuestReply::Exec {
        status: status_number(status),
        stdout: String::new(),
        stderr: String::new(),
    })
}
