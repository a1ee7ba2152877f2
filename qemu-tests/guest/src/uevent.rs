// SPDX-License-Identifier: GPL-2.0

//! Module loading by device events, the way udev does it.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::socket::{
    bind, recv, socket, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
};

/// Listen for new devices from now on, then ask for those that are there.
pub(crate) fn autoload() -> Result<()> {
    let events = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkKObjectUEvent,
    )
    .context("uevent socket")?;
    bind(events.as_raw_fd(), &NetlinkAddr::new(0, 1)).context("uevent socket")?;
    thread::spawn(move || listen(&events));
    replay(Path::new("/sys/bus/vmbus/devices"));
    Ok(())
}

/// Make the kernel send the `add` events of a bus again.
fn replay(devices: &Path) {
    for device in fs::read_dir(devices).into_iter().flatten().flatten() {
        if let Err(e) = fs::write(device.path().join("uevent"), "add") {
            eprintln!("init: replay of {}: {e}", device.path().display());
        }
    }
}

fn listen(events: &OwnedFd) {
    let mut buffer = [0; 8192];
    loop {
        match recv(events.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(len) => {
                if let Some(alias) = added_modalias(&buffer[..len]) {
                    // At the same time, as udev does: a driver whose host is silent takes minutes.
                    thread::spawn(move || load(&alias));
                }
            }
            Err(nix::errno::Errno::ENOBUFS | nix::errno::Errno::EINTR) => {}
            Err(e) => {
                eprintln!("init: uevents: {e}");
                return;
            }
        }
    }
}

fn load(alias: &str) {
    let done = Command::new("/sbin/modprobe")
        .args(["-q", "-b", alias])
        .status();
    if let Err(e) = done {
        eprintln!("init: modprobe {alias}: {e}");
    }
}

/// The `MODALIAS` of an `add` event: NUL-separated `VAR=value` after a header.
fn added_modalias(event: &[u8]) -> Option<String> {
    let mut words = event.split(|b| *b == 0).map(String::from_utf8_lossy);
    if !words.next()?.starts_with("add@") {
        return None;
    }
    words.find_map(|w| w.strip_prefix("MODALIAS=").map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::added_modalias;

    #[test]
    fn only_add_events_load_modules() {
        let event = b"add@/devices/x\0ACTION=add\0MODALIAS=vmbus:dead\0SEQNUM=1\0";
        assert_eq!(added_modalias(event).as_deref(), Some("vmbus:dead"));
        assert_eq!(
            added_modalias(b"remove@/devices/x\0MODALIAS=vmbus:dead\0"),
            None
        );
        assert_eq!(added_modalias(b"add@/devices/x\0ACTION=add\0"), None);
        assert_eq!(added_modalias(b""), None);
    }
}
