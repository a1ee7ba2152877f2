// SPDX-License-Identifier: GPL-2.0

//! An adapter comes, is used, and goes under load, again and again; others go while their channel opens, while a
//! sub-channel opens, while they come up, and at any moment of their start. Nothing of them is left.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::devices::{expect_none, BUS};
use crate::failure::{expect, found_too, unmet};
use crate::kernel_memory::Use;
use crate::machine::{text, Initramfs, Machine, Qemu};
use crate::net::{Wire, IP, PEER_ADDRESS, WIRE, WIRE_ADDRESS, WIRE_MAC};
use crate::scenarios::Context;
use crate::storage::{self, script, wait_unplugged, Job};
use crate::vm::Vm;

/// An adapter that goes before anybody has used it.
struct Brief {
    /// Its id on the host.
    id: &'static str,
    instance: &'static str,
}

const EARLY: Brief = Brief {
    id: "early",
    instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1501",
};
const AT_UP: Brief = Brief {
    id: "at-up",
    instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1504",
};
/// In the order in which they come. The first one goes when it is told to, the others by their scripts.
const BRIEF: [Brief; 4] = [
    EARLY,
    Brief {
        id: "at-open",
        instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1502",
    },
    Brief {
        id: "at-sub-open",
        instance: "5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1503",
    },
    AT_UP,
];

/// A guest of that host.
pub(in crate::scenarios) const MACHINE: Machine = Machine {
    name: "net-plug-cycles",
    qemu: Qemu::Patched,
    cpus: 4,
    initramfs: Initramfs::Tools,
    kernel_arguments: "",
    module_parameters: "",
    files: &[
        text("at-open", "on open chan=0 do unplug\n"),
        text("at-sub-open", "on open chan=1 do unplug\n"),
        // the answer to the second message that sets something: which frames are wanted
        text("at-up", "on buffer op=0x80000005 nth=2 do unplug\n"),
    ],
    devices: &[
        "-device vmbus-bridge",
        "-netdev hubport,id=wire,hubid=1",
        "-device hv-net,id=wire,netdev=wire,num-queues=4,mac=52:54:00:00:10:02,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1002",
        "-netdev hubport,id=peer,hubid=1",
        "-device e1000e,netdev=peer,romfile=,mac=52:54:00:00:10:03",
        "-netdev hubport,id=early,hubid=2",
        "-device hv-net,id=early,netdev=early,num-queues=2,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1501",
        "-netdev hubport,id=at-open,hubid=2",
        "-device hv-net,id=at-open,netdev=at-open,num-queues=1,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1502,fault-script=@/at-open",
        "-netdev hubport,id=at-sub-open,hubid=2",
        "-device hv-net,id=at-sub-open,netdev=at-sub-open,num-queues=4,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1503,fault-script=@/at-sub-open",
        "-netdev hubport,id=at-up,hubid=2",
        "-device hv-net,id=at-up,netdev=at-up,num-queues=1,\
         instanceid=5c5100d1-5d4f-4c1e-9c63-0a6c2a0f1504,fault-script=@/at-up",
    ],
};

/// Longer than the time that the driver gives a host that does not answer, so that its words about that are in the log.
const ROUND: Duration = Duration::from_secs(200);
const ENDS: Duration = Duration::from_secs(20);
/// Channels of the adapter that is used, by turns.
const QUEUES: [usize; 4] = [4, 1, 2, 3];
/// It goes so many milliseconds after its load has begun, at most.
const LOADED_MS: u32 = 200;
/// The same of [`EARLY`], after it has come.
const EARLY_MS: u32 = 300;
/// Addresses of the other end; [`PEER_ADDRESS`] is the first.
const PEERS: &str = "192.168.7.2 192.168.7.3 192.168.7.4 192.168.7.5";
/// How often a connection that nobody has any more sends again: its frames are memory, too.
const ORPHANS: &str = "/proc/sys/net/ipv4/tcp_orphan_retries";
/// What has come of the adapter that is used, as [`user`] says it.
const STATE: &str = "/tmp/state";
/// How often [`AT_UP`] did not come up.
const CUT: &str = "/tmp/cut";

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let interfaces = vm.list("/sys/class/net")?;
    // they are here so that their properties are known
    for brief in &BRIEF {
        storage::unplug(vm, brief.id)?;
    }
    let wire = Wire::connect(vm)?;
    let peer = &wire.peer;
    let at_peer = Wire::at_peer(IP);
    script(
        vm,
        &format!(
            "for address in {PEERS}; do
                 {at_peer} addr replace $address/24 dev {peer}
             done
             {at_peer} neigh replace {WIRE_ADDRESS} lladdr {WIRE_MAC} dev {peer} nud permanent
             echo 1 > {ORPHANS}
             {}",
            Wire::at_peer(&format!("sh -c 'echo 1 > {ORPHANS}'"))
        ),
    )?;
    script(vm, &format!("{IP} link set {} down", wire.name))?;
    storage::unplug(vm, "wire")?;
    for instance in BRIEF.iter().map(|brief| brief.instance).chain([WIRE]) {
        wait_unplugged(vm, instance)?;
    }
    // the first ones are those that need what everything needs
    rounds(vm, 4)?;
    let before = Use::look(vm)?;
    // five adapters each time
    let count = cx.rounds.div_ceil(2);
    let start = Instant::now();
    let cut = rounds(vm, count)?;
    let each = start.elapsed() / count;
    before.expect_back(vm, count)?;

    let left = vm.list("/sys/class/net")?;
    expect(
        left == interfaces,
        format!("the interfaces {interfaces:?}"),
        format!("{left:?}"),
    )?;
    expect_none(
        vm,
        &[
            "timeouts",
            "leaked_pages",
            "bad_messages",
            "bad_rescinds",
            "refused_doorbells",
        ],
    )?;
    *cx.figures = format!(
        "{count} times, {} ms each, {cut} before it was up",
        each.as_millis()
    );
    Ok(())
}

/// Each of them comes and goes, so often; all are gone afterwards. Gives how often [`AT_UP`] did not come up.
fn rounds(vm: &Vm, rounds: u32) -> Result<u32> {
    script(
        vm,
        &format!("rm -f /tmp/enough; echo none > {STATE}; echo 0 > {CUT}"),
    )?;
    let jobs = [
        Job::start(vm, "peer", &peer())?,
        Job::start(vm, "at-up", &at_up())?,
        Job::start(vm, "user", &user())?,
    ];
    for round in 0..rounds {
        cycle(vm, round)
            .map_err(|error| found_too(error, &format!("in round {round}; {}", said(vm))))?;
    }
    for instance in BRIEF.iter().map(|brief| brief.instance).chain([WIRE]) {
        wait_unplugged(vm, instance)?;
    }
    script(vm, "touch /tmp/enough")?;
    for job in jobs {
        job.expect_success(ENDS)?;
    }
    Ok(vm.read(CUT)?.trim().parse()?)
}

/// What the users of the adapters have said.
fn said(vm: &Vm) -> String {
    let said = vm.try_exec(&[
        "sh",
        "-c",
        "tail -n 1 /tmp/at-up.out; tail -n 40 /tmp/user.out",
    ]);
    said.map(|said| said.stdout).unwrap_or_default()
}

/// Each of them comes, and is told to go or goes by itself; that which is used is gone afterwards.
fn cycle(vm: &Vm, round: u32) -> Result<()> {
    let start = Instant::now();
    for Brief { id, .. } in &BRIEF {
        vm.wait_until(
            ROUND,
            &format!("'{id}' gone after it was taken away"),
            || vm.plug_again(id),
        )?;
    }
    let queues = QUEUES[round as usize % QUEUES.len()];
    vm.plug_when_gone(&json!({
        "driver": "hv-net", "id": "wire", "netdev": "wire", "mac": WIRE_MAC,
        "num-queues": queues, "instanceid": WIRE,
    }))?;
    let moment = Duration::from_millis(u64::from(round * 7919 % EARLY_MS));
    sleep(moment.saturating_sub(start.elapsed()));
    storage::unplug(vm, EARLY.id)?;
    wait_state(vm, "used")?;
    vm.wait_until(ROUND, &format!("{queues} channels"), || {
        let found = storage::channels(vm, WIRE)?.len();
        Ok(if found == queues {
            Ok(())
        } else {
            Err(found.to_string())
        })
    })?;
    sleep(Duration::from_millis(u64::from(
        round * 104_729 % LOADED_MS,
    )));
    storage::unplug(vm, "wire")?;
    wait_state(vm, "gone")
}

/// Wait for what [`user`] says; the next time it is to say something else.
fn wait_state(vm: &Vm, wanted: &str) -> Result<()> {
    vm.wait_until(ROUND, &format!("the adapter {wanted}"), || {
        let state = vm.read(STATE)?;
        if state.starts_with("failed") {
            return Err(unmet(format!("the adapter {wanted}"), state.trim()));
        }
        Ok(if state.trim() == wanted {
            Ok(())
        } else {
            Err(state)
        })
    })
}

/// Frames for the adapter that is used, whether it is there or not, to several of its channels.
fn peer() -> String {
    let ping = Wire::at_peer(&format!("ping -q -i 0.01 -s 1000 -I $from {WIRE_ADDRESS}"));
    format!(
        "for from in {PEERS}; do
             {ping} > /dev/null 2>&1 &
             pids=\"$pids $!\"
         done
         until [ -e /tmp/enough ]; do
             usleep 100000
         done
         kill -KILL $pids"
    )
}

/// Has [`AT_UP`] come up whenever it is there.
fn at_up() -> String {
    let device = format!("{BUS}/devices/{}", AT_UP.instance);
    format!(
        "until [ -e /tmp/enough ]; do
             usleep 10000
             name=$(ls {device}/net 2> /dev/null) || continue
             [ -n \"$name\" ] || continue
             {IP} link set $name up || echo $(($(cat {CUT}) + 1)) > {CUT}
             while [ -e {device} ]; do
                 usleep 10000
             done
         done"
    )
}

/// Who uses the adapter: it gets an address and a carrier, a ping is answered, and frames go and come when it is
/// said to be in use. When it is gone nothing of it is left.
fn user() -> String {
    let load = LOAD.replace("{at_peer}", &Wire::at_peer(""));
    format!(
        "say() {{
             echo \"$*\" > {STATE}.new
             mv {STATE}.new {STATE}
         }}
         trap '[ $? = 0 ] || say failed' EXIT
         device={BUS}/devices/{WIRE}
         round=0
         while :; do
             until name=$(ls $device/net 2> /dev/null) && [ -n \"$name\" ]; do
                 [ ! -e /tmp/enough ] || exit 0
                 usleep 10000
             done
             {IP} addr replace {WIRE_ADDRESS}/24 dev $name
             {IP} link set $name up
             until [ \"$(cat /sys/class/net/$name/carrier)\" = 1 ]; do
                 usleep 10000
             done
             # its socket gets the pings of the other end, too, and has little room
             tries=0
             until ping -q -c 1 -W 3 {PEER_ADDRESS}; do
                 tries=$((tries + 1))
                 [ $tries -lt 10 ] || {{
                     {IP} -s link show dev $name
                     cat /sys/kernel/debug/hv-netvsc-rust-{WIRE}/status
                     exit 1
                 }}
             done
             {load}
             say used
             while grep -qix {WIRE_MAC} /sys/class/net/*/address 2> /dev/null; do
                 usleep 10000
             done
             {END_LOAD}
             say gone
             round=$((round + 1))
         done"
    )
}

/// A flood of pings, or each fourth time connections.
const LOAD: &str = r#"
    pids=
    moved() { cat /sys/class/net/$name/statistics/${1}_packets; }
    sent=$(moved tx) received=$(moved rx)
    if [ $((round % 4)) = 3 ]; then
        {at_peer} iperf3 -s -1 > /dev/null 2>&1 &
        pids="$pids $!"
        until {at_peer} netstat -ltn | grep -q :5201; do
            usleep 10000
        done
        iperf3 -c 192.168.7.2 -t 60 -P 4 --bidir > /dev/null 2>&1 &
        pids="$pids $!"
    else
        for to in 192.168.7.2 192.168.7.3 192.168.7.4; do
            ping -q -f -s 1400 $to > /dev/null 2>&1 &
            pids="$pids $!"
        done
    fi
    until [ $(moved tx) -ge $((sent + 100)) ] && [ $(moved rx) -ge $((received + 100)) ]; do
        usleep 10000
    done
"#;
const END_LOAD: &str = "kill -KILL $pids 2> /dev/null || true; wait";
