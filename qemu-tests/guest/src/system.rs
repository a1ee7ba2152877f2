// SPDX-License-Identifier: GPL-2.0

//! The few system calls that a process 1 needs.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::kmod::{finit_module, ModuleInitFlags};
use nix::libc;
use nix::mount::{mount, MsFlags};
use nix::sys::reboot::{reboot, RebootMode};
use nix::sys::termios::{cfmakeraw, tcgetattr, tcsetattr, SetArg};

/// Mount a file system, making its folder first.
pub fn mount_at(source: &str, target: &str, kind: &str, flags: MsFlags, data: &str) -> Result<()> {
    // On a read-only root the folder is there already, or mounting says so.
    let _ = fs::create_dir_all(target);
    match mount(Some(source), target, Some(kind), flags, Some(data)) {
        // a kernel without an initramfs has done that
        Err(Errno::EBUSY) if kind == "devtmpfs" => return Ok(()),
        done => done,
    }
    .with_context(|| format!("mount {kind} on {target}"))
}

/// Mount what every program expects.
pub fn mount_usual(prefix: &str) -> Result<()> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mount_at(
            kind,
            &format!("{prefix}{target}"),
            kind,
            MsFlags::empty(),
            "",
        )?;
    }
    for target in ["/tmp", "/run"] {
        mount_at(
            "tmpfs",
            &format!("{prefix}{target}"),
            "tmpfs",
            MsFlags::empty(),
            "",
        )?;
    }
    Ok(())
}

/// Make the ext4 file system on this device the root; what [`mount_usual`] has mounted moves along.
pub fn enter_root(device: &str) -> Result<()> {
    const NEW: &str = "/new-root";
    let move_to = |from: &str, to: &str| {
        mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .with_context(|| format!("move {from} to {to}"))
    };
    mount_at(device, NEW, "ext4", MsFlags::empty(), "")?;
    for folder in ["/proc", "/sys", "/dev", "/tmp", "/run"] {
        move_to(folder, &format!("{NEW}{folder}"))?;
    }
    std::env::set_current_dir(NEW)?;
    move_to(".", "/")?;
    nix::unistd::chroot(".").context("chroot")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// Load one module file.
pub fn load_module(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let none = CString::default();
    finit_module(file.as_fd(), &none, ModuleInitFlags::empty())
        .with_context(|| format!("load {}", path.display()))
}

/// Load what a panic starts into the memory that `crashkernel=` has set aside.
pub fn load_crash_kernel(kernel: &str, initramfs: &str, command_line: &str) -> Result<()> {
    const ON_CRASH: libc::c_ulong = 2;
    let open = |path: &str| File::open(path).with_context(|| path.to_owned());
    let (kernel, initramfs) = (open(kernel)?, open(initramfs)?);
    let command_line = CString::new(command_line)?;
    // SAFETY: Both descriptors are open, and the text has the length that is given, with its end.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initramfs.as_raw_fd(),
            command_line.as_bytes_with_nul().len(),
            command_line.as_ptr(),
            ON_CRASH,
        )
    };
    Errno::result(result).context("kexec_file_load")?;
    Ok(())
}

/// Turn echo, line editing and newline changes of a serial port off.
pub fn make_raw(port: &File) -> Result<()> {
    let mut settings = tcgetattr(port.as_fd())?;
    cfmakeraw(&mut settings);
    tcsetattr(port.as_fd(), SetArg::TCSANOW, &settings)?;
    Ok(())
}

/// End the machine; for a process 1 that cannot go on.
pub fn power_off() -> ! {
    let _ = reboot(RebootMode::RB_POWER_OFF);
    loop {
        std::thread::park();
    }
}
