// SPDX-License-Identifier: GPL-2.0

//! A load for benchmarks: random reads of 4 KiB by the kernel's asynchronous
//! I/O, one system call to submit and one to reap each, and little else. It
//! does a number of reads, not seconds, so that two runs do the same work.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use anyhow::{bail, ensure, Context, Result};
use nix::libc::{self, c_long};
use nix::sched::{sched_setaffinity, CpuSet};
use nix::unistd::Pid;

use crate::latency::{nanoseconds, report};
use crate::protocol::{Load, LoadReport};
use crate::window::Window;

const BLOCK: usize = 4096;

/// Do the reads on this thread, which stays on that CPU for good. The window has what is done for
/// reads, and nothing else.
pub(crate) fn run(load: &Load) -> Result<LoadReport> {
    stay_on(load.cpu)?;
    let path = disk_of(load.mib)?;
    let mut disk = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .with_context(|| path.clone())?;
    let blocks = disk.seek(SeekFrom::End(0))? / BLOCK as u64;
    ensure!(blocks > 0 && load.depth > 0, "nothing to read");
    let mut reader = Reader::new(&disk, blocks, load.depth)?;
    let mut latencies = vec![0; load.reads];

    let window = Window::begin();
    let start = Instant::now();
    for slot in 0..load.depth.min(load.reads) {
        reader.submit(slot)?;
    }
    for (done, latency) in latencies.iter_mut().enumerate() {
        let slot = reader.reap()?;
        *latency = nanoseconds(reader.begun[slot].elapsed());
        if done + load.depth < load.reads {
            reader.submit(slot)?;
        }
    }
    let elapsed = start.elapsed();
    drop(window);

    Ok(report(elapsed, latencies))
}

/// The SCSI disk with so many MiB.
fn disk_of(mib: u64) -> Result<String> {
    let sectors = (mib << 11).to_string();
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let size = fs::read_to_string(format!("/sys/block/{name}/size"))?;
        if name.starts_with("sd") && size.trim() == sectors {
            return Ok(format!("/dev/{name}"));
        }
    }
    bail!("no disk of {mib} MiB")
}

fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("sched_setaffinity")
}

#[derive(Clone)]
#[repr(C, align(4096))]
struct Buffer([u8; BLOCK]);

/// `struct iocb` of `linux/aio_abi.h`, little-endian.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_file: u32,
}

/// `struct io_event` of `linux/aio_abi.h`.
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    request: u64,
    result: i64,
    result2: i64,
}

/// Reads of one file, each in a slot of its own.
struct Reader {
    context: c_long,
    blocks: u64,
    requests: Vec<Request>,
    begun: Vec<Instant>,
    random: u64,
    /// The kernel writes to them until [`Drop`] has waited for it.
    _buffers: Vec<Buffer>,
}

impl Reader {
    fn new(file: &File, blocks: u64, depth: usize) -> Result<Self> {
        let mut buffers = vec![Buffer([0; BLOCK]); depth];
        let file = u32::try_from(file.as_raw_fd())?;
        let requests = buffers
            .iter_mut()
            .enumerate()
            .map(|(slot, buffer)| Request {
                data: slot as u64,
                opcode: 0, // IOCB_CMD_PREAD
                file,
                buffer: buffer.0.as_mut_ptr() as u64,
                bytes: BLOCK as u64,
                ..Request::default()
            });
        let requests = requests.collect();
        let mut context: c_long = 0;
        // SAFETY: the kernel writes the context's number to a variable that is there.
        check(unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut context) })?;
        Ok(Self {
            context,
            blocks,
            requests,
            begun: vec![Instant::now(); depth],
            random: 0x9e37_79b9_7f4a_7c15,
            _buffers: buffers,
        })
    }

    fn submit(&mut self, slot: usize) -> Result<()> {
        // xorshift: any order will do that no cache foresees
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let block = self.random % self.blocks;
        let request = &mut self.requests[slot];
        request.offset = i64::try_from(block * BLOCK as u64)?;
        let list = [&raw mut *request];
        self.begun[slot] = Instant::now();
        // SAFETY: the list has one request, whose buffer has room and lives as long as the context.
        check(unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1, list.as_ptr()) })
    }

    /// Wait for a read; gives its slot.
    fn reap(&mut self) -> Result<usize> {
        let mut event = Event::default();
        let forever = std::ptr::null_mut::<libc::timespec>();
        // SAFETY: there is room for the one event that is asked for.
        check(unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                1,
                1,
                &raw mut event,
                forever,
            )
        })?;
        ensure!(event.result == BLOCK as i64, "a read gave {}", event.result);
        Ok(usize::try_from(event.data)?)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: the context is ours; the kernel waits here for what is under way.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

fn check(result: c_long) -> Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error()).context("asynchronous I/O");
    }
    Ok(())
}
