// SPDX-License-Identifier: GPL-2.0

//! A load for benchmarks of networks: a number of frames that the kernel's own generator (pktgen)
//! sends, one by one.

use std::fs;
use std::net::UdpSocket;

use anyhow::{ensure, Context, Result};

use crate::protocol::Packets;
use crate::window::Window;

const THREAD: &str = "/proc/net/pktgen/kpktgend_0";
const CONTROL: &str = "/proc/net/pktgen/pgctrl";

/// Send the frames. The window has what is done from the first until the generator's starter has
/// seen that all are sent, and looks only every 100 ms, so that all are received too.
pub(crate) fn packets(load: &Packets) -> Result<()> {
    // Who receives them: its buffer is full soon, and then it drops them.
    let _receiver = UdpSocket::bind(("0.0.0.0", load.port)).context("the receiver")?;
    let device = format!("/proc/net/pktgen/{}", load.device);

    tell(THREAD, "rem_device_all")?;
    tell(THREAD, &format!("add_device {}", load.device))?;
    for setting in [
        format!("count {}", load.count),
        format!("pkt_size {}", load.size),
        format!("dst_mac {}", load.to_mac),
        format!("dst {}", load.to),
        format!("src_min {}", load.from),
        format!("src_max {}", load.from),
        format!("udp_src_min {0}", load.port),
        format!("udp_src_max {0}", load.port),
        format!("udp_dst_min {0}", load.port),
        format!("udp_dst_max {0}", load.port),
        "clone_skb 0".into(),
        "delay 0".into(),
        // each frame is the driver's own, as those of a socket
        "flag !SHARED".into(),
    ] {
        tell(&device, &setting)?;
    }

    let window = Window::begin();
    let sent = fs::write(CONTROL, "start");
    drop(window);
    sent.context(CONTROL)?;

    let told = fs::read_to_string(&device)?;
    ensure!(
        told.contains(&format!("pkts-sofar: {}  errors: 0", load.count)),
        "not all were sent: {told}"
    );
    Ok(())
}

/// One setting is one `write`.
fn tell(file: &str, what: &str) -> Result<()> {
    fs::write(file, what).with_context(|| format!("{what} to {file}"))
}
