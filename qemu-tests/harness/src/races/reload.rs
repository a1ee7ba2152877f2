// SPDX-License-Identifier: GPL-2.0

//! Core and driver go and come while the host offers devices and takes them back. An offer that is on its way when the
//! core goes is nobody's, and what is queued then ends before the module does.
//!
//! The devices are the script's own, of a class that no driver has: the host itself knows nothing of them.

use std::fmt::Write as _;
use std::ops::Range;

use crate::drivers::Core;
use crate::storage::{MAIN, SPARE};

use super::disk::FUNCTIONS as OF_DISKS;
use super::script::{Random, Script};

/// So often they go, and come again.
const ROUNDS: u64 = 3;
/// Channels that drivers open in a round.
const CHANNELS: u64 = 4;

/// Relids that the host itself does not come to; the core takes those below 2048.
const FIRST_RELID: u32 = 1000;
const RELIDS: u32 = 1000;

const OFFER: u32 = 1;
const RESCIND: u32 = 2;
const ALL_OFFERS_DELIVERED: u32 = 4;
const GPADL_TORNDOWN: u32 = 12;
const RELID_RELEASED: u32 = 13;
/// The answer of a socket's service: the core reads it, and does nothing. Messages are some 10 to 200 us apart, so it is
/// a pause.
const TL_CONNECT_RESULT: u32 = 23;
const TL_CONNECT_RESULT_BYTES: usize = 44;
/// Bytes of an offer, and where its fields are.
const OFFER_BYTES: usize = 196;
const CLASS: usize = 8;
const INSTANCE: usize = 24;
const RELID: usize = 184;
const DEDICATED: usize = 190;
const CONNECTION: usize = 192;

const FUNCTIONS: &str = r#"
# autoload finds nothing: what is loaded, and when, is said below
modprobe=/run/modprobe
ln -s $(readlink -f /sbin/modprobe) $modprobe
rm /sbin/modprobe
echo '#!/bin/true' > /sbin/modprobe
chmod +x /sbin/modprobe

# unload: while a disk is looked at, its driver is in use
unload() {
    tries=0
    while [ -e /sys/module/$core ]; do
        if [ $tries = 200 ]; then
            echo "in use: $(grep '^hv_' /proc/modules)"
            return 1
        fi
        [ $tries = 0 ] || sleep 0.02
        tries=$((tries + 1))
        [ ! -e /sys/module/$driver ] || rmmod $driver 2> /dev/null || continue
        # not where messages are read
        taskset 2 rmmod $core 2> /dev/null
    done
}

# unloaded: a module that stays does so for its users, or waits
unloaded() {
    load unload unload
    ended unload 0
}
"#;

/// What happens between two loads.
pub(super) fn script(core: Core, random: &mut Random) -> Script {
    let [module, driver] = core.storage_drivers() else {
        return Script::default();
    };
    let mut rounds = String::new();
    for round in 0..ROUNDS {
        // the core alone may go at once, a driver has channels
        let (what, us) = if round % 2 == 0 {
            ("core", random.below(4_000))
        } else {
            ("driver", random.log_uniform(10, 17))
        };
        let _ = write!(
            rounds,
            "unloaded
             $modprobe ${what}
             sleep {}.{:06}
             ",
            us / 1_000_000,
            us % 1_000_000,
        );
    }
    let guest = format!(
        "{OF_DISKS}
         core={module} driver={driver}
         {FUNCTIONS}
         {rounds}
         unloaded
         rm /run/main-disk /run/spare-disk
         $modprobe $driver
         wait 20 'main disk' disk {MAIN} /run/main-disk
         wait 20 'spare disk' disk {SPARE} /run/spare-disk
         for name in main spare; do
             dd if=/dev/$(cat /run/$name-disk) of=/dev/null bs=64k count=16 iflag=direct 2> /dev/null || fail \"no data of $name\"
         done
         [ $(ls $bus | wc -l) = 2 ] || fail \"devices: $(ls $bus)\"
         for name in timeouts leaked_pages bad_messages stray_replies; do
             [ $(cat /sys/bus/vmbus/counters/$name) = 0 ] || fail \"there are $name\"
         done
         ! dmesg | grep 'no reply to\\|left to the host' || fail 'complaints'
         unloaded
         echo \"offers that came too late: $(dmesg | grep -c 'offer while not connected')\"
         # what was to be told again would be so now
         sleep 15
         wait 30 'end of all waiting' nobody_waits"
    );
    Script {
        guest,
        faults: host(random),
        host: vec!["-set device.bus.fault-script=@/faults".to_owned()],
    }
}

/// What the host says besides.
fn host(random: &mut Random) -> String {
    let mut rules = String::new();
    let mut relids = FIRST_RELID..FIRST_RELID + RELIDS;
    for nth in 1..=ROUNDS {
        // the module is loaded in the pauses, and goes while the host says this
        let pauses = 50 + random.below(40);
        rule(
            &mut rules,
            (ALL_OFFERS_DELIVERED, nth),
            (pauses, 80),
            &mut relids,
            random,
        );
    }
    for nth in 1..=ROUNDS * CHANNELS {
        rule(
            &mut rules,
            (GPADL_TORNDOWN, nth),
            (0, 6),
            &mut relids,
            random,
        );
    }
    // what is told again after 10 s, if the module is there still; 5 is no busy host
    let _ = writeln!(
        rules,
        "on post op={RELID_RELEASED} every={} do refuse 5",
        2 + random.below(3)
    );
    rules
}

/// After the host's `nth` message of a kind, so many pauses come, and so many other messages.
fn rule(
    rules: &mut String,
    (kind, nth): (u32, u64),
    (pauses, words): (u64, u64),
    relids: &mut Range<u32>,
    random: &mut Random,
) {
    let mut offered = Vec::new();
    let pause = message(TL_CONNECT_RESULT, TL_CONNECT_RESULT_BYTES);
    let _ = write!(rules, "on message op={kind} nth={nth} do");
    for at in 0..pauses + words {
        let taken = random.below(1 + offered.len() as u64 * 2);
        let taken = usize::try_from(taken).unwrap_or(usize::MAX);
        let message = if at < pauses || random.below(4) == 0 {
            pause.clone()
        } else if taken < offered.len() {
            rescind(offered.swap_remove(taken))
        } else {
            let Some(relid) = relids.next() else { break };
            offered.push(relid);
            offer(relid)
        };
        let _ = write!(rules, " inject 0 0 {} ;", hex(&message));
    }
    rules.push('\n');
}

fn message(kind: u32, bytes: usize) -> Vec<u8> {
    let mut it = vec![0; bytes];
    it[..4].copy_from_slice(&kind.to_le_bytes());
    it
}

fn offer(relid: u32) -> Vec<u8> {
    let mut it = message(OFFER, OFFER_BYTES);
    let mut put = |at: usize, bytes: &[u8]| it[at..at + bytes.len()].copy_from_slice(bytes);
    put(CLASS, b"nobody's class..");
    put(INSTANCE, b"the script's");
    put(INSTANCE + 12, &relid.to_le_bytes());
    put(RELID, &relid.to_le_bytes());
    put(DEDICATED, &[1]);
    put(CONNECTION, &relid.to_le_bytes());
    it
}

fn rescind(relid: u32) -> Vec<u8> {
    [RESCIND, 0, relid].map(u32::to_le_bytes).concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{host, Random, OFFER_BYTES, RELIDS};

    #[test]
    fn each_relid_is_offered_once() {
        for seed in 1..100 {
            let rules = host(&mut Random(seed));
            let offers = rules
                .split(' ')
                .filter(|word| word.len() == 2 * OFFER_BYTES);
            let mut relids: Vec<_> = offers.map(|offer| &offer[368..376]).collect();
            let offered = relids.len();
            relids.sort_unstable();
            relids.dedup();
            assert_eq!(relids.len(), offered);
            assert!((100..RELIDS as usize).contains(&offered));
        }
    }
}
