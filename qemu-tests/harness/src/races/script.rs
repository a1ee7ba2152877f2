// SPDX-License-Identifier: GPL-2.0

//! What a race is made of: the scripts of both sides, what the guest's are written with, and a seed's numbers.

use vmbus_guest::protocol::NewFile;

use crate::drivers::Core;
#[cfg(doc)]
use crate::machine::FOLDER;

/// How process 1 reports the script's end.
pub(super) const VERDICT: &str = "script ended with status ";
/// A good one.
pub(super) const GOOD: &str = "script ended with status 0 ";

/// QEMU's fw_cfg does not tell the guest that a file has become longer, so they have these sizes.
pub(super) const SIZES: [(&str, u64); 3] =
    [("modprobe", 4096), ("prepare", 8192), ("script", 16384)];

/// What the two sides are to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    /// Lines of a shell.
    pub(super) guest: String,
    /// Rules of the device that the race is about.
    pub(super) faults: String,
    /// More arguments of its QEMU, each a word or two; [`FOLDER`] is the folder of the files.
    pub(super) host: Vec<String>,
}

/// The files that a machine starts with, or goes on with.
pub(super) fn files(core: Core, prepare: &str, script: &Script) -> Vec<NewFile> {
    let texts = [
        core.modprobe_settings().to_owned(),
        format!("{FUNCTIONS}\n{prepare}"),
        format!("{FUNCTIONS}\n{}", script.guest),
    ];
    let mut files: Vec<NewFile> = SIZES
        .iter()
        .zip(texts)
        .map(|((name, size), text)| new_file(name, text, *size))
        .collect();
    files.push(new_file("faults", script.faults.clone(), 0));
    files
}

fn new_file(name: &str, text: String, size: u64) -> NewFile {
    NewFile {
        name: name.to_owned(),
        from: None,
        text,
        size,
    }
}

/// What the scripts are made of.
const FUNCTIONS: &str = r#"
bus=/sys/bus/vmbus/devices

# wait SECONDS WHAT COMMAND...
wait() {
    left=$(($1 * 20)) what=$2
    shift 2
    until "$@"; do
        [ $left -gt 0 ] || fail "no $what"
        left=$((left - 1))
        sleep 0.05
    done
}

fail() {
    echo "failed: $*"
    for p in /proc/[0-9]*; do
        for t in $p/task/*; do
            grep -q '^State:.D' $t/status || continue
            echo "$(cat $t/comm) waits:"
            cat $t/stack
        done
    done
    exit 1
}

# load NAME COMMAND...: it runs until there is /run/NAME.stop
load() {
    name=$1
    shift
    rm -f /run/$name.*
    { "$@" > /run/$name.out; echo $? > /run/$name.new; mv /run/$name.new /run/$name.status; } &
}

# ended NAME STATUS: a load must end like this, and soon
ended() {
    wait 90 "end of load $1" [ -s /run/$1.status ]
    [ $(cat /run/$1.status) = $2 ] || fail "load $1 ended with $(cat /run/$1.status), not $2: $(cat /run/$1.out)"
}

# running NAME: it must be under way still
running() {
    [ ! -e /run/$1.status ] || fail "load $1 ended with $(cat /run/$1.status): $(cat /run/$1.out)"
}

# cpu1 0|1: it goes, or comes
cpu1() {
    echo $1 > /sys/devices/system/cpu/cpu1/online || fail "cpu 1 does not become $1"
}

# spread INSTANCE FIRST: the device's channels over both CPUs
spread() {
    cpu=$2
    for channel in $bus/$1/channels/*; do
        echo $((cpu % 2)) > $channel/cpu
        cpu=$((cpu + 1))
    done
}

nobody_waits() {
    ! grep -q '^State:.D' /proc/[0-9]*/task/*/status 2> /dev/null
}

gone() {
    [ ! -e $1 ]
}
"#;

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Less than the limit.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 2 to the `min` on, below 2 to the `max`; each power is as likely as the others.
    pub(super) fn log_uniform(&mut self, min: u64, max: u64) -> u64 {
        let power = 1 << (min + self.next() % (max - min));
        power + self.next() % power
    }

    /// 5 to 50 ms, to the microsecond, as `sleep` takes them.
    pub(super) fn seconds(&mut self) -> String {
        format!("0.{:06}", 5_000 + self.next() % 45_000)
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn numbers_stay_within_their_powers() {
        let mut random = Random(1);
        for _ in 0..1000 {
            let n = random.log_uniform(4, 11);
            assert!((16..2048).contains(&n));
            assert!(random.seconds().starts_with("0.0"));
        }
    }
}
