// SPDX-License-Identifier: GPL-2.0

//! Loads for benchmarks of networks: a number of frames that the kernel's own generator (pktgen) sends, one by one, a
//! TCP stream, and round trips by TCP.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{anyhow, ensure, Context, Result};
use nix::sched::{setns, CloneFlags};

use crate::latency::{nanoseconds, report};
use crate::protocol::{Listener, LoadReport, Packets, RoundTrips, Stream};
use crate::window::Window;

const THREAD: &str = "/proc/net/pktgen/kpktgend_0";
const CONTROL: &str = "/proc/net/pktgen/pgctrl";

/// What a stream is written and read by, in bytes.
const PIECE: usize = 64 << 10;

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

/// Send a TCP stream to somebody in another network namespace. The window has all of it, from the connection until
/// the other end has seen the end.
pub(crate) fn stream(load: &Stream) -> Result<()> {
    let total = load.mib << 20;
    let peer = Peer::listen(&load.to, |mut stream| {
        let mut buffer = vec![0; PIECE];
        let mut received = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(received),
                length => received += length,
            }
        }
    })?;

    let window = Window::begin();
    let sent = send(&load.to, total);
    let received = peer.end();
    drop(window);
    sent.context("the sender")?;
    let received = received?;
    ensure!(received == total, "{received} of {total} bytes came");
    Ok(())
}

fn send(to: &Listener, total: usize) -> Result<()> {
    let mut stream = connect(to)?;
    let piece = vec![0x5a; PIECE];
    let mut left = total;
    while left > 0 {
        let length = left.min(PIECE);
        stream.write_all(&piece[..length])?;
        left -= length;
    }
    Ok(())
}

/// Have one byte after the other sent back by somebody in another network namespace. The window has nothing but that.
pub(crate) fn round_trips(load: &RoundTrips) -> Result<LoadReport> {
    let peer = Peer::listen(&load.to, |mut stream| {
        let mut byte = [0];
        stream.set_nodelay(true)?;
        while stream.read(&mut byte)? != 0 {
            stream.write_all(&byte)?;
        }
        Ok(())
    })?;
    let mut stream = connect(&load.to)?;
    stream.set_nodelay(true)?;
    let mut latencies = vec![0; load.count];

    let window = Window::begin();
    let start = Instant::now();
    let made = trips(&mut stream, &mut latencies);
    let elapsed = start.elapsed();
    drop(window);
    drop(stream);
    made.context("the sender")?;
    peer.end()?;
    Ok(report(elapsed, latencies))
}

fn trips(stream: &mut TcpStream, latencies: &mut [u64]) -> Result<()> {
    let mut byte = [0];
    for latency in latencies {
        let start = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        *latency = nanoseconds(start.elapsed());
    }
    Ok(())
}

fn connect(to: &Listener) -> Result<TcpStream> {
    Ok(TcpStream::connect((to.address.as_str(), to.port))?)
}

/// Somebody in another network namespace.
struct Peer<T>(JoinHandle<Result<T>>);

impl<T: Send + 'static> Peer<T> {
    /// Who does this with the first who connects; he listens.
    fn listen(
        at: &Listener,
        serve: impl FnOnce(TcpStream) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let namespace =
            File::open(format!("/run/netns/{}", at.namespace)).context("the namespace")?;
        let address = (at.address.clone(), at.port);
        let (ready, is_ready) = channel();
        let peer = Self(thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("the namespace")?;
            let listener = TcpListener::bind(address).context("the receiver")?;
            // who waits for it has gone if this fails
            let _ = ready.send(());
            let (stream, _) = listener.accept()?;
            serve(stream)
        }));
        match is_ready.recv() {
            Ok(()) => Ok(peer),
            // it has told why it is gone
            Err(_) => Err(peer.end().err().context("the receiver")?),
        }
    }

    /// What he has to tell in the end.
    fn end(self) -> Result<T> {
        self.0.join().map_err(|_| anyhow!("the receiver"))?
    }
}
