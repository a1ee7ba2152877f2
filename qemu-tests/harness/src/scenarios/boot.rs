// SPDX-License-Identifier: GPL-2.0

//! The core negotiates with the host, and device events load the driver.

use std::time::Duration;

use anyhow::Result;

use super::Context;
use crate::devices;
use crate::drivers::Core;
use crate::failure::{expect, unmet};

const BIND_TIMEOUT: Duration = Duration::from_secs(40);

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    if vm.core == Core::Rust {
        let before = vm.list("/sys/bus/vmbus")?;
        expect(
            before.is_empty(),
            "no /sys/bus/vmbus before modprobe",
            format!("{before:?}"),
        )?;
    }
    vm.load_core()?;
    devices::wait_for_balloon(vm, BIND_TIMEOUT)?;

    let modules = vm.read("/proc/modules")?;
    let module = vm.core.balloon_module();
    expect(
        modules.lines().any(|l| l.split(' ').next() == Some(module)),
        format!("module {module} loaded by its alias"),
        modules
            .lines()
            .map(|l| l.split(' ').next().unwrap_or(""))
            .collect::<Vec<_>>()
            .join(" "),
    )?;

    let version = negotiated_version(&vm.dmesg()?)
        .ok_or_else(|| unmet("the negotiated version in the kernel log", "no such line"))?;
    expect(version == "4.0", "version 4.0 negotiated", &version)?;

    // The host saw it too: the last version it was asked for.
    let asked = devices::host_contact(vm);
    expect(asked.is_some(), "a contact in the host's trace", "none")
}

/// The version in a line like `hv_vmbus: Vmbus version:4.0`.
pub(crate) fn negotiated_version(dmesg: &str) -> Option<String> {
    dmesg.lines().rev().find_map(|line| {
        let at = line.to_ascii_lowercase().find("vmbus version")?;
        let rest = line[at + "vmbus version".len()..].trim_start_matches([':', ' ']);
        let end = rest
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .unwrap_or(rest.len());
        (end > 0).then(|| rest[..end].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::negotiated_version;

    #[test]
    fn the_version_line_is_found() {
        let log = "[ 1.0] x\n[ 1.1] hv_vmbus: Vmbus version:4.0\n";
        assert_eq!(negotiated_version(log).as_deref(), Some("4.0"));
        let log = "[ 1.1] hv_vmbus_rust: VMBus version 5.3 negotiated\n";
        assert_eq!(negotiated_version(log).as_deref(), Some("5.3"));
        assert_eq!(negotiated_version("nothing"), None);
    }
}
