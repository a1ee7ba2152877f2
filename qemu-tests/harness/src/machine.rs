// SPDX-License-Identifier: GPL-2.0

//! The kinds of guest: what hardware a scenario's guest has.

use vmbus_guest::protocol::NewFile;

/// The hv-balloon device's instance, fixed so that lists can be compared.
pub(crate) const BALLOON_INSTANCE: &str = "6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11";

/// Stands in arguments for the folder with the machine's files.
pub(crate) const FOLDER: &str = "@";

/// Whose QEMU is the guest's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qemu {
    /// Debian's, as it is.
    Packaged,
    /// The one with the patches of `qemu-tests/qemu`.
    Patched,
}

/// A file that the machine's QEMU uses: a text, or a disk that begins with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it says.
    pub(crate) text: &'static str,
    /// Its size, if it is a disk.
    pub(crate) mib: u64,
}

/// A disk of zeroes.
pub(crate) const fn disk(name: &'static str, mib: u64) -> File {
    File {
        name,
        text: "",
        mib,
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
    /// Whether it has the programs for disks.
    pub(crate) disk_tools: bool,
    /// More words for the kernel's command line.
    pub(crate) kernel_arguments: &'static str,
    /// Files for its devices.
    pub(crate) files: &'static [File],
    /// Its devices, as arguments of QEMU, several in one text; [`FOLDER`] is the folder of the files.
    pub(crate) devices: &'static [&'static str],
}

impl Machine {
    /// The balloon on the packaged QEMU.
    pub(crate) const BALLOON: Self = Self {
        name: "balloon",
        qemu: Qemu::Packaged,
        cpus: 2,
        disk_tools: false,
        kernel_arguments: "",
        files: &[],
        devices: &[
            "-device vmbus-bridge",
            "-device hv-balloon,id=balloon,status-report=on,instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11",
        ],
    };

    /// The arguments of its devices, with its files in this folder.
    pub(crate) fn device_arguments(&self, folder: &str) -> Vec<String> {
        self.devices
            .iter()
            .flat_map(|text| text.split_whitespace())
            .map(|word| word.replace(FOLDER, folder))
            .collect()
    }

    /// Its files, for the agent.
    pub(crate) fn new_files(&self) -> Vec<NewFile> {
        self.files
            .iter()
            .map(|f| NewFile {
                name: f.name.into(),
                text: f.text.into(),
                size: f.mib << 20,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Machine, BALLOON_INSTANCE};

    #[test]
    fn devices_become_words() {
        let words = Machine::BALLOON.device_arguments("/x");
        assert_eq!(words[..3], ["-device", "vmbus-bridge", "-device"]);
        assert!(words[3].ends_with(BALLOON_INSTANCE));
    }
}
