// SPDX-License-Identifier: GPL-2.0

//! What happens in a race, and when: for a seed, the guest's script and the host's.

use std::fmt::Write as _;

use vmbus_guest::protocol::NewFile;

use crate::drivers::Core;
use crate::storage::{MAIN, SPARE};

/// How process 1 reports the script's end.
pub(super) const VERDICT: &str = "script ended with status ";
/// A good one.
pub(super) const GOOD: &str = "script ended with status 0 ";

/// QEMU's fw_cfg does not tell the guest that a file has become longer, so they have these sizes.
const SIZES: [(&str, u64); 3] = [("modprobe", 4096), ("prepare", 8192), ("script", 16384)];

/// What meets the I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The host takes a controller away.
    Rescind,
    /// A CPU goes and comes, and channels move.
    Offline,
    /// The driver is taken off a device, and bound again.
    Unbind,
    /// A controller is reset.
    Reset,
}

/// What the two sides are to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    guest: String,
    faults: String,
}

/// The files that a machine starts with, or goes on with.
pub(super) fn files(core: Core, script: &Script) -> Vec<NewFile> {
    let texts = [
        core.modprobe_settings().to_owned(),
        format!("{FUNCTIONS}\n{}", prepare(core)),
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

# disk INSTANCE FILE: its name goes there
disk() {
    for b in $bus/$1/host*/target*/*/block/*; do
        [ -b /dev/${b##*/} ] && [ "$(cat $b/size)" != 0 ] && echo ${b##*/} > $2
    done 2> /dev/null
    [ -s $2 ]
}

# load NAME DISK
load() {
    rm -f /run/$1.*
    { verify-load /dev/$2 8 /run/$1.stop > /run/$1.out; echo $? > /run/$1.new; mv /run/$1.new /run/$1.status; } &
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

nobody_waits() {
    ! grep -q '^State:.D' /proc/[0-9]*/task/*/status 2> /dev/null
}

gone() {
    [ ! -e $1 ]
}
"#;

fn prepare(core: Core) -> String {
    let load = match core {
        Core::C => "modprobe hv_storvsc",
        Core::Rust => "modprobe hv_vmbus_rust",
        Core::RustOnC => "modprobe hv_storvsc_rust_on_c",
    };
    format!(
        "{load}
         modprobe sg
         wait 20 'main disk' disk {MAIN} /run/main-disk
         wait 20 'spare disk' disk {SPARE} /run/spare-disk
         for instance in {MAIN} {SPARE}; do
             cpu=0
             for channel in $bus/$instance/channels/*; do
                 echo $cpu > $channel/cpu; cpu=$((cpu + 1))
             done
         done
         sleep 1"
    )
}

impl Kind {
    /// What happens under a seed.
    pub(super) fn script(self, core: Core, seed: u64) -> Script {
        let mut random = Random(seed);
        let mut faults = String::new();
        let body = match self {
            Self::Rescind => {
                let nth = random.log_uniform(4, 11);
                faults = format!("on send type=11 nth={nth} do unplug\n");
                rescind()
            }
            Self::Offline => offline(&mut random),
            Self::Unbind => unbind(core, &mut random),
            Self::Reset => reset(&mut random),
        };
        let guest = format!(
            "main=$(cat /run/main-disk) spare=$(cat /run/spare-disk)
             load main $main
             {body}
             touch /run/main.stop
             ended main 0
             wait 30 'end of all waiting' nobody_waits
             rmmod {modules} || fail 'modules stay'",
            modules = core.storage_drivers_last_first().join(" "),
        );
        Script { guest, faults }
    }
}

fn rescind() -> String {
    format!(
        "load spare $spare
         wait 60 'rescind' gone $bus/{SPARE}
         ended spare 2
         running main"
    )
}

fn offline(random: &mut Random) -> String {
    let mut text = String::new();
    for round in 0..3 {
        let _ = write!(
            text,
            "sleep {before}
             echo 0 > /sys/devices/system/cpu/cpu1/online || fail 'cpu 1 stays'
             sleep {between}
             echo 1 > /sys/devices/system/cpu/cpu1/online || fail 'cpu 1 does not come'
             cpu={round}
             for channel in $bus/{MAIN}/channels/*; do
                 echo $((cpu % 2)) > $channel/cpu; cpu=$((cpu + 1))
             done
             running main
             ",
            before = random.seconds(),
            between = random.seconds(),
        );
    }
    text
}

fn unbind(core: Core, random: &mut Random) -> String {
    let driver = format!("/sys/bus/vmbus/drivers/{}", core.storage_driver());
    let mut text = String::new();
    for _ in 0..2 {
        let _ = write!(
            text,
            "load spare $spare
             sleep {before}
             running spare
             echo {SPARE} > {driver}/unbind || fail 'no unbind'
             ended spare 2
             rm /run/spare-disk
             echo {SPARE} > {driver}/bind || fail 'no bind'
             wait 20 'spare disk' disk {SPARE} /run/spare-disk
             spare=$(cat /run/spare-disk)
             running main
             ",
            before = random.seconds(),
        );
    }
    text
}

fn reset(random: &mut Random) -> String {
    let mut text = "sg=$(ls /sys/block/$main/device/scsi_generic)\n".to_owned();
    for _ in 0..3 {
        let _ = write!(
            text,
            "sleep {before}
             sg_reset -H /dev/$sg || fail 'no reset'
             running main
             ",
            before = random.seconds(),
        );
    }
    text
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 2 to the `min` on, below 2 to the `max`; each power is as likely as the others.
    fn log_uniform(&mut self, min: u64, max: u64) -> u64 {
        let power = 1 << (min + self.next() % (max - min));
        power + self.next() % power
    }

    /// 5 to 50 ms, to the microsecond, as `sleep` takes them.
    fn seconds(&mut self) -> String {
        format!("0.{:06}", 5_000 + self.next() % 45_000)
    }
}

#[cfg(test)]
mod tests {
    use super::{files, Kind, Random, SIZES};
    use crate::drivers::Core;

    const KINDS: [Kind; 4] = [Kind::Rescind, Kind::Offline, Kind::Unbind, Kind::Reset];

    #[test]
    fn a_seed_means_one_script() {
        for kind in KINDS {
            let script = |seed| kind.script(Core::Rust, seed);
            assert_eq!(script(7), script(7));
            assert_ne!(script(7), script(8), "{kind:?}");
        }
    }

    #[test]
    fn texts_fit_their_files() {
        for kind in KINDS {
            for file in files(Core::Rust, &kind.script(Core::Rust, 1)) {
                let size = SIZES.iter().find(|(name, _)| *name == file.name);
                assert!(size.is_none_or(|(_, size)| file.text.len() as u64 <= *size));
            }
        }
    }

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
