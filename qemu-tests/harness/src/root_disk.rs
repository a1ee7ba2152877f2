// SPDX-License-Identifier: GPL-2.0

//! The disk with a Debian root: a selection of the root that the harness runs in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::image::libraries;
use crate::paths::Paths;

/// On the disk: a checksum of each other file.
pub(crate) const SUMS: &str = "/sha256sums";

const SIZE: &str = "64M";

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

/// Files and folders as they are: what the programs need, and many to be read.
const TREES: [&str; 4] = [
    "/etc/debian_version",
    "/etc/os-release",
    "/usr/lib/x86_64-linux-gnu/perl-base",
    "/var/lib/dpkg/status",
];

/// Make the disk's image.
pub(crate) fn build(paths: &Paths, disk: &Path) -> Result<()> {
    let base = paths.build.join("root-disk");
    if base.exists() {
        fs::remove_dir_all(&base)?;
    }
    for folder in EMPTY {
        fs::create_dir_all(base.join(folder))?;
    }
    for name in MERGED {
        fs::create_dir_all(base.join("usr").join(name))?;
        symlink(Path::new("usr").join(name), base.join(name))?;
    }
    for name in PROGRAMS {
        let program = Path::new("/usr/bin").join(name);
        for library in libraries(&program)? {
            copy(Path::new(&library), &base)?;
        }
        copy(&program, &base)?;
    }
    symlink("dash", base.join("usr/bin/sh"))?;
    symlink("../bin/busybox", base.join("usr/sbin/reboot"))?;
    fs::copy(&paths.guest_program, base.join("usr/sbin/init"))?;
    for tree in TREES {
        copy(Path::new(tree), &base)?;
    }
    let name = SUMS.trim_start_matches('/');
    // the list is made before there is a file for it
    let sum = format!(
        "list=$(find . -type f | sort | xargs -d '\\n' sha256sum); echo \"$list\" > {name}"
    );
    run(Command::new("sh")
        .args(["-e", "-c", &sum])
        .current_dir(&base))?;
    let _ = fs::remove_file(disk);
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-d"])
        .args([base.as_path(), disk])
        .arg(SIZE))
}

/// A file or a folder, to the same place below `base`; files that links point to, not links.
fn copy(from: &Path, base: &Path) -> Result<()> {
    let to = base.join(from.strip_prefix("/")?);
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            copy(&entry?.path(), base)?;
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file has a folder")?)?;
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    if !out.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}
