// SPDX-License-Identifier: GPL-2.0

//! What meets the traffic of network adapters.

use std::fmt::Write as _;

use crate::drivers::Core;
use crate::machine::{Initramfs, Machine, Qemu};

use super::script::{Random, Script};

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The host takes an adapter away.
    Rescind,
    /// A CPU goes and comes, and channels move.
    Offline,
    /// The driver is taken off an adapter, and bound again.
    Unbind,
    /// The administrator changes what makes the driver close and open its channels.
    Change,
    /// The host says that it is done with frames after more than a minute; no race, but it takes long.
    Late,
}

/// Instance of the adapter that it happens to.
const MAIN: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001";
/// Instance of the other end of its wire, in a network namespace of the same guest.
const PEER: &str = "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1002";

/// Two CPUs, and two adapters on one wire: nothing comes from outside of the machine, where no seed has a say.
pub(super) const MACHINE: Machine = Machine {
    name: "races-net",
    qemu: Qemu::Patched,
    cpus: 2,
    initramfs: Initramfs::Tools,
    kernel_arguments: super::KERNEL_ARGUMENTS,
    module_parameters: "",
    files: &[],
    devices: &[
        super::DEVICES,
        "-netdev hubport,id=main,hubid=1",
        "-device hv-net,id=main,netdev=main,num-queues=2,rx-batch=1,mac=52:54:00:00:10:01,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1001",
        "-netdev hubport,id=peer,hubid=1",
        "-device hv-net,id=peer,netdev=peer,num-queues=2,rx-batch=1,mac=52:54:00:00:10:02,instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1002",
    ],
};

/// The device that a host's script is about.
const VICTIM: &str = "main";

const FUNCTIONS: &str = r#"
ip=/usr/sbin/ip

# nic INSTANCE FILE: its name goes there
nic() {
    ls $bus/$1/net 2> /dev/null > $2
    [ -s $2 ]
}

carrier() {
    [ "$(cat /sys/class/net/$1/carrier 2> /dev/null)" = 1 ]
}

# up: the adapter can be used
up() {
    wait 20 'main adapter' nic $main_instance /run/main-nic
    main=$(cat /run/main-nic)
    $ip addr add 192.168.7.1/24 dev $main && $ip link set $main up || fail 'no address'
    wait 20 'carrier' carrier $main
}

traffic() {
    load main verify-stream 192.168.7.2 peer /run/main
}

came() {
    [ "$(cat /run/main.bytes 2> /dev/null || echo 0)" -ge $1 ]
}

# moves: 64 KiB more come each way
moves() {
    before=$(cat /run/main.bytes 2> /dev/null || echo 0)
    wait 60 'more bytes' came $((before + 65536))
    running main
}
"#;

/// What happens before the state is saved that each seed goes on from.
pub(super) fn prepare(core: Core) -> String {
    let load = match core {
        Core::C => "modprobe hv_netvsc",
        Core::Rust => "modprobe hv_vmbus_rust",
        Core::RustOnC => "modprobe hv_netvsc_rust_on_c",
    };
    format!(
        "{}
         {load}
         wait 20 'other adapter' nic {PEER} /run/peer-nic
         peer=$(cat /run/peer-nic)
         up
         $ip netns add peer && $ip link set $peer netns peer || fail 'no namespace'
         $ip -n peer addr add 192.168.7.2/24 dev $peer && $ip -n peer link set $peer up || fail 'no peer'
         ping -q -c 1 -W 10 192.168.7.2 || fail 'no answer'
         spread {MAIN} 0
         spread {PEER} 1
         sleep 1",
        functions(),
    )
}

fn functions() -> String {
    format!("{FUNCTIONS}\nmain_instance={MAIN}\n")
}

impl Event {
    /// How it happens with these numbers.
    pub(super) fn script(self, core: Core, random: &mut Random) -> Script {
        let mut faults = String::new();
        let body = match self {
            Self::Rescind => {
                faults = taken_at(random);
                under_traffic(&rescind())
            }
            Self::Offline => under_traffic(&offline(random)),
            Self::Unbind => under_traffic(&unbind(core, random)),
            Self::Change => under_traffic(&change(random)),
            Self::Late => {
                faults = late(random);
                LATE.to_owned()
            }
        };
        let guest = format!(
            "{}
             main=$(cat /run/main-nic) peer=$(cat /run/peer-nic)
             {body}
             wait 30 'end of all waiting' nobody_waits
             rmmod {modules} || fail 'modules stay'",
            functions(),
            modules = core.net_drivers_last_first().join(" "),
        );
        Script {
            guest,
            faults,
            host: vec![format!("-set device.{VICTIM}.fault-script=@/faults")],
        }
    }
}

/// When a frame comes or goes, or one that came is given back.
fn taken_at(random: &mut Random) -> String {
    let event = match random.below(3) {
        0 => "send type=7",
        1 => "recv type=11",
        _ => "recv type=9",
    };
    format!("on {event} nth={} do unplug\n", random.log_uniform(5, 9))
}

/// Under traffic.
fn under_traffic(what: &str) -> String {
    format!(
        "traffic
         {what}
         touch /run/main.stop
         ended main 0"
    )
}

/// 90 to 110 s. 108 completes a frame or an RNDIS message, which 0 at 4 of the packet tells apart.
fn late(random: &mut Random) -> String {
    let ms = 90_000 + random.below(20_000);
    format!("on send type=11 op=108 req.u32@4=0 do delay {ms}\n")
}

/// Each connection is of no use to the driver, which leaves the host alone for 1, 2, 4, ... seconds; once that is longer
/// than the host takes, its frames are done meanwhile, and the link is there again. The other queue has its frames some
/// seconds after the first one, so that the host is done with them later: it is not disturbed in between, and is.
const LATE: &str = r#"
for limit in /sys/class/net/$main/queues/tx-*/byte_queue_limits/limit_max; do
    echo 20000 > $limit
done
# it gives up when a queue is full
while [ ! -e /run/main.stop ]; do
    ping -q -i 0.05 -c 100 -W 1 -s 1400 192.168.7.2 > /dev/null 2>&1
    sleep 0.2
done &
# other addresses, for the other queue; nobody is asked where they are
for n in 2 3 4 5 6 7 8 9 10 11 12 13 14; do
    [ $n = 2 ] || $ip -n peer addr add 192.168.7.$n/24 dev $peer || fail 'no address'
    $ip neigh replace 192.168.7.$n lladdr 52:54:00:00:10:02 dev $main nud permanent || fail 'no neighbour'
done
$ip -n peer neigh replace 192.168.7.1 lladdr 52:54:00:00:10:01 dev $peer nud permanent || fail 'no neighbour'
while [ ! -e /run/main.stop ]; do
    until carrier $main || [ -e /run/main.stop ]; do sleep 1; done
    sleep 2.5
    while carrier $main && [ ! -e /run/main.stop ]; do
        for n in 3 4 5 6 7 8; do
            ping -q -i 0.01 -c 20 -W 1 -s 1400 192.168.7.$((n + 6)) > /dev/null 2>&1 &
            ping -q -i 0.01 -c 20 -W 1 -s 1400 192.168.7.$n > /dev/null 2>&1
        done
    done
done &
# sent QUEUE: frames that the host is done with
sent() { ethtool -S $main | sed -n "s/^ *tx_queue_$1_packets: //p"; }
was_0=$(sent 0) was_1=$(sent 1)
off=0 longest=0 second=0
while [ $second -lt 800 ]; do
    if carrier $main; then off=0; else off=$((off + 1)); fi
    [ $off -le $longest ] || longest=$off
    second=$((second + 1))
    sleep 1
done
touch /run/main.stop
is_0=$(sent 0) is_1=$(sent 1)
[ $is_0 -gt $was_0 ] && [ $is_1 -gt $was_1 ] || fail "frames by queue: $was_0 and $was_1, now $is_0 and $is_1"
quiet() { ! pidof ping > /dev/null; }
wait 30 'end of the load' quiet
echo "without a link for $longest s"
[ $longest -ge 60 ] || fail "no pause that is longer than the host takes"
[ $longest -lt 115 ] || fail "no link for longer than the host takes"
"#;

fn rescind() -> String {
    format!("wait 60 'rescind' gone $bus/{MAIN}")
}

fn offline(random: &mut Random) -> String {
    let mut text = "moves\n".to_owned();
    for round in 0..2 {
        let _ = write!(
            text,
            "sleep {before}
             cpu1 0
             sleep {between}
             cpu1 1
             spread {MAIN} {round}
             moves
             ",
            before = random.seconds(),
            between = random.seconds(),
        );
    }
    text
}

fn unbind(core: Core, random: &mut Random) -> String {
    let driver = format!("/sys/bus/vmbus/drivers/{}", core.net_driver());
    let mut text = String::new();
    for _ in 0..2 {
        let _ = write!(
            text,
            "moves
             sleep {before}
             echo {MAIN} > {driver}/unbind || fail 'no unbind'
             touch /run/main.stop
             ended main 0
             echo {MAIN} > {driver}/bind || fail 'no bind'
             up
             traffic
             ",
            before = random.seconds(),
        );
    }
    text + "moves\n"
}

fn change(random: &mut Random) -> String {
    let mut text = "moves\n".to_owned();
    for _ in 0..3 {
        let what = match random.below(4) {
            0 => format!("ethtool -L $main combined {}", 1 + random.below(2)),
            1 => {
                let mtu = 600 + random.below(8400);
                format!("$ip link set $main mtu {mtu} && $ip -n peer link set $peer mtu {mtu}")
            }
            2 => {
                let frames = 32 << random.below(4);
                // what it is already is an error to ethtool, but none here
                format!("ethtool -G $main rx {frames} tx {frames} || [ $? = 80 ]")
            }
            _ => "$ip link set $main down && $ip link set $main up".to_owned(),
        };
        let _ = write!(
            text,
            "sleep {before}
             {{ {what}; }} || fail 'no change: {what}'
             moves
             ",
            before = random.seconds(),
        );
    }
    text
}
