// SPDX-License-Identifier: GPL-2.0

//! The disks with a Debian root: a selection of the root that the harness runs in. One is as small as
//! a scenario needs it; the other is for people, who reach it by ssh.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::paths::Paths;
use crate::programs;

/// On the disk: a checksum of each other file.
pub(crate) const SUMS: &str = "/sha256sums";

const SIZE: &str = "64M";
/// Of the one for people.
const REACHED_SIZE: &str = "256M";

/// What the disk's links of the merged `/usr` are.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Where the running system mounts something.
const EMPTY: [&str; 6] = ["proc", "sys", "dev", "tmp", "run", "home"];

/// Programs; their libraries come along.
const PROGRAMS: [&str; 26] = [
    "bash",
    "busybox",
    "cat",
    "cp",
    "dash",
    "dd",
    "dmesg",
    "dpkg",
    "dpkg-query",
    "env",
    "head",
    "ls",
    "mkdir",
    "mount",
    "mv",
    "perl",
    "rm",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "sync",
    "tail",
    "touch",
    "uname",
    "wc",
];

/// Programs of the disk for people besides.
const MORE_PROGRAMS: [&str; 20] = [
    "/usr/bin/chmod",
    "/usr/bin/curl",
    "/usr/bin/cut",
    "/usr/bin/df",
    "/usr/bin/date",
    "/usr/bin/fio",
    "/usr/bin/free",
    "/usr/bin/grep",
    "/usr/bin/iperf3",
    "/usr/bin/kmod",
    "/usr/bin/ln",
    "/usr/bin/lsblk",
    "/usr/bin/ps",
    "/usr/bin/sed",
    "/usr/bin/tcpdump",
    "/usr/sbin/dropbear",
    "/usr/sbin/ethtool",
    "/usr/sbin/ip",
    "/usr/sbin/nft",
    "/usr/sbin/sysctl",
];

/// What kmod is called as.
const KMOD: [&str; 5] = ["modprobe", "rmmod", "insmod", "lsmod", "modinfo"];

/// Whoever has the key may log in.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n";

/// Files and folders as they are: what the programs need, and many to be read.
const TREES: [&str; 4] = [
    "/etc/debian_version",
    "/etc/os-release",
    "/usr/lib/x86_64-linux-gnu/perl-base",
    "/var/lib/dpkg/status",
];

/// Make the image of the disk that a scenario uses.
pub(crate) fn build(paths: &Paths, disk: &Path) -> Result<()> {
    let base = paths.run().join("root-disk");
    selection(paths, &base)?;
    let name = SUMS.trim_start_matches('/');
    // the list is made before there is a file for it
    let sum = format!(
        "list=$(find . -type f | sort | xargs -d '\\n' sha256sum); echo \"$list\" > {name}"
    );
    run(Command::new("sh")
        .args(["-e", "-c", &sum])
        .current_dir(&base))?;
    format(&base, disk, SIZE)
}

/// Make the image of the disk for people: with programs for networks, the kernel's modules (from this
/// folder, in which they are as a guest has them), and a server for ssh that knows one key.
pub(crate) fn build_reached(paths: &Paths, disk: &Path, modules: &Path) -> Result<()> {
    let base = paths.run().join("reached-root-disk");
    selection(paths, &base)?;
    for program in MORE_PROGRAMS {
        add_program(paths, program, &base)?;
    }
    for name in KMOD {
        symlink("../bin/kmod", base.join("usr/sbin").join(name))?;
    }
    copy_to(modules, &base.join("usr/lib/modules"))?;
    fs::write(base.join("etc/passwd"), PASSWD)?;
    fs::write(base.join("etc/shells"), "/bin/bash\n")?;
    let home = base.join("root/.ssh");
    fs::create_dir_all(&home)?;
    fs::create_dir_all(base.join("etc/dropbear"))?;
    fs::write(home.join("authorized_keys"), public_key(paths)?)?;
    for folder in [base.join("root"), home] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    format(&base, disk, REACHED_SIZE)
}

/// The public part of the key that opens the guest to whoever may read this checkout's part of the
/// cache. It is made once.
fn public_key(paths: &Paths) -> Result<String> {
    let key = paths.guest_key();
    if !key.exists() {
        let new = paths.run().join("guest-key");
        dropbearkey(paths, &["-t", "ed25519"], &new)?;
        // another run may have made one meanwhile
        match fs::hard_link(&new, &key) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(e).with_context(|| key.display().to_string())
            }
            _ => {}
        }
    }
    dropbearkey(paths, &["-y"], &key)
}

/// The line of a key's public part that `dropbearkey` prints.
fn dropbearkey(paths: &Paths, options: &[&str], key: &Path) -> Result<String> {
    let done = programs::command(&paths.guest_tools, "/usr/bin/dropbearkey")
        .args(options)
        .arg("-f")
        .arg(key)
        .output()
        .context("dropbearkey")?;
    let said = String::from_utf8_lossy(&done.stdout);
    let public = said.lines().find(|line| line.starts_with("ssh-ed25519 "));
    public.map(|line| format!("{line}\n")).with_context(|| {
        format!(
            "dropbearkey printed no key of {}: {said}{}",
            key.display(),
            String::from_utf8_lossy(&done.stderr)
        )
    })
}

/// What both disks have, in a new folder.
fn selection(paths: &Paths, base: &Path) -> Result<()> {
    if base.exists() {
        fs::remove_dir_all(base)?;
    }
    for folder in EMPTY {
        fs::create_dir_all(base.join(folder))?;
    }
    for name in MERGED {
        fs::create_dir_all(base.join("usr").join(name))?;
        symlink(Path::new("usr").join(name), base.join(name))?;
    }
    for name in PROGRAMS {
        add_program(paths, &format!("/usr/bin/{name}"), base)?;
    }
    symlink("dash", base.join("usr/bin/sh"))?;
    symlink("../bin/busybox", base.join("usr/sbin/reboot"))?;
    fs::copy(&paths.guest_program, base.join("usr/sbin/init"))?;
    for tree in TREES {
        copy_to(Path::new(tree), &base.join(tree.trim_start_matches('/')))?;
    }
    Ok(())
}

fn add_program(paths: &Paths, program: &str, base: &Path) -> Result<()> {
    for file in programs::with_libraries(&paths.guest_tools, program)? {
        copy_to(&file.from, &base.join(file.to.strip_prefix("/")?))?;
    }
    Ok(())
}

/// A file system with what is in this folder.
fn format(base: &Path, disk: &Path, size: &str) -> Result<()> {
    let _ = fs::remove_file(disk);
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-d"])
        .args([base, disk])
        .arg(size))
}

/// A file or a folder; files that links point to, not links.
fn copy_to(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_to(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file has a folder")?)?;
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

/// Run a program; what it says is in the error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    if !out.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}
