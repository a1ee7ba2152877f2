// SPDX-License-Identifier: GPL-2.0

//! A load that compares: a TCP connection between two network namespaces of this guest, whose ends both send what
//! they can, and look whether what comes is what the other one sends.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{anyhow, Context, Result};
use nix::sched::{setns, CloneFlags};

/// What is written and read at a time, in bytes.
const PIECE: usize = 16 << 10;
const WORD: usize = size_of::<u64>();
const PORT: u16 = 7000;
const LOOK: Duration = Duration::from_millis(20);

/// Who sends.
const HERE: u64 = 0x5a << 56;
const THERE: u64 = 0xa5 << 56;

/// How a direction ended. What comes to its end because all is stopped is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Closed,
    Mismatch,
}

/// `ADDRESS NAMESPACE PREFIX`: until there is `PREFIX.stop`. `PREFIX.bytes` has how many bytes have come and were
/// compared, of the direction that has fewer. The status is 0, 2 if the connection ended before it was told to, and 3
/// for wrong data.
pub fn main(arguments: &[String]) -> Result<ExitCode> {
    let [address, namespace, prefix] = arguments else {
        anyhow::bail!("usage: verify-stream ADDRESS NAMESPACE PREFIX");
    };
    let stop = format!("{prefix}.stop");
    let (here, there) = connect(address, namespace)?;
    let ends = [here.try_clone()?, there.try_clone()?];
    let directions = [
        Direction::start(&here, &there, HERE)?,
        Direction::start(&there, &here, THERE)?,
    ];
    let mut told = 0;
    let broken = loop {
        if Path::new(&stop).exists() {
            break false;
        }
        if directions.iter().any(Direction::has_ended) {
            break true;
        }
        let least = directions.iter().map(Direction::bytes).min().unwrap_or(0);
        if least != told {
            told = least;
            tell(prefix, told)?;
        }
        thread::sleep(LOOK);
    };
    for end in ends {
        // it may be closed already
        let _ = end.shutdown(Shutdown::Both);
    }
    let mut wrong = false;
    for direction in directions {
        wrong |= direction.join() == End::Mismatch;
    }
    Ok(ExitCode::from(match (wrong, broken) {
        (true, _) => 3,
        (false, true) => 2,
        (false, false) => 0,
    }))
}

/// A reader of the file sees one number or the other.
fn tell(prefix: &str, bytes: u64) -> Result<()> {
    let new = format!("{prefix}.bytes.new");
    fs::write(&new, bytes.to_string())?;
    fs::rename(&new, format!("{prefix}.bytes")).context("the bytes told")
}

/// Both ends of a connection to this address, which the namespace has.
fn connect(address: &str, namespace: &str) -> Result<(TcpStream, TcpStream)> {
    let namespace = File::open(format!("/run/netns/{namespace}")).context("the namespace")?;
    let whom = address.to_owned();
    let listener = thread::spawn(move || -> Result<TcpListener> {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("the namespace")?;
        TcpListener::bind((whom.as_str(), PORT)).context("the listener")
    });
    let listener = listener.join().map_err(|_| anyhow!("the listener"))??;
    let here = TcpStream::connect((address, PORT)).context("the connection")?;
    let (there, _) = listener.accept()?;
    Ok((here, there))
}

/// One end writes, the other reads.
struct Direction {
    writer: JoinHandle<()>,
    reader: JoinHandle<End>,
    compared: Arc<AtomicU64>,
}

impl Direction {
    fn start(from: &TcpStream, to: &TcpStream, who: u64) -> Result<Self> {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        let compared = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&compared);
        Ok(Self {
            writer: thread::spawn(move || write(&mut from, who)),
            reader: thread::spawn(move || read(&mut to, who, &counter)),
            compared,
        })
    }

    fn bytes(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    fn has_ended(&self) -> bool {
        self.writer.is_finished() || self.reader.is_finished()
    }

    fn join(self) -> End {
        let written = self.writer.join();
        let read = self.reader.join().unwrap_or(End::Mismatch);
        written.map_or(End::Mismatch, |()| read)
    }
}

/// Sends until the connection ends.
fn write(stream: &mut impl Write, who: u64) {
    let mut piece = vec![0; PIECE];
    for number in 0.. {
        fill(&mut piece, who, number);
        if let Err(e) = stream.write_all(&piece) {
            println!("verify-stream: write: {e}");
            return;
        }
    }
}

/// Compares until the connection ends, or something else comes.
fn read(stream: &mut impl Read, who: u64, compared: &AtomicU64) -> End {
    let (mut piece, mut wanted) = (vec![0; PIECE], vec![0; PIECE]);
    for number in 0.. {
        match stream.read_exact(&mut piece) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return End::Closed,
            Err(e) => {
                println!("verify-stream: read: {e}");
                return End::Closed;
            }
        }
        fill(&mut wanted, who, number);
        if piece != wanted {
            println!("verify-stream: wrong data in piece {number}");
            return End::Mismatch;
        }
        compared.fetch_add(PIECE as u64, Ordering::Relaxed);
    }
    End::Closed
}

/// The piece with this number: each of its words is another one, and in no other piece.
fn fill(piece: &mut [u8], who: u64, number: u64) {
    let first = number * (PIECE / WORD) as u64;
    for (at, word) in piece.chunks_exact_mut(WORD).enumerate() {
        word.copy_from_slice(&(who | (first + at as u64)).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{fill, read, End, HERE, PIECE, THERE};
    use std::sync::atomic::{AtomicU64, Ordering};

    fn pieces(who: u64, numbers: &[u64]) -> Vec<u8> {
        let mut all = Vec::new();
        for number in numbers {
            let mut piece = vec![0; PIECE];
            fill(&mut piece, who, *number);
            all.extend(piece);
        }
        all
    }

    fn compare(bytes: &[u8]) -> (End, u64) {
        let compared = AtomicU64::new(0);
        let end = read(&mut &bytes[..], HERE, &compared);
        (end, compared.load(Ordering::Relaxed) / PIECE as u64)
    }

    #[test]
    fn what_was_sent_is_told_from_other_data() {
        assert_eq!(compare(&pieces(HERE, &[0, 1, 2])), (End::Closed, 3));
        assert_eq!(compare(&pieces(HERE, &[0, 2])), (End::Mismatch, 1));
        assert_eq!(compare(&pieces(HERE, &[0, 0])), (End::Mismatch, 1));
        assert_eq!(compare(&pieces(THERE, &[0])), (End::Mismatch, 0));
        let mut one_bit = pieces(HERE, &[0, 1]);
        one_bit[PIECE + 5000] ^= 1;
        assert_eq!(compare(&one_bit), (End::Mismatch, 1));
    }
}
