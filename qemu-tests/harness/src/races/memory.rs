// SPDX-License-Identifier: GPL-2.0

//! A host that changes its mind about the guest's memory every minute, for hours. Idle CPUs cost no time where time is
//! instructions, so a day takes minutes.

use std::fmt::Write as _;

use crate::drivers::Core;
use crate::machine::{Initramfs, Machine, Qemu};

use super::script::{Random, Script};

/// The guest's memory at the start, what the host leaves it at least, and the most that it gets; in MiB.
const START: u64 = 1024;
const LEAST: u64 = 640;
const MOST: u64 = START + 512;
/// What is added is a multiple of it.
const BLOCK: u64 = 128;
/// Before the host's first request.
const FIRST_MS: u64 = 60_000;
/// How long the last request may take before it is looked for the last time, in seconds.
const END: u64 = 120;

/// One CPU will do: requests are served one after the other. The device begins at a multiple of 32 GiB.
pub(super) const MACHINE: Machine = Machine {
    name: "memory-day",
    qemu: Qemu::Patched,
    cpus: 1,
    initramfs: Initramfs::Tools,
    kernel_arguments: super::KERNEL_ARGUMENTS,
    module_parameters: "",
    files: &[],
    devices: &[
        super::DEVICES,
        "-m slots=1,maxmem=67G",
        "-object memory-backend-ram,id=added,size=1G",
        "-device hv-balloon,id=balloon,status-report=on,memdev=added,post-init-wait-ms=2000,\
         instanceid=6b1d4b58-8d2e-4bd5-9b6e-0d5e8a0c1f11",
    ],
};

const FUNCTIONS: &str = r#"
status=/sys/kernel/debug/hv-balloon

# meminfo NAME, status NAME: a figure in KiB, and in pages
meminfo() {
    busybox awk -v name="$1:" '$1 == name { print $2 }' /proc/meminfo
}
status() {
    busybox awk -F ' *: *' -v name="$1" '$1 == name { print $2 }' $status
}

# settled: no page is lost, and none is counted twice: what the guest has and what it gave make up what it was started
# with and what was added. 2 MiB may be those of others.
settled() {
    have=$(($(meminfo MemTotal) + 4 * $(status pages_ballooned) - 4 * $(status pages_onlined)))
    [ $have -ge $((start - 2048)) ] && [ $have -le $((start + 2048)) ]
}

# kept: what was in memory before is in it still
kept() {
    [ "$(md5sum < /keep/data)" = "$sum" ] || fail "what was in memory has changed"
}
"#;

/// What happens before the host begins.
pub(super) fn prepare(core: Core) -> String {
    let load = match core {
        Core::C => "modprobe hv_balloon",
        Core::Rust => "modprobe hv_vmbus_rust",
        Core::RustOnC => "modprobe hv_balloon_rust_on_c",
    };
    format!(
        "{FUNCTIONS}
         echo online > /sys/devices/system/memory/auto_online_blocks
         meminfo MemTotal > /run/start
         {load}
         wait 20 driver [ -e $status ]
         mkdir -p /keep
         busybox mount -t tmpfs -o size=64m keep /keep && dd if=/dev/urandom of=/keep/data bs=1M count=32 2> /dev/null
         md5sum < /keep/data > /run/sum"
    )
}

/// So many hours of it.
pub(super) fn script(core: Core, random: &mut Random, hours: u64) -> Script {
    let guest = format!(
        "{FUNCTIONS}
         start=$(cat /run/start) sum=$(cat /run/sum)
         hour=0
         while [ $hour -lt {hours} ]; do
             sleep 3600
             hour=$((hour + 1))
             wait 30 \"agreement on memory in hour $hour: $(meminfo MemTotal) KiB of $start, $(cat $status)\" settled
             kept
         done
         sleep {END}
         cat $status
         settled || fail \"memory at the end: $(meminfo MemTotal) KiB of $start\"
         [ $(status pages_ballooned) = 0 ] || fail 'pages are in the balloon at the end'
         [ $(status pages_onlined) = {added} ] || fail 'other pages were added than the host has added'
         kept
         {counted}
         # but for those that a kernel with debug assertions has besides
         dmesg -r | grep -v '^<7>' | grep -i balloon > /tmp/lines
         lines=$(wc -l < /tmp/lines)
         [ $lines -le {most_lines} ] || {{ tail -n 20 /tmp/lines; fail \"$lines lines in the log\"; }}
         rmmod {module} || [ {module} = hv_balloon ] || fail 'module stays'",
        added = (MOST - START) * 256,
        counted = counted(core, hours),
        most_lines = 10 + hours,
        module = core.balloon_module(),
    );
    Script {
        guest,
        host: vec![format!(
            "-set device.balloon.targets={}",
            targets(random, hours)
        )],
        ..Script::default()
    }
}

/// What the Rust drivers count: each page that was given came back, and the host was heard.
fn counted(core: Core, hours: u64) -> String {
    if !core.has_rust_drivers() {
        return String::new();
    }
    format!(
        "own() {{ busybox awk -F ': ' -v name=\"$1\" '$1 == name {{ print $2 }}' /sys/kernel/debug/hv-balloon-rust/status; }}
         [ $(own pages_given) = $(own pages_returned) ] || fail 'pages that did not come back'
         [ $(($(own balloon_requests) + $(own unballoon_requests))) -ge {requests} ] || fail 'few requests'
         [ $(own messages_refused) = 0 ] || fail 'messages were refused'
         echo figures: $(own pages_given) pages there and back",
        // some ask for what is so already, or for memory that is added
        requests = hours * 30,
    )
}

/// What the host wants each minute: small changes as often as large ones. At last all that there is.
fn targets(random: &mut Random, hours: u64) -> String {
    let mut text = String::new();
    let mut now = START;
    for minute in 0..hours * 60 {
        let step = random.log_uniform(1, 8);
        now = if random.below(2) == 0 {
            now.saturating_sub(step).max(LEAST)
        } else {
            (now + step).min(MOST)
        };
        let wait = if minute == 0 {
            FIRST_MS
        } else {
            59_000 + random.below(1000)
        };
        // memory is added in blocks only
        let target = if now > START {
            now / BLOCK * BLOCK
        } else {
            now
        };
        let _ = write!(text, "{wait}:{target}M/");
    }
    // Within the last minutes of the last hour.
    let _ = write!(text, "1000:{MOST}M");
    text
}

#[cfg(test)]
mod tests {
    use super::{targets, Random, LEAST, MOST};

    #[test]
    fn a_day_has_a_target_for_each_minute() {
        let text = targets(&mut Random(1), 24);
        let all: Vec<(u64, u64)> = text
            .split('/')
            .filter_map(|target| {
                let (ms, size) = target.split_once(':')?;
                Some((ms.parse().ok()?, size.strip_suffix('M')?.parse().ok()?))
            })
            .collect();
        assert_eq!(all.len(), 24 * 60 + 1);
        assert!(all.iter().all(|(_, size)| (LEAST..=MOST).contains(size)));
        assert!(all.iter().map(|(ms, _)| ms).sum::<u64>() <= 24 * 3_600_000);
        assert_eq!(all.last().map(|(_, size)| *size), Some(MOST));
    }
}
