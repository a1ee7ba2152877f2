// SPDX-License-Identifier: GPL-2.0

//! What people put on top of an interface, and programs that nobody here wrote: a bridge, a macvlan, a
//! filter, a capture, a flood of pings, a file by HTTP, a login by ssh.

use anyhow::Result;

use crate::failure::{expect, unmet};
use crate::net::{ping, Wire, IP, PEER_ADDRESS, TRANSFER, WIRE_ADDRESS};
use crate::scenarios::Context;
use crate::storage::{script, Job};
use crate::vm::Vm;

const MIB: u64 = 16;
const FLOOD: u64 = 3000;
const CAPTURED: u64 = 20;

pub(in crate::scenarios) fn run(cx: &mut Context<'_>) -> Result<()> {
    let vm = cx.vm;
    let wire = Wire::connect(vm)?;
    wire.ping("")?;
    for module in ["bridge", "macvlan", "veth", "nf_tables"] {
        vm.exec(&["modprobe", module])?;
    }
    flood(vm)?;
    fetch(vm)?;
    login(vm)?;
    filter(vm, &wire.name)?;
    capture(vm, &wire.name)?;
    macvlan(vm, &wire.name)?;
    bridge(vm, &wire)
}

/// As fast as the other end answers.
fn flood(vm: &Vm) -> Result<()> {
    let said = script(
        vm,
        &format!("/usr/bin/ping -q -f -c {FLOOD} {PEER_ADDRESS}"),
    )?;
    expect(
        said.contains(&format!("{FLOOD} received")),
        format!("{FLOOD} answers to a flood"),
        said,
    )
}

/// A file from a web server at the other end, and one in the other direction.
fn fetch(vm: &Vm) -> Result<()> {
    let serve = Wire::at_peer("httpd -h /tmp/web -p 80");
    let at_peer = Wire::at_peer(&format!(
        "curl -f -sS -o /tmp/there http://{WIRE_ADDRESS}/file"
    ));
    let text = format!(
        "mkdir -p /tmp/web
         head -c {} /dev/urandom > /tmp/web/file
         {serve}
         httpd -h /tmp/web -p 80
         curl -f -sS -o /tmp/here http://{PEER_ADDRESS}/file
         {at_peer}
         cmp /tmp/here /tmp/web/file
         cmp /tmp/there /tmp/web/file
         killall httpd
         rm /tmp/here /tmp/there /tmp/web/file",
        MIB << 20
    );
    Job::start(vm, "fetch", &text)?.expect_success(TRANSFER)
}

/// From the other end, by a key.
fn login(vm: &Vm) -> Result<()> {
    let into = format!(
        "dbclient -y -y -i /tmp/key root@{WIRE_ADDRESS} 'head -c 300000 /dev/zero | sha256sum'"
    );
    let text = format!(
        "mkdir -p /root/.ssh /etc/dropbear
         echo root:x:0:0:root:/root:/bin/sh > /etc/passwd
         echo /bin/sh > /etc/shells
         chmod 700 / /root /root/.ssh
         rm -f /tmp/key
         dropbearkey -t ed25519 -f /tmp/key 2>/dev/null | grep ^ssh- > /root/.ssh/authorized_keys
         /usr/sbin/dropbear -R -s -P /tmp/dropbear.pid
         {} 2>/dev/null
         kill $(cat /tmp/dropbear.pid)
         head -c 300000 /dev/zero | sha256sum",
        Wire::at_peer(&into)
    );
    let said = script(vm, &text)?;
    let lines: Vec<&str> = said.lines().collect();
    match lines[..] {
        [over, here] if over == here => Ok(()),
        _ => Err(unmet("the same checksum over ssh and here", said)),
    }
}

/// A rule sees each frame, and one that drops leaves none.
fn filter(vm: &Vm, name: &str) -> Result<()> {
    let text = format!(
        "PATH=$PATH:/usr/sbin
         nft add table netdev t
         nft add chain netdev t in '{{ type filter hook ingress device {name} priority 0; }}'
         nft add rule netdev t in icmp type echo-reply counter"
    );
    script(vm, &text)?;
    ping(vm, PEER_ADDRESS, "")?;
    let rules = script(vm, "/usr/sbin/nft list table netdev t")?;
    expect(
        rules.contains("counter packets 3 "),
        "3 replies counted by nft",
        &rules,
    )?;
    script(
        vm,
        "/usr/sbin/nft add rule netdev t in icmp type echo-reply drop",
    )?;
    let lost = vm.try_exec(&["sh", "-c", &format!("ping -c 2 -W 1 {PEER_ADDRESS}")])?;
    script(vm, "/usr/sbin/nft delete table netdev t")?;
    expect(
        lost.stdout.contains("100% packet loss"),
        "no reply past the filter",
        lost.stdout,
    )
}

/// A capture sees both directions, with their contents.
fn capture(vm: &Vm, name: &str) -> Result<()> {
    let text = format!(
        "tcpdump -Z root -i {name} -n -c {CAPTURED} -w /tmp/capture icmp 2>/dev/null &
         sleep 2
         /usr/bin/ping -q -i 0.1 -c {CAPTURED} -p 5a {PEER_ADDRESS} > /dev/null
         wait
         tcpdump -Z root -n -x -r /tmp/capture 2>/dev/null"
    );
    let seen = script(vm, &text)?;
    for what in ["ICMP echo request", "ICMP echo reply", "5a5a 5a5a"] {
        expect(seen.contains(what), format!("{what} in a capture"), &seen)?;
    }
    Ok(())
}

/// A second Ethernet address on the same adapter.
fn macvlan(vm: &Vm, name: &str) -> Result<()> {
    let reach = Wire::at_peer("ping -c 3 -W 5 192.168.7.9");
    let text = format!(
        "{IP} link add link {name} name second type macvlan mode bridge
         {IP} netns add second
         {IP} link set second netns second
         {IP} netns exec second {IP} addr add 192.168.7.9/24 dev second
         {IP} netns exec second {IP} link set second up
         {reach}
         {IP} netns del second"
    );
    let said = script(vm, &text)?;
    expect(
        said.contains(" 0% packet loss"),
        "a second address that answers",
        said,
    )
}

/// The adapter is a port; frames of others pass through it.
fn bridge(vm: &Vm, wire: &Wire<'_>) -> Result<()> {
    let name = &wire.name;
    let reach = Wire::at_peer("ping -c 3 -W 5 192.168.7.10");
    let text = format!(
        "{IP} netns add behind
         {IP} link add inner type veth peer name outer
         {IP} link set inner netns behind
         {IP} netns exec behind {IP} addr add 192.168.7.10/24 dev inner
         {IP} netns exec behind {IP} link set inner up
         {IP} link add bridge type bridge forward_delay 0
         {IP} link set outer master bridge
         {IP} link set {name} master bridge
         {IP} link set outer up
         {IP} link set bridge up
         sleep 1
         {reach}
         {IP} link del bridge
         {IP} netns del behind
         {IP} link del outer 2>/dev/null || true"
    );
    let said = script(vm, &text)?;
    expect(
        said.contains(" 0% packet loss"),
        "somebody behind the bridge who answers",
        said,
    )?;
    wire.ping("")
}
