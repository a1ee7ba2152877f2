// SPDX-License-Identifier: GPL-2.0

//! The guest gets an address, fetches a file, and is logged in to.

use std::process::Command;

use anyhow::{bail, Context as _, Result};
use serde_json::json;

use super::Say;
use crate::failure::expect;
use crate::level::Level;
use crate::net::{self, IP, USER};
use crate::paths::Paths;
use crate::programs;
use crate::storage::script;
use crate::vm::Vm;

/// Where the host's side of the network has a web server, which is [`SERVER`].
const WEB: &str = "http://10.0.2.100";

/// How much the guest fetches.
const FETCHED_MIB: u64 = 32;

/// The web server: QEMU runs it for each connection. Its file has no two pieces that are the same.
pub(super) const SERVER: &str = r#"read -r method path rest
end=$(printf '\r')
while read -r header && [ "$header" != "$end" ]; do :; done
file() { seq 5000000 | head -c 33554432; }
printf 'HTTP/1.0 200 OK\r\n\r\n'
case $path in
/file) file ;;
/file.sha256) file | sha256sum ;;
esac
"#;

/// A login and what it runs take a second or two.
const LOGIN_SECS: u32 = 60;

/// What udhcpc calls with what it got.
const ON_LEASE: &str = r#"#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr replace "$ip/24" dev "$interface"
ip route replace default via "$router" dev "$interface"
"#;

/// Give the network interface an address and start a server for ssh; the interface's name.
pub(super) fn start(vm: &Vm) -> Result<String> {
    let name = net::wait_for(vm, USER)?;
    vm.write("/tmp/on-lease", ON_LEASE)?;
    script(
        vm,
        &format!(
            "chmod +x /tmp/on-lease
             busybox ip link set lo up
             busybox udhcpc -i {name} -n -q -t 5 -s /tmp/on-lease
             mkdir -p /dev/pts
             mount -t devpts devpts /dev/pts
             dropbear -R -s"
        ),
    )?;
    Ok(name)
}

/// Fetch a file, and log in; gives what was measured, in words.
pub(super) fn show(say: Say<'_>, vm: &Vm, paths: &Paths, name: &str) -> Result<String> {
    let address = script(vm, &format!("{IP} -4 -o addr show dev {name}"))?;
    let address = address.split_whitespace().nth(3).unwrap_or("(none)");
    say(&format!(
        "network {name}: {address}; a file of {FETCHED_MIB} MiB by {WEB}"
    ));
    let out = script(
        vm,
        &format!(
            "curl -f -sS {WEB}/file.sha256
             cut -d' ' -f1 /proc/uptime
             curl -f -sS -o /tmp/file {WEB}/file
             cut -d' ' -f1 /proc/uptime
             sha256sum < /tmp/file"
        ),
    )?;
    let lines: Vec<&str> = out.lines().collect();
    let [there, began, ended, here] = lines[..] else {
        bail!("the guest's script printed '{out}'");
    };
    let seconds = ended.parse::<f64>()? - began.parse::<f64>()?;
    let rate = FETCHED_MIB as f64 / seconds.max(0.01);
    say(&format!("  at the host  sha256 {}", digest(there)));
    say(&format!(
        "  fetched      sha256 {}  {rate:5.0} MiB/s",
        digest(here)
    ));
    expect(there == here, format!("sha256 {there}"), here)?;

    let login = match port(vm)? {
        None => "no way in through level 1".to_owned(),
        Some(port) => {
            let said = log_in(paths, port, "sha256sum < /tmp/file; uname -nr")?;
            let mut lines = said.lines();
            let again = lines.next().unwrap_or_default();
            say(&format!("  over ssh     sha256 {}", digest(again)));
            expect(again == there, format!("sha256 {there} over ssh"), again)?;
            "logged in to by ssh".to_owned()
        }
    };
    let counted = script(
        vm,
        &format!("cd /sys/class/net/{name}/statistics; cat rx_packets tx_packets rx_errors tx_errors rx_dropped tx_dropped"),
    )?;
    let counted: Vec<&str> = counted.lines().collect();
    if let [received, sent, rest @ ..] = &counted[..] {
        say(&format!(
            "  frames       {received} received, {sent} sent, {} errors or drops\n",
            rest.iter()
                .filter_map(|n| n.parse::<u64>().ok())
                .sum::<u64>()
        ));
    }
    Ok(format!(
        "{FETCHED_MIB} MiB fetched at {rate:.0} MiB/s, the same; {login}"
    ))
}

fn digest(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// The port of this machine that leads to the guest's ssh. Level 1 has no network.
pub(super) fn port(vm: &Vm) -> Result<Option<u16>> {
    if vm.level() == Level::Nested {
        return Ok(None);
    }
    let said = vm.qmp(
        "human-monitor-command",
        &json!({ "command-line": "info usernet" }),
    )?;
    forwarded(said.as_str().unwrap_or_default())
        .map(Some)
        .with_context(|| format!("no forwarded port in '{said}'"))
}

/// The host's port in what `info usernet` prints: protocol and state, descriptor, address, port.
fn forwarded(said: &str) -> Option<u16> {
    let line = said
        .lines()
        .find(|line| line.contains("TCP[HOST_FORWARD]"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Run something in the guest by ssh.
fn log_in(paths: &Paths, port: u16, what: &str) -> Result<String> {
    let mut ssh: Command =
        programs::command_within(LOGIN_SECS, &paths.guest_tools, "/usr/bin/dbclient");
    let done = ssh
        .args(["-y", "-y", "-i"])
        .arg(paths.guest_key())
        .args(["-p", &port.to_string(), "root@127.0.0.1", what])
        .output()
        .context("dbclient")?;
    expect(
        done.status.success(),
        format!("a login by ssh at port {port} within {LOGIN_SECS} s"),
        format!("{}: {}", done.status, String::from_utf8_lossy(&done.stderr)),
    )?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::{forwarded, FETCHED_MIB, SERVER};

    #[test]
    fn the_forwarded_port_is_found() {
        let said = "Hub -1 (user):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n\
                    \x20 TCP[HOST_FORWARD]  12       127.0.0.1 41235       10.0.2.15    22     0     0\r\n";
        assert_eq!(forwarded(said), Some(41235));
        assert_eq!(forwarded("nothing"), None);
    }

    #[test]
    fn the_server_sends_what_is_measured() {
        assert!(SERVER.contains(&format!("-c {};", FETCHED_MIB << 20)));
        let answer = |path: &str| {
            let mut sh = Command::new("sh")
                .args(["-c", SERVER])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
            sh.stdin
                .take()
                .unwrap()
                .write_all(request.as_bytes())
                .unwrap();
            let said = sh.wait_with_output().unwrap().stdout;
            let head = b"HTTP/1.0 200 OK\r\n\r\n";
            said.strip_prefix(head).unwrap().to_owned()
        };
        assert_eq!(answer("/file").len() as u64, FETCHED_MIB << 20);
        assert_eq!(answer("/file.sha256").len(), 68);
    }
}
