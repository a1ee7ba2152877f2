// SPDX-License-Identifier: GPL-2.0

//! The images: initramfs of the guests under test and of level 1, and a root disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use vmbus_guest::level1::MODULE_LIST;
use vmbus_guest::protocol::SCRIPT;

use crate::cpio::Archive;
use crate::drivers::Core;
use crate::machine::Initramfs;
use crate::net::IP;
use crate::paths::Paths;
use crate::{built_in, installed, programs, root_disk, slim_fio, vmlinux};

/// Modules in the guest: ours, and the C drivers for the same devices, so that they
/// are the reference and autoloading has something to choose from.
const GUEST_MODULES: [&str; 16] = [
    "hv_vmbus_rust",
    "hv_balloon_rust",
    "hv_storvsc_rust",
    "hv_example_rust",
    "hv_vmbus_rust_on_c",
    "hv_balloon_rust_on_c",
    "hv_storvsc_rust_on_c",
    "hv_example_rust_on_c",
    "hv_balloon",
    "hv_utils",
    "hyperv-keyboard",
    "hv_storvsc",
    "sd_mod",
    "sr_mod",
    "sg",
    "ext4",
];

/// Modules that not every kernel has as modules; the scripts of races come by `qemu_fw_cfg`.
const OPTIONAL_MODULES: [&str; 2] = ["msr", "qemu_fw_cfg"];

/// Modules in guests with tools and in those for people besides, for networks.
const NET_MODULES: [&str; 10] = [
    "hv_netvsc_rust",
    "hv_netvsc_rust_on_c",
    "hv_netvsc",
    "8021q",
    "e1000e",
    "bridge",
    "macvlan",
    "netconsole",
    "nf_tables",
    "veth",
];

/// What the kernel's own tests put on top of an adapter, besides.
const SELFTEST_MODULES: [&str; 17] = [
    "act_mirred",
    "act_skbedit",
    "cls_bpf",
    "cls_flower",
    "cls_fw",
    "cls_matchall",
    "configfs",
    "dummy",
    "ip6_gre",
    "ip_gre",
    "macsec",
    "pppoe",
    "sch_etf",
    "sch_fq",
    "sch_ingress",
    "sch_prio",
    "vxlan",
];

/// What a guest needs of them to mount a root, besides the driver under test.
const ROOT_MODULES: [&str; 2] = ["sd_mod", "ext4"];

/// What is measured, and what it is compared with.
const MEASURED_MODULES: [&str; 13] = [
    "hv_vmbus_rust",
    "hv_balloon_rust",
    "hv_balloon_rust_on_c",
    "hv_balloon",
    "hv_storvsc_rust",
    "hv_vmbus_rust_on_c",
    "hv_storvsc_rust_on_c",
    "hv_storvsc",
    "ata_piix",
    "ahci",
    "virtio_scsi",
    "sd_mod",
    FLOOR,
];

/// The same for networks; `dummy` and `veth` are their floor.
const MEASURED_NET_MODULES: [&str; 8] = [
    "hv_netvsc_rust",
    "hv_netvsc_rust_on_c",
    "hv_netvsc",
    "e1000e",
    "virtio_net",
    "pktgen",
    "dummy",
    "veth",
];

/// How the names of our modules on the C core end.
const ON_C: &str = "_on_c";

/// The module of `qemu-tests/floor`.
const FLOOR: &str = "vmbus_floor";

/// Programs for guests with disks, besides fio.
const DISK_TOOLS: [&str; 5] = [
    "/usr/sbin/mkfs.ext4",
    "/usr/sbin/e2fsck",
    "/usr/sbin/sfdisk",
    "/usr/bin/sg_reset",
    "/usr/bin/sg_raw",
];

/// Programs for guests with networks.
const NET_TOOLS: [&str; 10] = [
    "/usr/bin/curl",
    "/usr/bin/dbclient",
    "/usr/bin/dropbearkey",
    "/usr/bin/iperf3",
    "/usr/bin/ping",
    "/usr/bin/tcpdump",
    "/usr/sbin/dropbear",
    "/usr/sbin/ethtool",
    IP,
    "/usr/sbin/nft",
];

/// Programs of the kernel's own tests, from the folder that they are in or from the root.
const SELFTEST_TOOLS: [&str; 5] = [
    PYTHON,
    "/usr/bin/bash",
    "/usr/bin/socat",
    "/usr/sbin/bpftool",
    "/usr/sbin/tc",
];
const PYTHON: &str = "/usr/bin/python3";
/// Where XDP programs are in guests with networks.
pub(crate) const XDP: &str = "/usr/lib/xdp";

/// A library that no program is linked with.
const LIBGCC: &str = "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1";

/// Modules that level 1 loads, with what they depend on.
const LEVEL1_MODULES: [&str; 3] = ["9pnet_virtio", "9p", "kvm-amd"];

/// In the initramfs: the crash kernel, and its own initramfs.
pub(crate) const CRASH_KERNEL: &str = "/crash/kernel";
/// See [`CRASH_KERNEL`].
pub(crate) const CRASH_INITRAMFS: &str = "/crash/initramfs";

/// The images of one run.
pub(crate) struct Images {
    /// The guest's kernel.
    pub(crate) kernel: PathBuf,
    /// The same for guests whose CPUs are slow at unpacking it: unpacked, if it can be started like this.
    pub(crate) unpacked_kernel: PathBuf,
    /// Level 1's kernel, always the stock one.
    pub(crate) level1_kernel: PathBuf,
    /// Level 1.
    pub(crate) level1: PathBuf,
    /// A disk with a Debian root.
    pub(crate) root_disk: PathBuf,
    /// The one for people.
    pub(crate) reached_disk: PathBuf,
    /// That of the installed machine.
    pub(crate) installed_disk: PathBuf,
    /// The root of kernels with the drivers built in.
    pub(crate) built_in_disk: PathBuf,
    folder: PathBuf,
    added: Vec<Initramfs>,
}

impl Images {
    /// None of them is there yet but the kernels; see [`Self::add`].
    pub(crate) fn new(paths: &Paths) -> Result<Self> {
        let tested = Kernel::open(&paths.guest_kernel)?;
        let unpacked_kernel = unpacked(paths, &tested)?;
        Ok(Self {
            unpacked_kernel,
            ..Self::in_folder(paths.run(), tested.image, paths.kernel.join("vmlinuz"))
        })
    }

    /// Where they are.
    pub(crate) fn in_folder(folder: &Path, kernel: PathBuf, level1_kernel: PathBuf) -> Self {
        Self {
            unpacked_kernel: kernel.clone(),
            kernel,
            level1_kernel,
            level1: folder.join("level1.cpio"),
            root_disk: folder.join("root-disk.img"),
            reached_disk: folder.join("reached-root-disk.img"),
            installed_disk: folder.join("installed-disk.img"),
            built_in_disk: folder.join("built-in-disk.img"),
            folder: folder.to_owned(),
            added: Vec::new(),
        }
    }

    /// Build what level 1 needs, if it is not there yet.
    pub(crate) fn add_level1(&mut self, paths: &Paths) -> Result<()> {
        if !self.level1.exists() {
            let level1 = level1(paths, &Kernel::open(&paths.kernel)?)?;
            fs::write(&self.level1, level1)?;
        }
        Ok(())
    }

    /// Build what guests of this kind need, if it is not there yet.
    pub(crate) fn add(&mut self, kind: Initramfs, paths: &Paths) -> Result<()> {
        if self.added.contains(&kind) {
            return Ok(());
        }
        let tested = Kernel::open(&paths.guest_kernel)?;
        match kind {
            Initramfs::FindRoot | Initramfs::CrashKernel => self.add_alone(kind, paths, &tested)?,
            Initramfs::BuiltIn => {
                let mut root = programs_of_guest(paths)?;
                add_tools(&mut root, paths)?;
                built_in::add_lists(paths, &mut root)?;
                built_in::build(paths, &root.finish(), &self.built_in_disk)?;
            }
            Initramfs::Installed => {
                installed::build(paths, &self.installed_disk, &self.folder)?;
            }
            _ => {
                let guest = both_cores(kind, paths, &tested)?.finish();
                fs::write(self.initramfs(kind, Core::C), guest)?;
            }
        }
        match kind {
            Initramfs::FindRoot => root_disk::build(paths, &self.root_disk)?,
            Initramfs::Reached => {
                let modules = module_tree(paths).join("lib/modules");
                root_disk::build_reached(paths, &self.reached_disk, &modules)?;
            }
            _ => {}
        }
        self.added.push(kind);
        Ok(())
    }

    /// Those with one set of drivers, and what it takes to find a root; with a crash kernel, a network, too.
    fn add_alone(&self, kind: Initramfs, paths: &Paths, tested: &Kernel) -> Result<()> {
        for core in Core::ALL {
            let mut drivers = [&ROOT_MODULES[..], core.storage_drivers()].concat();
            if kind == Initramfs::CrashKernel {
                drivers.push(core.net_module());
            }
            let mut guest = guest(paths, tested, &drivers)?;
            if kind == Initramfs::CrashKernel {
                add_program(&mut guest, paths, IP)?;
            }
            let mut guest = guest.finish();
            if kind == Initramfs::CrashKernel {
                let mut archive = Archive::default();
                archive.copy(&self.kernel, CRASH_KERNEL)?;
                archive.file(CRASH_INITRAMFS, 0o644, &guest);
                guest.extend(archive.finish());
            }
            fs::write(self.initramfs(kind, core), guest)?;
        }
        Ok(())
    }

    /// What a guest of this kind starts with when it has a script to begin with.
    pub(crate) fn with_script(&self, kind: Initramfs, core: Core, script: &str) -> Result<PathBuf> {
        let mut archive = Archive::default();
        archive.file(SCRIPT, 0o644, script.as_bytes());
        let both = [fs::read(self.initramfs(kind, core))?, archive.finish()].concat();
        let path = self.folder.join("script-guest.cpio");
        fs::write(&path, both)?;
        Ok(path)
    }

    /// The firmware, its variables or its disk.
    pub(crate) fn firmware(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What a guest of this kind starts with.
    pub(crate) fn initramfs(&self, kind: Initramfs, core: Core) -> PathBuf {
        self.folder.join(match (kind, core) {
            (Initramfs::Drivers, _) => "guest.cpio",
            (Initramfs::Tools, _) => "tools-guest.cpio",
            (Initramfs::Selftests, _) => "selftests-guest.cpio",
            (Initramfs::Measure, _) => "measured-guest.cpio",
            (Initramfs::MeasureNet, _) => "measured-net-guest.cpio",
            (Initramfs::Reached, _) => "reached-guest.cpio",
            // on the firmware's disk, and none at all
            (Initramfs::Installed | Initramfs::BuiltIn, _) => "no-initramfs",
            (Initramfs::FindRoot, Core::C) => "root-guest-c.cpio",
            (Initramfs::FindRoot, Core::Rust) => "root-guest-rust.cpio",
            (Initramfs::FindRoot, Core::RustOnC) => "root-guest-rust-on-c.cpio",
            (Initramfs::CrashKernel, Core::C) => "crash-guest-c.cpio",
            (Initramfs::CrashKernel, Core::Rust) => "crash-guest-rust.cpio",
            (Initramfs::CrashKernel, Core::RustOnC) => "crash-guest-rust-on-c.cpio",
        })
    }
}

/// A kernel and its modules.
struct Kernel {
    release: String,
    image: PathBuf,
    /// Of its modules.
    folder: PathBuf,
    /// Module name to its file and those it depends on, all relative.
    modules: BTreeMap<String, (String, Vec<String>)>,
}

impl Kernel {
    fn open(kernel: &Path) -> Result<Self> {
        let release = fs::read_to_string(kernel.join("release"))
            .context("the kernel in the cache is not complete")?
            .trim()
            .to_owned();
        let folder = kernel.join("modules/lib/modules").join(&release);
        let dep = fs::read_to_string(folder.join("modules.dep")).context("modules.dep")?;
        let mut modules = BTreeMap::new();
        for line in dep.lines() {
            let Some((file, needs)) = line.split_once(':') else {
                continue;
            };
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            modules.insert(module_name(file), (file.to_owned(), needs));
        }
        Ok(Self {
            release,
            image: kernel.join("vmlinuz"),
            folder,
            modules,
        })
    }

    fn has(&self, module: &str) -> bool {
        self.modules.contains_key(module)
    }

    /// Files of these modules, each after those it depends on.
    fn in_order(&self, names: &[&str]) -> Result<Vec<String>> {
        let mut order: Vec<String> = Vec::new();
        for name in names {
            let (file, needs) = self
                .modules
                .get(*name)
                .with_context(|| format!("the kernel has no module {name}"))?;
            // modules.dep lists the nearest dependency first
            for f in needs.iter().rev().chain([file]) {
                if !order.contains(f) {
                    order.push(f.clone());
                }
            }
        }
        Ok(order)
    }

    /// A module file, unpacked.
    fn contents(&self, file: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(file);
        if !file.ends_with(".xz") {
            return fs::read(&path).with_context(|| path.display().to_string());
        }
        let out = Command::new("xz")
            .arg("-dc")
            .arg(&path)
            .output()
            .context("xz")?;
        if !out.status.success() {
            bail!(
                "xz -dc {}: {}",
                path.display(),
                String::from_utf8_lossy(&out.stderr)
            );
        }
        Ok(out.stdout)
    }
}

/// The kernel unpacked, made anew if it is another one than last time; as it is, if it cannot be
/// started unpacked.
fn unpacked(paths: &Paths, kernel: &Kernel) -> Result<PathBuf> {
    let config = paths.guest_kernel.join("build/.config");
    if !fs::read_to_string(config).is_ok_and(|c| vmlinux::can_start_unpacked(&c)) {
        return Ok(kernel.image.clone());
    }
    let to = paths.build.join(format!("vmlinux-{}", kernel.release));
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified());
    let current = modified(&to).is_ok_and(|to| modified(&kernel.image).is_ok_and(|from| from < to));
    if !current {
        let new = paths.run().join("vmlinux");
        vmlinux::unpack(&kernel.image, &new)?;
        fs::rename(new, &to)?;
    }
    Ok(to)
}

fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).to_owned()
}

/// A program by its path in Debian, which is also its path in the guest, and its libraries.
fn add_program(archive: &mut Archive, paths: &Paths, program: &str) -> Result<()> {
    for file in programs::with_libraries(&paths.guest_tools, program)? {
        archive.copy(&file.from, &file.to.to_string_lossy())?;
    }
    Ok(())
}

fn guest(paths: &Paths, kernel: &Kernel, modules: &[&str]) -> Result<Archive> {
    let mut archive = programs_of_guest(paths)?;
    add_guest_modules(&mut archive, paths, kernel, modules)?;
    Ok(archive)
}

fn programs_of_guest(paths: &Paths) -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "tmp", "run", "etc/modprobe.d"] {
        archive.folder(folder);
    }
    archive.copy(&paths.guest_program, "/init")?;
    archive.link("/bin/verify-load", "/init");
    archive.link("/bin/verify-stream", "/init");
    archive.link("/bin/fragment", "/init");
    archive.copy(Path::new("/usr/bin/busybox"), "/bin/busybox")?;
    let applets = Command::new("/usr/bin/busybox")
        .arg("--list")
        .output()
        .context("busybox")?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines() {
        if ![
            "modprobe", "rmmod", "insmod", "lsmod", "modinfo", "depmod", "busybox",
        ]
        .contains(&applet)
        {
            archive.link(&format!("/bin/{applet}"), "/bin/busybox");
        }
    }
    add_program(&mut archive, paths, "/usr/bin/kmod")?;
    for name in ["modprobe", "rmmod", "insmod", "lsmod", "modinfo"] {
        archive.link(&format!("/sbin/{name}"), "/usr/bin/kmod");
    }
    Ok(archive)
}

/// An initramfs with all sets of drivers.
fn both_cores(kind: Initramfs, paths: &Paths, kernel: &Kernel) -> Result<Archive> {
    let modules: &[&[&str]] = match kind {
        Initramfs::Measure => &[&MEASURED_MODULES],
        Initramfs::MeasureNet => &[&MEASURED_MODULES, &MEASURED_NET_MODULES],
        Initramfs::Selftests => &[&GUEST_MODULES, &NET_MODULES, &SELFTEST_MODULES],
        Initramfs::Reached | Initramfs::Tools => &[&GUEST_MODULES, &NET_MODULES],
        Initramfs::Drivers
        | Initramfs::FindRoot
        | Initramfs::CrashKernel
        | Initramfs::Installed
        | Initramfs::BuiltIn => &[&GUEST_MODULES],
    };
    let mut modules = modules.concat();
    if matches!(kind, Initramfs::Drivers | Initramfs::Tools) {
        modules.extend(OPTIONAL_MODULES.iter().filter(|name| kernel.has(name)));
    }
    let mut guest = guest(paths, kernel, &modules)?;
    match kind {
        Initramfs::Tools => add_tools(&mut guest, paths)?,
        Initramfs::Selftests => {
            add_tools(&mut guest, paths)?;
            add_selftests(&mut guest, paths)?;
        }
        Initramfs::MeasureNet => add_program(&mut guest, paths, IP)?,
        _ => {}
    }
    Ok(guest)
}

/// The XDP programs.
fn add_xdp(archive: &mut Archive, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        archive.copy(
            &entry.path(),
            &format!("{XDP}/{}", entry.file_name().to_string_lossy()),
        )?;
    }
    Ok(())
}

fn add_tools(archive: &mut Archive, paths: &Paths) -> Result<()> {
    slim_fio::add(archive, &paths.build, paths.run())?;
    for program in DISK_TOOLS.iter().chain(&NET_TOOLS) {
        add_program(archive, paths, program)?;
    }
    archive.copy(Path::new("/etc/mke2fs.conf"), "/etc/mke2fs.conf")?;
    // loaded by iperf3 when it ends its threads
    archive.copy(Path::new(LIBGCC), LIBGCC)?;
    add_xdp(archive, &paths.xdp)
}

/// The kernel's own tests, and what they need.
fn add_selftests(archive: &mut Archive, paths: &Paths) -> Result<()> {
    let folder = &paths.selftests;
    for program in SELFTEST_TOOLS {
        for file in programs::with_libraries(folder, program)? {
            archive.copy(&file.from, &file.to.to_string_lossy())?;
        }
    }
    add_folder(archive, folder, folder)
}

/// Where the last module tree that was put together is.
fn module_tree(paths: &Paths) -> PathBuf {
    paths.run().join("guest-modules")
}

/// The module tree, put together in a folder so that depmod sees it.
fn add_guest_modules(
    archive: &mut Archive,
    paths: &Paths,
    kernel: &Kernel,
    names: &[&str],
) -> Result<()> {
    let base = module_tree(paths);
    if base.exists() {
        fs::remove_dir_all(&base)?;
    }
    let place = Path::new("lib/modules").join(&kernel.release);
    let (ours, theirs): (Vec<&str>, Vec<&str>) = names
        .iter()
        .partition(|name| is_ours(name) || **name == FLOOR);
    for file in kernel.in_order(&theirs)? {
        let to = base.join(&place).join(file.trim_end_matches(".xz"));
        fs::create_dir_all(to.parent().context("a module has a folder")?)?;
        fs::write(to, kernel.contents(&file)?)?;
    }
    let updates = base.join(&place).join("updates");
    fs::create_dir_all(&updates)?;
    for name in ours {
        let file = format!("{name}.ko");
        let from = match name {
            FLOOR => paths.build.join("floor").join(&file),
            name if name.ends_with(ON_C) => paths.modules.join("on-c").join(&file),
            _ => paths.modules.join(&file),
        };
        // Without, the C drivers can be tested.
        if from.exists() {
            fs::copy(from, updates.join(file))?;
        }
    }
    let done = Command::new("depmod")
        .arg("-b")
        .arg(&base)
        .arg(&kernel.release)
        .output()?;
    if !done.status.success() {
        bail!("depmod: {}", String::from_utf8_lossy(&done.stderr));
    }
    add_folder(archive, &base, &base)
}

fn is_ours(module: &str) -> bool {
    module.trim_end_matches(ON_C).ends_with("_rust")
}

fn add_folder(archive: &mut Archive, base: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            add_folder(archive, base, &path)?;
        } else {
            archive.copy(&path, &path.strip_prefix(base)?.to_string_lossy())?;
        }
    }
    Ok(())
}

fn level1(paths: &Paths, kernel: &Kernel) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["host", "proc", "sys", "dev"] {
        archive.folder(folder);
    }
    archive.copy(&paths.guest_program, "/level1")?;
    let mut list = String::new();
    for file in kernel.in_order(&LEVEL1_MODULES)? {
        let path = format!("/modules/{}.ko", module_name(&file));
        archive.file(&path, 0o644, &kernel.contents(&file)?);
        list += &path;
        list.push('\n');
    }
    archive.file(MODULE_LIST, 0o644, list.as_bytes());
    Ok(archive.finish())
}
