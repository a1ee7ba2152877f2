// SPDX-License-Identifier: GPL-2.0

//! UEFI with Secure Boot, and what it starts: the shim that Microsoft has signed, and Debian's GRUB and kernel.
//!
//! Its disk has what an installed machine has on its EFI partition. Hyper-V's firmware reads disks of VMBus; that of
//! QEMU does not, so this one is on SATA, for which the machine's system has no driver.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::paths::Paths;
use crate::root_disk::run;

/// Among the files of a machine, and in a folder of these for all: the firmware, its variables, the disk.
pub(crate) const CODE: &str = "firmware-code";
/// See [`CODE`].
pub(crate) const VARIABLES: &str = "firmware-variables";
/// See [`CODE`].
pub(crate) const DISK: &str = "firmware-disk";

/// QEMU's arguments for them.
pub(crate) const DEVICES: &str = "-machine smm=on,pflash0=code,pflash1=variables \
     -global cfi.pflash01.secure=on \
     -blockdev raw,node-name=code,read-only=on,file.driver=file,file.filename=@/firmware-code \
     -blockdev raw,node-name=variables,file.driver=file,file.filename=@/firmware-variables \
     -blockdev raw,node-name=efi,file.driver=file,file.filename=@/firmware-disk,cache.no-flush=on \
     -device ide-hd,drive=efi,bus=ide.0";

/// What the package with the firmware calls them: with System Management Mode, and with Microsoft's keys.
const IMAGES: [(&str, &str); 2] = [
    ("usr/share/OVMF/OVMF_CODE_4M.secboot.fd", CODE),
    ("usr/share/OVMF/OVMF_VARS_4M.ms.fd", VARIABLES),
];

/// Where the firmware looks for a loader on a disk that it does not know, and where each has the next one.
const LOADERS: [(&str, &str); 2] = [
    ("usr/lib/shim/shimx64.efi.signed", "EFI/BOOT/BOOTX64.EFI"),
    (
        "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
        "EFI/BOOT/grubx64.efi",
    ),
];
const FOLDERS: [&str; 3] = ["EFI", "EFI/BOOT", "EFI/debian"];
const MENU: &str = "EFI/debian/grub.cfg";

/// Room for a kernel and its initramfs, in MiB.
const SIZE_MIB: u64 = 192;

/// Who says that a key is the machine owner's; anybody.
const OWNER: &str = "6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11";

/// What GRUB starts.
pub(crate) struct Entry<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// For the kernel.
    pub(crate) words: &'a str,
}

/// Put the firmware and its variables, as they are delivered, in a folder.
pub(crate) fn copy(paths: &Paths, to: &Path) -> Result<()> {
    for (from, name) in IMAGES {
        fs::copy(paths.firmware.join(from), to.join(name))?;
    }
    Ok(())
}

/// Make the disk, of the size that it keeps.
pub(crate) fn make_disk(paths: &Paths, disk: &Path, entry: &Entry<'_>) -> Result<()> {
    let menu = disk.with_extension("menu");
    fs::write(
        &menu,
        format!("linux /vmlinuz {}\ninitrd /initrd.img\nboot\n", entry.words),
    )?;
    let file = fs::File::create(disk)?;
    file.set_len(SIZE_MIB << 20)?;
    drop(file);
    mtools(paths, "mformat", disk, &["-F".as_ref(), "::".as_ref()])?;
    for folder in FOLDERS {
        mtools(paths, "mmd", disk, &[format!("::/{folder}").as_ref()])?;
    }
    let loaders = LOADERS.map(|(from, to)| (paths.firmware.join(from), to));
    let files = loaders
        .iter()
        .map(|(from, to)| (from.as_path(), *to))
        .chain([
            (menu.as_path(), MENU),
            (entry.kernel, "vmlinuz"),
            (entry.initramfs, "initrd.img"),
        ]);
    for (from, to) in files {
        mtools(paths, "mcopy", disk, &[from, format!("::/{to}").as_ref()])?;
    }
    Ok(())
}

fn mtools(paths: &Paths, command: &str, disk: &Path, arguments: &[&Path]) -> Result<()> {
    run(Command::new(paths.firmware.join("usr/bin/mtools"))
        .args(["-c", command, "-i"])
        .arg(disk)
        .args(arguments))
}

/// The machine's owner trusts who has this certificate, as with `mokutil --import` and the shim's question at the next
/// start.
pub(crate) fn trust(paths: &Paths, variables: &Path, certificate: &Path) -> Result<()> {
    run(Command::new("python3")
        .env(
            "PYTHONPATH",
            paths.firmware.join("usr/lib/python3/dist-packages"),
        )
        .arg(paths.firmware.join("usr/bin/virt-fw-vars"))
        .arg("--inplace")
        .arg(variables)
        .args(["--add-mok", OWNER])
        .arg(certificate))
}
