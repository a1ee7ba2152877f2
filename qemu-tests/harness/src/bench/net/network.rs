// SPDX-License-Identifier: GPL-2.0

//! The interfaces of a guest that is measured, and what is sent over them.

use anyhow::{Context, Result};
use vmbus_guest::protocol::Packets;

use super::variant::{FEED_MAC, RECEIVER_MAC, SENDER_MAC};
use crate::bench::script::{Results, Script};
use crate::failure::expect;
use crate::net::IP;

/// Somebody who is not there: the host does not give on what is sent to him.
const NOBODY: &str = "52:54:00:00:20:99";
/// Ethernet address of one end of a pair of interfaces without a device.
const PAIR_MAC: &str = "52:54:00:00:20:05";
/// A port that nobody else uses.
const PORT: u16 = 9;

/// What is done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Way {
    /// An adapter sends it.
    Send,
    /// The kernel's `dummy` drops it at once: the floor of sending.
    Drop,
    /// An adapter receives what another one sends.
    Receive,
    /// The other one sends it to nobody, which costs what sending costs.
    Feed,
    /// One end of a pair (`veth`) gives it to the other at once, which receives it: with [`Self::Drop`],
    /// the floor of receiving.
    Loop,
}

/// So many frames, of so many bytes.
pub(in crate::bench) fn frames(way: Way, size: usize, count: usize) -> Packets {
    let (device, to_mac, net) = match way {
        Way::Send => ("nut-tx", NOBODY, 8),
        Way::Drop => ("dummy0", NOBODY, 8),
        Way::Receive => ("feed", RECEIVER_MAC, 9),
        Way::Feed => ("feed", NOBODY, 9),
        Way::Loop => ("pair", PAIR_MAC, 10),
    };
    Packets {
        device: device.into(),
        size,
        count,
        to_mac: to_mac.into(),
        to: format!("192.168.{net}.2"),
        from: format!("192.168.{net}.1"),
        port: PORT,
    }
}

/// Load a driver, set all interfaces up, and rest. Takes [`STEPS`] steps.
pub(in crate::bench) fn set_up(script: &mut Script, module: &str) {
    script.exec(&[
        "modprobe", "-a", module, "e1000e", "dummy", "veth", "pktgen",
    ]);
    // nobody says anything by himself
    script.shell("echo 1 | tee /proc/sys/net/ipv6/conf/*/disable_ipv6 > /dev/null");
    let named = [
        (SENDER_MAC, "nut-tx"),
        (RECEIVER_MAC, "nut-rx"),
        (FEED_MAC, "feed"),
    ];
    for (mac, name) in named {
        script.shell(&format!(
            "cd /sys/class/net
             tries=600
             until old=$(grep -l '^{mac}$' */address) && old=${{old%%/*}}; do
                 tries=$((tries - 1))
                 [ $tries -gt 0 ] || {{ echo no interface {mac} >&2; exit 1; }}
                 sleep 0.1
             done
             {IP} link set $old name {name} && {IP} link set {name} up"
        ));
    }
    script.shell(&format!(
        "{IP} link add pair type veth peer name riap address {PAIR_MAC}
         for name in dummy0 pair riap; do {IP} link set $name up; done
         {IP} addr add 192.168.9.2/24 dev nut-rx
         {IP} addr add 192.168.10.2/24 dev riap
         tries=600
         until [ $(cat /sys/class/net/nut-tx/carrier)$(cat /sys/class/net/nut-rx/carrier)$(cat /sys/class/net/feed/carrier) = 111 ]; do
             tries=$((tries - 1))
             [ $tries -gt 0 ] || {{ echo no carrier >&2; exit 1; }}
             sleep 0.1
         done
         sleep 5"
    ));
}

/// Ask how many frames the adapter that receives has received.
pub(in crate::bench) fn ask_received(script: &mut Script) {
    script.exec(&["cat", "/sys/class/net/nut-rx/statistics/rx_packets"]);
}

/// What came of [`ask_received`].
pub(in crate::bench) fn received(results: &mut Results) -> Result<u64> {
    let text = results.text()?;
    text.trim().parse().context("a counter of frames")
}

/// Between two of these counts, so many frames were to be received if that is what was done, else none.
pub(in crate::bench) fn expect_received(
    way: Way,
    frames: usize,
    before: u64,
    after: u64,
) -> Result<()> {
    let wanted = if way == Way::Receive {
        frames as u64
    } else {
        0
    };
    expect(
        after.checked_sub(before) == Some(wanted),
        format!("{wanted} frames received"),
        format!("a counter of {before} before and {after} after"),
    )
}

/// See [`set_up`].
pub(in crate::bench) const STEPS: usize = 6;

#[cfg(test)]
mod tests {
    use super::{expect_received, Way};

    #[test]
    fn a_frame_that_is_lost_is_missed() {
        assert!(expect_received(Way::Receive, 10, 5, 15).is_ok());
        assert!(expect_received(Way::Receive, 10, 5, 14).is_err());
        assert!(expect_received(Way::Receive, 10, 5, 4).is_err());
        assert!(expect_received(Way::Feed, 10, 5, 5).is_ok());
        assert!(expect_received(Way::Send, 10, 5, 6).is_err());
    }
}
