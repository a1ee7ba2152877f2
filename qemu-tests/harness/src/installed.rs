// SPDX-License-Identifier: GPL-2.0

//! The installed machine: a Debian with systemd, udev, initramfs-tools and GRUB's menu on a disk of the bus, on which
//! the packages are tried. It starts with Secure Boot ([`firmware`]): before each start, the kernel, the initramfs and the
//! words of the first entry of the menu in its `/boot` are copied to the firmware's disk.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::firmware;
use crate::machine::{Contents, File, Initramfs, Machine, Qemu};
use crate::paths::Paths;
use crate::root_disk::run;

/// The disk among the machine's files.
const DISK: &str = "root";

/// Where the packages are on it.
pub(crate) const PACKAGES: &str = "/debs";

/// A disk, a network and memory, each of which has a driver to choose.
pub(crate) const MACHINE: Machine = Machine {
    name: "installed",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Installed,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        File {
            name: DISK,
            contents: Contents::Installed,
            mib: 0,
        },
        of_firmware(firmware::CODE),
        of_firmware(firmware::VARIABLES),
        of_firmware(firmware::DISK),
    ],
    devices: &[
        firmware::DEVICES,
        "-device vmbus-bridge",
        "-device hv-balloon,id=balloon,post-init-wait-ms=2000,instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11",
        "-blockdev raw,node-name=root,file.driver=file,file.filename=@/root,cache.no-flush=on",
        "-device hv-scsi,id=scsi,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f00d0",
        "-device scsi-hd,bus=scsi.0,drive=root,scsi-id=0,lun=0",
        "-netdev user,id=user,restrict=on",
        "-device hv-net,id=user,netdev=user,mac=52:54:00:00:10:01,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001",
    ],
};

const fn of_firmware(name: &'static str) -> File {
    File {
        name,
        contents: Contents::Firmware,
        mib: 0,
    }
}

/// Among the packages, the certificate of who has signed the modules.
pub(crate) const CERTIFICATE: &str = "modules.pem";

/// How the name of the package begins that is not tried there.
const FOR_DKMS: &str = "vmbus-rust-dkms_";

const SIZE: &str = "512M";

/// What GRUB is told to start, and the words for a kernel.
const MENU: &str = "/boot/grub/grub.cfg";

/// What starts the machine before its menu is made.
const FIRST_WORDS: &str = "root=/dev/sda ro console=ttyS0";

/// The words that the harness wants of every kernel.
const OWN_WORDS: &str = "loglevel=5 panic=1 rcupdate.rcu_cpu_stall_timeout=60";

/// The program that does what the harness asks, as a service.
const SERVICE: &str = "[Unit]\n\
                       DefaultDependencies=no\n\
                       After=local-fs.target systemd-udev-trigger.service\n\
                       [Service]\n\
                       ExecStart=/usr/lib/harness/init 0\n\
                       StandardOutput=tty\n\
                       StandardError=tty\n\
                       TTYPath=/dev/ttyS0\n";

/// Without one systemd takes the start for the first one.
const MACHINE_ID: &str = "6b1d4b588d2e4bd59b6e0d5e8a0c1f11\n";

/// What a machine that is started a few times only does without.
const MASKED: [&str; 4] = [
    "ldconfig.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
];

/// Make the disk, and in this folder what the firmware has.
pub(crate) fn build(paths: &Paths, disk: &Path, folder: &Path) -> Result<()> {
    let base = paths.run().join("installed");
    // what it mounts goes with its namespace
    run(Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(paths.setup.join("lay-machine"))
        .arg(&base))?;
    let program = base.join("usr/lib/harness");
    fs::create_dir_all(&program)?;
    fs::copy(&paths.guest_program, program.join("init"))?;
    let units = base.join("etc/systemd/system");
    let wants = units.join("sysinit.target.wants");
    fs::create_dir_all(&wants)?;
    fs::write(units.join("harness.service"), SERVICE)?;
    symlink("../harness.service", wants.join("harness.service"))?;
    for unit in MASKED {
        symlink("/dev/null", units.join(unit))?;
    }
    // no logins
    symlink(
        "/usr/lib/systemd/system/sysinit.target",
        units.join("default.target"),
    )?;
    fs::write(base.join("etc/machine-id"), MACHINE_ID)?;
    let packages = base.join(PACKAGES.trim_start_matches('/'));
    fs::create_dir_all(&packages)?;
    for entry in fs::read_dir(&paths.packages).context("the packages, which setup/deb makes")? {
        let entry = entry?;
        // the one for DKMS is in the place of the modules'
        if !entry.file_name().to_string_lossy().starts_with(FOR_DKMS) {
            fs::copy(entry.path(), packages.join(entry.file_name()))?;
        }
    }
    let boot = base.join("boot");
    firmware::copy(paths, folder)?;
    let first = firmware::Entry {
        kernel: &only_one(&boot, "vmlinuz-")?,
        initramfs: &only_one(&boot, "initrd.img-")?,
        words: &format!("{FIRST_WORDS} {OWN_WORDS}"),
    };
    firmware::make_disk(paths, &folder.join(firmware::DISK), &first)?;
    let _ = fs::remove_file(disk);
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-d"])
        .args([&base, disk])
        .arg(SIZE))
}

/// The only file in this folder whose name begins like this.
fn only_one(folder: &Path, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("no {prefix}* in {}", folder.display())
}

/// Let the firmware start what the disk in this folder says.
pub(crate) fn update_firmware_disk(paths: &Paths, folder: &Path) -> Result<()> {
    let disk = folder.join(DISK);
    let dumped = |file: &str, name: &str| {
        let to = paths.run().join(name);
        dump(&disk, file, &to).map(|()| to)
    };
    let text = fs::read_to_string(dumped(MENU, "installed-menu")?)?;
    let (kernel, initramfs, words) = first_entry(&text).context("no entry in GRUB's menu")?;
    let entry = firmware::Entry {
        kernel: &dumped(kernel, "next-kernel")?,
        initramfs: &dumped(initramfs, "next-initramfs")?,
        words: &format!("{words} {OWN_WORDS}"),
    };
    firmware::make_disk(paths, &folder.join(firmware::DISK), &entry)
}

/// The first entry's kernel, its initramfs and words for it.
fn first_entry(menu: &str) -> Option<(&str, &str, &str)> {
    let line = |word: &str| {
        menu.lines().find_map(|line| {
            let rest = line.trim_start().strip_prefix(word)?;
            rest.starts_with([' ', '\t']).then(|| rest.trim())
        })
    };
    let (kernel, words) = line("linux")?.split_once(char::is_whitespace)?;
    Some((kernel, line("initrd")?, words.trim()))
}

/// A file of a disk that nobody uses now.
fn dump(disk: &Path, file: &str, to: &Path) -> Result<()> {
    let _ = fs::remove_file(to);
    // what is not written back yet is in the journal
    let repaired = Command::new("e2fsck").arg("-fp").arg(disk).output()?;
    if repaired.status.code().is_none_or(|code| code > 1) {
        bail!("e2fsck: {}", String::from_utf8_lossy(&repaired.stdout));
    }
    // its status says nothing
    let done = Command::new("debugfs")
        .args([
            OsStr::new("-R"),
            format!("dump {file} {}", to.display()).as_ref(),
        ])
        .arg(disk)
        .output()?;
    if fs::metadata(to).map_or(0, |m| m.len()) == 0 {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("{file} is not on the disk, or empty: {}", said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::first_entry;

    #[test]
    fn the_first_entry_of_a_menu_is_what_starts() {
        let menu = "linux_modules=\nmenuentry 'a' {\n\tlinux\t/boot/vmlinuz-1 root=UUID=x ro  console=ttyS0 \n\
                    \tinitrd\t/boot/initrd.img-1\n}\nmenuentry 'b' {\n\tlinux\t/boot/vmlinuz-0 ro\n}\n";
        let found = first_entry(menu);
        assert_eq!(
            found,
            Some((
                "/boot/vmlinuz-1",
                "/boot/initrd.img-1",
                "root=UUID=x ro  console=ttyS0"
            ))
        );
        assert_eq!(first_entry("menuentry 'a' {}"), None);
    }
}
