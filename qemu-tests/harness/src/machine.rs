// SPDX-License-Identifier: GPL-2.0

//! The kinds of guest: what hardware a scenario's guest has.

use std::fmt::Write as _;

use clap::ValueEnum;
use vmbus_guest::protocol::NewFile;

use crate::drivers::Core;
use crate::image::Images;

/// The hv-balloon device's instance, fixed so that lists can be compared.
pub(crate) const BALLOON_INSTANCE: &str = "6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11";

/// The device with [`BALLOON_INSTANCE`].
const REPORTING_BALLOON: &str = "-device hv-balloon,id=balloon,status-report=on,\
                                 instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11";

/// What the host of [`Machine::HOT_ADD`] can add, in bytes.
pub(crate) const ADDABLE: u64 = 1 << 30;

/// Stands in arguments for the folder with the machine's files.
pub(crate) const FOLDER: &str = "@";

/// The newest version of the protocol that a host speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum BusVersion {
    /// As QEMU has it.
    #[value(name = "4.0")]
    V4_0,
    /// As the patched QEMU has it.
    #[value(name = "5.3")]
    V5_3,
}

impl std::fmt::Display for BusVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4_0 => "4.0",
            Self::V5_3 => "5.3",
        })
    }
}

/// Whose QEMU is the guest's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qemu {
    /// Debian's, as it is.
    Packaged,
    /// The one with the patches of `qemu-tests/qemu`.
    Patched,
}

/// What the guest starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Initramfs {
    /// Both sets of drivers.
    Drivers,
    /// [`Self::Drivers`], drivers of networks, and programs for disks and networks.
    Tools,
    /// [`Self::Tools`], the kernel's own tests of network drivers, and what they need.
    Selftests,
    /// What it takes to find a root on a disk of VMBus, with one set of drivers.
    FindRoot,
    /// The same and the driver of networks, with a crash kernel whose initramfs is the same too.
    CrashKernel,
    /// Drivers of disks and networks; the root for people is on a disk.
    Reached,
    /// What is measured: drivers of disks, of VMBus and others, the balloon's, and the floor.
    Measure,
    /// What Debian's own tools have made on the installed machine, whose root is on a disk. The firmware's disk has it.
    Installed,
    /// [`Self::Measure`], and drivers of networks, the generator of frames and a program to set them up.
    MeasureNet,
    /// Nothing: the drivers are in a kernel of its own, and what [`Self::Tools`] has is on a disk.
    BuiltIn,
}

/// What a file is at the beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// A text.
    Text(&'static str),
    /// A copy of the disk with a Debian root.
    Root,
    /// A copy of the disk with the root for people.
    Reached,
    /// A copy of the disk of the installed machine.
    Installed,
    /// A copy of the root of a kernel with the drivers built in.
    BuiltIn,
    /// A copy of the file of this name that [`crate::firmware`] has made.
    Firmware,
}

/// A file that the machine's QEMU uses: a text, or a disk that begins with something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it begins with.
    pub(crate) contents: Contents,
    /// Its size, if it is a disk that is longer than that.
    pub(crate) mib: u64,
}

/// A disk of zeroes.
pub(crate) const fn disk(name: &'static str, mib: u64) -> File {
    File {
        name,
        contents: Contents::Text(""),
        mib,
    }
}

/// A file with a text.
pub(crate) const fn text(name: &'static str, text: &'static str) -> File {
    File {
        name,
        contents: Contents::Text(text),
        mib: 0,
    }
}

/// A kind of guest. Scenarios that name the same one may share a guest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// For logs.
    pub(crate) name: &'static str,
    /// Its host.
    pub(crate) qemu: Qemu,
    /// Its CPUs.
    pub(crate) cpus: u32,
    /// What it starts with.
    pub(crate) initramfs: Initramfs,
    /// More words for the kernel's command line.
    pub(crate) kernel_arguments: &'static str,
    /// Parameters of modules, `module.parameter=value`, as a kernel's command line has them.
    pub(crate) module_parameters: &'static str,
    /// Files for its devices.
    pub(crate) files: &'static [File],
    /// Its devices, as arguments of QEMU, several in one text; [`FOLDER`] is the folder of the files.
    pub(crate) devices: &'static [&'static str],
}

impl Machine {
    /// A balloon on the packaged QEMU: a host that this project has not touched.
    pub(crate) const PACKAGED: Self = Self {
        name: "packaged",
        qemu: Qemu::Packaged,
        devices: &["-device vmbus-bridge", REPORTING_BALLOON],
        ..Self::BALLOON
    };

    /// A balloon that takes and gives memory, on a bus that speaks the packaged QEMU's protocol. It
    /// need not wait 50 s after each handshake, nor need the drivers wait 45 s with their first report.
    pub(crate) const BALLOON: Self = Self {
        name: "balloon",
        qemu: Qemu::Patched,
        cpus: 2,
        initramfs: Initramfs::Drivers,
        kernel_arguments: "",
        module_parameters:
            "hv_balloon.pressure_report_delay=5 hv_balloon_rust.pressure_report_delay=5",
        files: &[],
        devices: &[
            "-device vmbus-bridge,max-version=4.0",
            REPORTING_BALLOON,
            "-global hv-balloon.post-init-wait-ms=2000",
        ],
    };

    /// [`Self::BALLOON`] whose host has [`ADDABLE`] more memory for the guest. The device begins at a
    /// multiple of 32 GiB, which takes so much room for addresses.
    pub(crate) const HOT_ADD: Self = Self {
        name: "hot-add",
        devices: &[
            "-m slots=1,maxmem=67G",
            "-object memory-backend-ram,id=added,size=1G",
            "-device vmbus-bridge,max-version=4.0",
            "-device hv-balloon,id=balloon,status-report=on,memdev=added,\
             instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11",
            "-global hv-balloon.post-init-wait-ms=2000",
        ],
        ..Self::BALLOON
    };

    /// [`Self::BALLOON`] whose host takes hints about free memory, in blocks of 2 MiB.
    pub(crate) const PAGE_REPORTING: Self = Self {
        name: "page-reporting",
        devices: &[
            "-device vmbus-bridge,max-version=4.0",
            REPORTING_BALLOON,
            "-global hv-balloon.post-init-wait-ms=2000",
            "-global hv-balloon.cold-discard=on",
            "-global hv-balloon.cold-discard-large-only=on",
        ],
        ..Self::BALLOON
    };

    /// [`Self::BALLOON`] in a machine that can hibernate.
    pub(crate) const HIBERNATION: Self = Self {
        name: "hibernation",
        devices: &[
            "-global ICH9-LPC.disable_s4=0",
            "-device vmbus-bridge,max-version=4.0",
            REPORTING_BALLOON,
            "-global hv-balloon.post-init-wait-ms=2000",
        ],
        ..Self::BALLOON
    };

    /// [`Self::BALLOON`] whose host asks for memory twice.
    pub(crate) const BALLOON_TWICE: Self = Self {
        name: "balloon-twice",
        // Once; and 0.5 s after that, a return of frame 0x40000, which it was not given.
        files: &[text(
            "twice",
            "on send op=0x00100006 nth=1 do dup ; \
             inject 6 0 080018000100000000000000010000000000040000010000 500\n",
        )],
        devices: &[
            "-device vmbus-bridge,max-version=4.0",
            "-device hv-balloon,id=balloon,status-report=on,fault-script=@/twice,\
             instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11",
            "-global hv-balloon.post-init-wait-ms=2000",
        ],
        ..Self::BALLOON
    };

    /// The arguments of its devices, with its files in this folder; quotes hold a word together as in
    /// a shell.
    pub(crate) fn device_arguments(&self, folder: &str) -> Vec<String> {
        self.devices
            .iter()
            .flat_map(|text| shlex::Shlex::new(text))
            .map(|word| word.replace(FOLDER, folder))
            .collect()
    }

    /// What a kernel is told of the parameters of drivers that are built in.
    pub(crate) fn built_in_settings(&self, core: Core) -> String {
        let words = self.module_parameters.split_whitespace();
        let settings = words.map(|word| match (core, word.split_once("_rust.")) {
            (Core::RustOnC, Some((module, setting))) => format!("{module}_rust_on_c.{setting}"),
            _ => word.to_owned(),
        });
        settings.collect::<Vec<_>>().join(" ")
    }

    /// What `modprobe` is told of the parameters.
    pub(crate) fn modprobe_settings(&self) -> String {
        let mut settings = String::new();
        let words = self.module_parameters.split_whitespace();
        for (module, setting) in words.filter_map(|word| word.split_once('.')) {
            let _ = writeln!(settings, "options {module} {setting}");
            // the same driver on the other core
            if module.ends_with("_rust") {
                let _ = writeln!(settings, "options {module}_on_c {setting}");
            }
        }
        settings
    }

    /// Its files, for the agent.
    pub(crate) fn new_files(&self, images: &Images) -> Vec<NewFile> {
        self.files
            .iter()
            .map(|f| {
                let (from, text) = match f.contents {
                    Contents::Root => (Some(images.root_disk.clone()), ""),
                    Contents::Reached => (Some(images.reached_disk.clone()), ""),
                    Contents::Installed => (Some(images.installed_disk.clone()), ""),
                    Contents::BuiltIn => (Some(images.built_in_disk.clone()), ""),
                    Contents::Firmware => (Some(images.firmware(f.name)), ""),
                    Contents::Text(text) => (None, text),
                };
                NewFile {
                    name: f.name.into(),
                    from: from.map(|path| path.to_string_lossy().into_owned()),
                    text: text.into(),
                    size: f.mib << 20,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Machine, BALLOON_INSTANCE};
    use crate::drivers::Core;
    use crate::image::Images;
    use crate::storage::{CD_TEXT, MACHINE, ROOT};

    #[test]
    fn files_begin_with_texts_or_the_root_disk() {
        let images = Images::in_folder("/build".as_ref(), "/vmlinuz".into(), "/vmlinuz".into());
        let files = MACHINE.new_files(&images);
        let cd = files.iter().find(|f| f.name == "cd").unwrap();
        assert_eq!((cd.text.as_str(), &cd.from), (CD_TEXT, &None));
        let files = ROOT.new_files(&images);
        assert_eq!(files[0].from.as_deref(), Some("/build/root-disk.img"));
    }

    #[test]
    fn parameters_become_settings() {
        let settings = Machine::BALLOON.modprobe_settings();
        let modules: Vec<_> = settings.split_whitespace().skip(1).step_by(3).collect();
        assert_eq!(
            modules,
            ["hv_balloon", "hv_balloon_rust", "hv_balloon_rust_on_c"]
        );
        assert!(settings.starts_with("options hv_balloon pressure_report_delay=5\n"));
    }

    #[test]
    fn parameters_become_words_for_a_kernel() {
        let words = crate::built_in::MACHINE.built_in_settings(Core::Rust);
        assert!(words.starts_with("hv_balloon_rust.pressure_report_delay=5 hv_storvsc_rust."));
        let words = crate::built_in::MACHINE.built_in_settings(Core::RustOnC);
        assert!(
            words.starts_with("hv_balloon_rust_on_c.pressure_report_delay=5 hv_storvsc_rust_on_c.")
        );
    }

    #[test]
    fn devices_become_words() {
        let words = Machine::PACKAGED.device_arguments("/x");
        assert_eq!(words[..3], ["-device", "vmbus-bridge", "-device"]);
        assert!(words[3].ends_with(BALLOON_INSTANCE));
        let quoted = Machine {
            devices: &["-netdev 'user,x=sh @/y'"],
            ..Machine::PACKAGED
        };
        assert_eq!(quoted.device_arguments("/x"), ["-netdev", "user,x=sh /x/y"]);
    }
}
