// SPDX-License-Identifier: GPL-2.0

//! Data goes to a disk and comes back from it.

use anyhow::Result;

use super::{Say, CONTROLLER};
use crate::failure::expect;
use crate::storage::script;
use crate::vm::Vm;

/// How much is written there and read back.
pub(super) const WRITTEN_MIB: u64 = 64;

/// Random data to the disk, and from it again past the cache; gives what was measured, in words.
pub(super) fn show(say: Say<'_>, vm: &Vm, disk: &str) -> Result<String> {
    say(&format!("disk {disk}: {WRITTEN_MIB} MiB by {CONTROLLER}"));
    let out = script(
        vm,
        &format!(
            "dd if=/dev/urandom of=/tmp/data bs=1M count={WRITTEN_MIB} 2>/dev/null
             sha256sum < /tmp/data
             cut -d' ' -f1 /proc/uptime
             dd if=/tmp/data of=/dev/{disk} bs=1M conv=fsync 2>/dev/null
             cut -d' ' -f1 /proc/uptime
             rm /tmp/data
             echo 3 > /proc/sys/vm/drop_caches
             cut -d' ' -f1 /proc/uptime
             dd if=/dev/{disk} of=/tmp/back bs=1M count={WRITTEN_MIB} 2>/dev/null
             cut -d' ' -f1 /proc/uptime
             sha256sum < /tmp/back
             rm /tmp/back"
        ),
    )?;
    let lines: Vec<&str> = out.lines().collect();
    let [wrote, began, written, again, end, read] = lines[..] else {
        anyhow::bail!("the guest's script printed '{out}'");
    };
    let rate = |from: &str, to: &str| -> Result<f64> {
        let seconds = to.parse::<f64>()? - from.parse::<f64>()?;
        Ok(WRITTEN_MIB as f64 / seconds.max(0.01))
    };
    let (out, back) = (rate(began, written)?, rate(again, end)?);
    let digest = |line: &str| {
        line.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    say(&format!(
        "  written      sha256 {}  {out:5.0} MiB/s",
        digest(wrote)
    ));
    say(&format!(
        "  read back    sha256 {}  {back:5.0} MiB/s",
        digest(read)
    ));
    say("");
    expect(wrote == read, format!("sha256 {wrote}"), read)?;
    Ok(format!(
        "{WRITTEN_MIB} MiB to a disk at {out:.0} MiB/s and back, the same, at {back:.0} MiB/s"
    ))
}
