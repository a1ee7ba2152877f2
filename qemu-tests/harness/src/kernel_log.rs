// SPDX-License-Identifier: GPL-2.0

//! What the guest's kernel log says about the VMBus drivers.

use anyhow::Result;

use crate::failure::expect;
use crate::vm::Vm;

/// Fails when a driver warned of something: one that came up although the host did not answer in
/// time says so there, and only there.
pub(crate) fn expect_no_complaint(vm: &Vm) -> Result<()> {
    let log = vm.raw_dmesg()?;
    let complaints = complaints(&log);
    expect(
        complaints.is_empty(),
        "no warning or error of a VMBus driver in the kernel log",
        complaints.join("; "),
    )
}

/// What the VMBus drivers said at level warning or worse, of a log with `<level>` in front of each
/// line. That the modules are not the distribution's is no complaint of theirs.
fn complaints(raw_log: &str) -> Vec<&str> {
    const WARNING: u32 = 4;
    raw_log
        .lines()
        .filter(|line| {
            let level = line
                .strip_prefix('<')
                .and_then(|rest| rest.split_once('>'))
                .and_then(|(level, _)| level.parse::<u32>().ok());
            level.is_some_and(|level| level % 8 <= WARNING)
        })
        .filter(|line| line.contains("hv_") && !line.contains("taint"))
        .collect()
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
    use super::{complaints, negotiated_version};

    #[test]
    fn only_warnings_of_the_drivers_are_complaints() {
        let log = "<6>[ 1.0] hv_vmbus_rust: Vmbus version:4.0\n\
                   <4>[ 1.1] hv_vmbus_rust: loading out-of-tree module taints kernel.\n\
                   <4>[ 1.2] hpet: Lost 2 RTC interrupts\n\
                   <12>[ 1.3] hv_vmbus_rust: no offers\n";
        assert_eq!(complaints(log), ["<12>[ 1.3] hv_vmbus_rust: no offers"]);
    }

    #[test]
    fn the_version_line_is_found() {
        let log = "[ 1.0] x\n[ 1.1] hv_vmbus: Vmbus version:4.0\n";
        assert_eq!(negotiated_version(log).as_deref(), Some("4.0"));
        let log = "[ 1.1] hv_vmbus_rust: VMBus version 5.3 negotiated\n";
        assert_eq!(negotiated_version(log).as_deref(), Some("5.3"));
        assert_eq!(negotiated_version("nothing"), None);
    }
}
