// SPDX-License-Identifier: GPL-2.0

//! Process 1 of level 1: goes to the Debian root that the host shares, loads
//! KVM and serves the harness over a virtio port.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use nix::mount::MsFlags;

use crate::{agent, system};

/// The 9p tag of the host's root folder.
pub const ROOT_TAG: &str = "root";
/// The name of the virtio port to the harness.
pub const PORT: &str = "vmbus.agent";
/// In the initramfs: module files in loading order, one a line.
pub const MODULE_LIST: &str = "/modules.load";

const PORT_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs until the harness is gone.
pub fn main() -> ! {
    if let Err(e) = run() {
        eprintln!("level1: {e:#}");
    }
    system::power_off()
}

fn run() -> Result<()> {
    for path in fs::read_to_string(MODULE_LIST)
        .context(MODULE_LIST)?
        .lines()
    {
        system::load_module(Path::new(path))?;
    }
    let options = "trans=virtio,version=9p2000.L,cache=loose,msize=524288";
    system::mount_at(ROOT_TAG, "/host", "9p", MsFlags::MS_RDONLY, options)?;
    system::mount_usual("/host")?;
    nix::unistd::chroot("/host").context("chroot")?;
    std::env::set_current_dir("/")?;
    std::env::set_var(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );

    let port = find_port()?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&port)
        .context("port")?;
    agent::serve(file.try_clone()?, Box::new(file), Path::new("/run/vm"))
}

/// The device of the port that carries [`PORT`]'s name.
fn find_port() -> Result<PathBuf> {
    let deadline = Instant::now() + PORT_TIMEOUT;
    while Instant::now() < deadline {
        for entry in fs::read_dir("/sys/class/virtio-ports")
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == PORT {
                return Ok(Path::new("/dev").join(entry.file_name()));
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("no virtio port named {PORT}")
}
