// SPDX-License-Identifier: GPL-2.0

//! Which way this machine can give a guest Hyper-V enlightenments.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{bail, Result};
use clap::ValueEnum;

/// How the guest under test runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// By this machine's KVM.
    Direct,
    /// By QEMU's emulator, which presents Hyper-V itself.
    Emulated,
    /// By the KVM of an emulated machine in between (level 1).
    Nested,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Emulated => "emulated",
            Self::Nested => "nested",
        })
    }
}

/// What KVM must be able to do for QEMU's VMBus.
const CAPABILITIES: [(&str, i32); 4] = [
    ("KVM_CAP_HYPERV_TIME", 96),
    ("KVM_CAP_HYPERV_SYNIC2", 148),
    ("KVM_CAP_HYPERV_VP_INDEX", 149),
    ("KVM_CAP_HYPERV_EVENTFD", 154),
];

nix::ioctl_write_int_bad!(
    /// `KVM_CHECK_EXTENSION`: 0 means that KVM cannot do it.
    kvm_check_extension,
    nix::request_code_none!(0xAE, 0x03)
);

/// Why this machine's KVM cannot run the guest directly; `None` if it looks fit.
pub(crate) fn direct_obstacle() -> Option<String> {
    let kvm = match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(kvm) => kvm,
        Err(e) => return Some(format!("/dev/kvm: {e}")),
    };
    for (name, number) in CAPABILITIES {
        // SAFETY: the descriptor is open, and this request takes and keeps no pointer.
        match unsafe { kvm_check_extension(kvm.as_raw_fd(), number) } {
            Ok(1..) => {}
            Ok(_) => return Some(format!("/dev/kvm has no {name}")),
            Err(e) => return Some(format!("/dev/kvm: {name}: {e}")),
        }
    }
    None
}

/// The level to use, with the reason; `forced` is what a person asked for.
pub(crate) fn choose(forced: Option<Level>) -> Result<(Level, String)> {
    decide(forced, direct_obstacle())
}

fn decide(forced: Option<Level>, obstacle: Option<String>) -> Result<(Level, String)> {
    match (forced, obstacle) {
        (Some(Level::Direct), Some(why)) => {
            bail!("LEVEL=direct is not possible here: {why}; LEVEL=emulated works without it")
        }
        (Some(level), _) => Ok((level, "as asked".into())),
        (None, Some(why)) => Ok((Level::Emulated, why)),
        (None, None) => Ok((Level::Direct, "/dev/kvm has Hyper-V support".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::{decide, Level};

    #[test]
    fn direct_needs_a_kvm_that_can() {
        let why = || Some("/dev/kvm has no KVM_CAP_HYPERV_TIME".to_owned());
        assert_eq!(decide(None, None).unwrap().0, Level::Direct);
        assert_eq!(decide(None, why()).unwrap().0, Level::Emulated);
        assert_eq!(decide(Some(Level::Nested), why()).unwrap().0, Level::Nested);
        let refusal = decide(Some(Level::Direct), why()).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "LEVEL=direct is not possible here: /dev/kvm has no KVM_CAP_HYPERV_TIME; \
             LEVEL=emulated works without it"
        );
    }
}
