// SPDX-License-Identifier: GPL-2.0

//! A kernel of somebody's own (`qemu-tests/kernels/built-in`), with the drivers built in, on the Rust core or on the
//! kernel's own. Its root is on a disk of the bus, and it has no initramfs: what brings the root is in the kernel.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};

use crate::cpio::Archive;
use crate::drivers::Core;
use crate::machine::{disk, Contents, File, Initramfs, Machine, Qemu};
use crate::paths::Paths;
use crate::root_disk::run;
use crate::storage::{BIG_SECTORS_MIB, PLAIN_MIB, SMALL_MIB};

/// Instance of the controller with the root.
pub(crate) const ROOT: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f00d0";

/// What the main scenarios need, and a root: which name a disk gets is not known before, so its partition is named.
pub(crate) const MACHINE: Machine = Machine {
    name: "built-in",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::BuiltIn,
    kernel_arguments: "root=PARTUUID=6b1d4b58-01 rootfstype=ext4 rootwait rw init=/init",
    module_parameters: "hv_balloon_rust.pressure_report_delay=5 hv_storvsc_rust.storvsc_answer_secs=177",
    files: &[
        File {
            name: "root",
            contents: Contents::BuiltIn,
            mib: 0,
        },
        disk("plain", PLAIN_MIB),
        disk("big-sectors", BIG_SECTORS_MIB),
        disk("ide", SMALL_MIB),
        disk("spare", SMALL_MIB),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-device hv-balloon,id=balloon,status-report=on,instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11",
        "-global hv-balloon.post-init-wait-ms=2000",
        "-blockdev raw,node-name=plain,file.driver=file,file.filename=@/plain,cache.no-flush=on,discard=unmap",
        "-blockdev raw,node-name=big,file.driver=file,file.filename=@/big-sectors,cache.no-flush=on",
        "-blockdev raw,node-name=ide,file.driver=file,file.filename=@/ide,cache.no-flush=on",
        "-blockdev raw,node-name=spare,file.driver=file,file.filename=@/spare,cache.no-flush=on",
        "-blockdev raw,node-name=root,file.driver=file,file.filename=@/root,cache.no-flush=on",
        "-device hv-scsi,id=main,num-queues=4,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0001",
        "-device scsi-hd,bus=main.0,drive=plain,scsi-id=0,lun=0",
        "-device scsi-hd,bus=main.0,drive=big,scsi-id=0,lun=1,logical_block_size=4096,physical_block_size=4096",
        "-device hv-ide,id=ide",
        "-device scsi-hd,bus=ide.0,drive=ide",
        "-device hv-scsi,id=spare,num-queues=2,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f0002",
        "-device scsi-hd,bus=spare.0,drive=spare,write-cache=off",
        "-device hv-scsi,id=root,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f00d0",
        "-device scsi-hd,bus=root.0,drive=root",
        "-netdev user,id=user,restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:cat",
        "-device hv-net,id=user,netdev=user,num-queues=4,mac=52:54:00:00:10:01,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001",
        "-netdev hubport,id=wire,hubid=1",
        "-device hv-net,id=wire,netdev=wire,num-queues=4,mac=52:54:00:00:10:02,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1002",
        "-netdev hubport,id=peer,hubid=1",
        "-device e1000e,netdev=peer,romfile=,mac=52:54:00:00:10:03",
    ],
};

/// What [`MACHINE`] calls the disk, little endian, at its place in the first sector.
const SIGNATURE: (u64, [u8; 4]) = (0x1b8, 0x6b1d_4b58_u32.to_le_bytes());
/// Where the partitions' table begins.
const TABLE: u64 = 0x1be;
/// Where the partition does, and what it has, in sectors of 512 bytes.
const PARTITION: (u32, u32) = (2048, 192 << 11);

/// The kernel on this core.
pub(crate) fn kernel(paths: &Paths, core: Core) -> PathBuf {
    folder(paths, core).join("vmlinux")
}

fn folder(paths: &Paths, core: Core) -> PathBuf {
    paths.built_in.join(match core {
        // there is nothing to be tried with the C drivers
        Core::C | Core::Rust => "rust",
        Core::RustOnC => "on-c",
    })
}

/// Tell `modprobe` what is in the kernels.
pub(crate) fn add_lists(paths: &Paths, archive: &mut Archive) -> Result<()> {
    let base = paths.run().join("built-in-lists");
    for core in [Core::Rust, Core::RustOnC] {
        let from = folder(paths, core);
        let release = fs::read_to_string(from.join("release")).with_context(|| {
            format!(
                "no kernel in {}, which setup/built-in-kernel makes",
                from.display()
            )
        })?;
        let place = Path::new("lib/modules").join(release.trim());
        let to = base.join(&place);
        fs::create_dir_all(&to)?;
        fs::write(to.join("modules.order"), "")?;
        for name in ["modules.builtin", "modules.builtin.modinfo"] {
            fs::copy(from.join(name), to.join(name)).with_context(|| name.to_owned())?;
        }
        run(Command::new("depmod")
            .arg("-b")
            .arg(&base)
            .arg(release.trim()))?;
        for entry in fs::read_dir(&to)? {
            let path = entry?.path();
            archive.copy(&path, &path.strip_prefix(&base)?.to_string_lossy())?;
        }
    }
    Ok(())
}

/// Make the disk of a root with what an initramfs would have.
pub(crate) fn build(paths: &Paths, archive: &[u8], disk: &Path) -> Result<()> {
    let base = paths.run().join("built-in-root");
    fs::create_dir_all(&base)?;
    let mut unpack = Command::new("busybox")
        .args(["cpio", "-idm"])
        .current_dir(&base)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("busybox cpio")?;
    unpack
        .stdin
        .take()
        .context("its input")?
        .write_all(archive)?;
    let done = unpack.wait_with_output()?;
    ensure!(
        done.status.success(),
        "busybox cpio: {}",
        String::from_utf8_lossy(&done.stderr)
    );

    let (start, sectors) = PARTITION;
    let mut file = fs::File::create(disk)?;
    file.set_len(u64::from(start + sectors) << 9)?;
    let mut entry = vec![0, 0, 0, 0, 0x83, 0, 0, 0];
    entry.extend(start.to_le_bytes());
    entry.extend(sectors.to_le_bytes());
    for (at, bytes) in [
        (SIGNATURE.0, &SIGNATURE.1[..]),
        (TABLE, &entry),
        (0x1fe, &[0x55, 0xaa]),
    ] {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)?;
    }
    drop(file);
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-d"])
        .arg(&base)
        .arg("-E")
        .arg(format!("offset={}", u64::from(start) << 9))
        .arg(disk)
        .arg(format!("{}k", sectors / 2)))
}
