// SPDX-License-Identifier: GPL-2.0

//! sysfs shows the host's devices, the same under both cores.

use std::sync::PoisonError;

use anyhow::Result;

use super::Context;
use crate::devices::{self, Device, ATTRIBUTES, DYNAMIC_MEMORY};
use crate::drivers::Core;
use crate::failure::expect;
use crate::machine::BALLOON_INSTANCE;

pub(super) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    vm.load_core()?;
    devices::wait_for_balloon(vm, std::time::Duration::from_secs(40))?;
    let found = devices::list(vm)?;

    let want = [
        format!("{{{DYNAMIC_MEMORY}}}"),
        format!("{{{BALLOON_INSTANCE}}}"),
        format!("vmbus:{}", modalias(DYNAMIC_MEMORY)),
    ];
    let device = found.iter().find(|d| d.values[1] == want[0]);
    expect(
        device.is_some_and(|d| d.values[1..4] == want[..] && d.name == BALLOON_INSTANCE),
        format!("a device {BALLOON_INSTANCE} with {}", want.join(" ")),
        render(&found),
    )?;
    let uevent = vm.read(&format!(
        "{}/devices/{BALLOON_INSTANCE}/uevent",
        devices::BUS
    ))?;
    expect(
        uevent.lines().any(|l| l == format!("MODALIAS={}", want[2])),
        format!("MODALIAS={} in the device's uevent", want[2]),
        uevent.replace('\n', " "),
    )?;

    let table = render(&found);
    let mut notes = cx.notes.lock().unwrap_or_else(PoisonError::into_inner);
    notes.insert((vm.core, "device-list"), table.clone());
    match notes.get(&(Core::C, "device-list")) {
        Some(reference) if vm.core == Core::Rust => expect(
            *reference == table,
            format!("what the C core shows: {reference}"),
            table,
        ),
        _ => Ok(()),
    }
}

/// A GUID as `modalias` has it: its bytes in memory, the first three groups
/// little endian.
fn modalias(guid: &str) -> String {
    let mut groups = guid.split('-');
    let mut out = String::new();
    for group in groups.by_ref().take(3) {
        let bytes: Vec<&str> = (0..group.len())
            .step_by(2)
            .map(|i| &group[i..i + 2])
            .collect();
        out.extend(bytes.into_iter().rev());
    }
    out.extend(groups);
    out
}

fn render(devices: &[Device]) -> String {
    let mut out = String::new();
    for device in devices {
        out += &device.name;
        for (name, value) in ATTRIBUTES.iter().zip(&device.values) {
            out += &format!(" {name}={value}");
        }
        out += "; ";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::modalias;

    #[test]
    fn modalias_has_the_bytes_of_memory() {
        let guid = "525074dc-8985-46e2-8057-a307dc18a502";
        assert_eq!(modalias(guid), "dc7450528589e2468057a307dc18a502");
    }
}
