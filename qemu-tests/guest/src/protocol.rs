// SPDX-License-Identifier: GPL-2.0

//! Messages between the harness, the agent and the guest under test.
//!
//! Guest: one JSON object a line on its second serial port, in both directions.
//! Agent: frames of `channel (1 byte), length (4 bytes, little endian), data`;
//! channel [`Channel::Rpc`] carries JSON, the others bytes of a QEMU.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// What the harness asks the guest to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum GuestRequest {
    /// Answer, to show that user space is alive.
    Ping,
    /// Run a program to its end.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// Read a whole file.
    Read {
        /// Its path.
        path: String,
    },
    /// Write a file, in one `write` call as sysfs wants it.
    Write {
        /// Its path.
        path: String,
        /// What to write.
        data: String,
    },
    /// The names in a folder, sorted.
    List {
        /// Its path.
        path: String,
    },
    /// Where a symbolic link points.
    Link {
        /// Its path.
        path: String,
    },
    /// Load modules for the devices there are, and from now on for those that
    /// come, as udev does.
    Autoload,
    /// Make the ext4 file system of a disk the root, and go on with the `/sbin/init` that is on it,
    /// which gives the answer. The initramfs, and with it [`Self::Autoload`], ends there.
    EnterRoot {
        /// The disk's device file.
        device: String,
    },
    /// Load the kernel that a panic starts.
    LoadCrashKernel {
        /// Its file.
        kernel: String,
        /// Its initramfs; process 1 in it begins with reply 0 again.
        initramfs: String,
        /// Its command line.
        command_line: String,
    },
    /// Tell what there is to see of the hypervisor: CPUID, MSRs, interrupts.
    Look,
    /// An interactive shell on the console, until it ends.
    Shell,
    /// Read a disk as a benchmark does, in a window of [`crate::window`].
    Load(Load),
    /// Send frames, in a window of [`crate::window`].
    Packets(Packets),
    /// Send a stream, in a window of [`crate::window`].
    Stream(Stream),
    /// Have bytes sent back, one after the other, in a window of [`crate::window`].
    RoundTrips(RoundTrips),
    /// What an interface has counted for each queue, and in all, as text.
    QueueStatistics {
        /// Its name.
        device: String,
    },
    /// Do nothing, in a window of [`crate::window`].
    Watch {
        /// For how long, in the guest's time.
        milliseconds: u64,
    },
}

/// What a guest finds here it does before it listens to anybody: a list of [`GuestRequest`], in JSON.
/// The answers are one [`GuestReply::Script`]. Nothing from outside comes between, so that with a
/// host that counts time by instructions it goes the same way each time.
pub const SCRIPT: &str = "/script";

/// Random reads of 4 KiB, past the page cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The SCSI disk of this size.
    pub mib: u64,
    /// The CPU on which the reading thread stays.
    pub cpu: usize,
    /// How many reads are under way at a time.
    pub depth: usize,
    /// How many reads in all.
    pub reads: usize,
}

/// UDP frames of the kernel's generator, all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// The interface that sends them.
    pub device: String,
    /// Bytes of each, with its Ethernet header.
    pub size: usize,
    /// How many.
    pub count: usize,
    /// The Ethernet address that they go to.
    pub to_mac: String,
    /// The IPv4 address that they go to.
    pub to: String,
    /// The IPv4 address that they come from.
    pub from: String,
    /// The port that they go to, where somebody listens for them, and come from.
    pub port: u16,
}

/// Who listens for TCP in another network namespace of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Where it is.
    pub namespace: String,
    /// Its IPv4 address there.
    pub address: String,
    /// Its port.
    pub port: u16,
}

/// A TCP stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Who receives it.
    pub to: Listener,
    /// How much is sent.
    pub mib: usize,
}

/// One byte by TCP, and one back, again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// Who sends back.
    pub to: Listener,
    /// How often.
    pub count: usize,
}

/// How a [`Load`], or [`RoundTrips`], went, in the guest's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// All of it.
    pub nanoseconds: u64,
    /// Half of them took no longer.
    pub p50: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
}

/// What the guest answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum GuestReply {
    /// The program ended.
    Exec {
        /// Exit status, 128 + signal if it was killed.
        status: i32,
        /// Its standard output.
        stdout: String,
        /// Its standard error.
        stderr: String,
    },
    /// A file's contents or a link's target.
    Data {
        /// The contents.
        data: String,
    },
    /// A folder's names.
    Names {
        /// The names.
        names: Vec<String>,
    },
    /// The reads, or the round trips, are done.
    Loaded(LoadReport),
    /// What [`SCRIPT`] gave, up to the first error.
    Script {
        /// In its order.
        replies: Vec<GuestReply>,
    },
    /// Done, nothing to tell.
    Done,
    /// It failed.
    Error {
        /// Why.
        message: String,
        /// The error number, if the kernel gave one.
        errno: Option<i32>,
    },
}

/// A request or a reply with the number that pairs them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Chosen by the harness; number 0 is the guest's first line, unasked.
    pub id: u64,
    /// The message.
    pub body: T,
}

/// What the harness asks the agent to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum AgentRequest {
    /// Start a QEMU; any earlier one is ended first. Its console, control and
    /// monitor sockets are clients of [`AgentEvent::Hello`]'s folder.
    Start {
        /// Program and arguments.
        argv: Vec<String>,
        /// Files for it, made new in the agent's folder.
        files: Vec<NewFile>,
    },
    /// End the QEMU.
    Stop,
    /// Give the text at the beginning of a file of the QEMU, up to the first NUL.
    Text {
        /// The file's name.
        name: String,
    },
    /// Say [`AgentEvent::Alive`], which an agent does whatever its QEMU does.
    Ping,
}

/// A file that a QEMU needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewFile {
    /// Its name.
    pub name: String,
    /// The file whose copy it begins as, if there is one.
    pub from: Option<String>,
    /// What is in it at the beginning otherwise.
    pub text: String,
    /// Its size in bytes, if it is longer than that; the rest is a hole.
    pub size: u64,
}

/// What the agent tells the harness.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AgentEvent {
    /// The agent is up.
    Hello {
        /// Folder of the sockets `console`, `control` and `qmp`.
        folder: String,
    },
    /// The answer to [`AgentRequest::Ping`].
    Alive,
    /// The answer to [`AgentRequest::Text`].
    Text {
        /// The text; none if the file cannot be read.
        text: Option<String>,
    },
    /// The QEMU runs; what channels carry from here on is its own.
    Started,
    /// The QEMU could not be started.
    NotStarted {
        /// Why.
        message: String,
    },
    /// The QEMU ended, after its last bytes.
    Ended {
        /// Exit status, if it exited by itself.
        status: Option<i32>,
        /// Signal, if one killed it.
        signal: Option<i32>,
    },
}

/// Where the bytes of a frame belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Channel {
    /// [`AgentRequest`] and [`AgentEvent`].
    Rpc = 0,
    /// The guest's console.
    Console = 1,
    /// The guest's control line.
    Control = 2,
    /// QEMU's monitor.
    Qmp = 3,
    /// QEMU's standard error, and its trace.
    Stderr = 4,
}

impl Channel {
    /// The channels that are sockets of QEMU, with their names.
    pub const SOCKETS: [(Channel, &'static str); 3] = [
        (Channel::Console, "console"),
        (Channel::Control, "control"),
        (Channel::Qmp, "qmp"),
    ];

    fn from_byte(byte: u8) -> io::Result<Self> {
        [
            Self::Rpc,
            Self::Console,
            Self::Control,
            Self::Qmp,
            Self::Stderr,
        ]
        .into_iter()
        .find(|c| *c as u8 == byte)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("channel {byte}")))
    }
}

/// Send one frame.
pub fn write_frame(to: &mut impl Write, channel: Channel, data: &[u8]) -> io::Result<()> {
    let len = u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = Vec::with_capacity(data.len() + 5);
    frame.push(channel as u8);
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(data);
    to.write_all(&frame)?;
    to.flush()
}

/// Receive one frame; `None` at the end of the stream.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<(Channel, Vec<u8>)>> {
    let mut head = [0; 5];
    match from.read_exact(&mut head) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let channel = Channel::from_byte(head[0])?;
    let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    let mut data = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData)?];
    from.read_exact(&mut data)?;
    Ok(Some((channel, data)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire() {
        let mut wire = Vec::new();
        write_frame(&mut wire, Channel::Console, b"hello").unwrap();
        write_frame(&mut wire, Channel::Qmp, b"").unwrap();
        let mut from = wire.as_slice();
        assert_eq!(
            read_frame(&mut from).unwrap(),
            Some((Channel::Console, b"hello".to_vec()))
        );
        assert_eq!(
            read_frame(&mut from).unwrap(),
            Some((Channel::Qmp, Vec::new()))
        );
        assert_eq!(read_frame(&mut from).unwrap(), None);
    }

    #[test]
    fn an_unknown_channel_is_an_error() {
        assert!(read_frame(&mut [9u8, 0, 0, 0, 0].as_slice()).is_err());
    }

    #[test]
    fn messages_are_single_lines() {
        let ask = Numbered {
            id: 7,
            body: GuestRequest::Write {
                path: "/x".into(),
                data: "a\nb".into(),
            },
        };
        let line = serde_json::to_string(&ask).unwrap();
        assert!(!line.contains('\n'));
        let back: Numbered<GuestRequest> = serde_json::from_str(&line).unwrap();
        assert_eq!(back.id, 7);
    }
}
