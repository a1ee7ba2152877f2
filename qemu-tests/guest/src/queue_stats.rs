// SPDX-License-Identifier: GPL-2.0

//! What an interface has counted for each of its queues, and in all, by the netlink family `netdev` (Linux:
//! `include/uapi/linux/netdev.h`), which no program that guests have asks.

use std::fmt::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{bail, ensure, Context, Result};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    bind, recv, send, socket, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol,
    SockType,
};

/// The family of families, its command and attributes (`include/uapi/linux/genetlink.h`).
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const QSTATS_GET: u8 = 12;
const IFINDEX: u16 = 1;
const QUEUE_TYPE: u16 = 2;
const QUEUE_ID: u16 = 3;
const SCOPE: u16 = 4;
const SCOPE_QUEUE: u32 = 1;
const RX_PACKETS: u16 = 8;
const RX_BYTES: u16 = 9;
const TX_PACKETS: u16 = 10;
const TX_BYTES: u16 = 11;

/// Of a message, and of the family's part of it.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Lines of a scope (`rx 0`, `tx 0`, ..., `all`), each with packets and bytes received, then sent; `-` stands for
/// what was not counted.
pub(crate) fn of(device: &str) -> Result<String> {
    let index = if_nametoindex(device).with_context(|| device.to_owned())?;
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkGeneric,
    )
    .context("netlink")?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0)).context("netlink")?;

    let name = attribute(FAMILY_NAME, b"netdev\0");
    let family = ask(&netlink, CONTROLLER, GET_FAMILY, 0, &name)?;
    let family = family
        .iter()
        .find_map(|message| number(message, FAMILY_ID))
        .context("no netlink family netdev")?;
    let family = u16::try_from(family)?;

    let mut text = String::new();
    let interface = attribute(IFINDEX, &index.to_ne_bytes());
    let by_queue = [
        interface.clone(),
        attribute(SCOPE, &SCOPE_QUEUE.to_ne_bytes()),
    ]
    .concat();
    for question in [interface, by_queue] {
        for message in ask(&netlink, family, QSTATS_GET, DUMP, &question)? {
            match (number(&message, QUEUE_TYPE), number(&message, QUEUE_ID)) {
                (Some(0), Some(queue)) => write!(text, "rx {queue}")?,
                (Some(1), Some(queue)) => write!(text, "tx {queue}")?,
                (None, None) => text.push_str("all"),
                other => bail!("a queue of {other:?}"),
            }
            for counter in [RX_PACKETS, RX_BYTES, TX_PACKETS, TX_BYTES] {
                match number(&message, counter) {
                    Some(value) => write!(text, " {value}")?,
                    None => text.push_str(" -"),
                }
            }
            text.push('\n');
        }
    }
    Ok(text)
}

fn attribute(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = 4 + data.len();
    let mut bytes = u16::try_from(length).unwrap_or(0).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// The attributes of each answer.
fn ask(
    netlink: &OwnedFd,
    family: u16,
    command: u8,
    flags: u16,
    attributes: &[u8],
) -> Result<Vec<Vec<u8>>> {
    let length = HEADER + FAMILY_HEADER + attributes.len();
    let mut message = u32::try_from(length)?.to_ne_bytes().to_vec();
    message.extend(family.to_ne_bytes());
    message.extend((REQUEST | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    send(netlink.as_raw_fd(), &message, MsgFlags::empty()).context("netlink")?;

    let mut answers = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let received =
            recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty()).context("netlink")?;
        let mut rest = &buffer[..received];
        while rest.len() >= HEADER {
            let length = u32::from_ne_bytes(rest[..4].try_into()?) as usize;
            let kind = u16::from_ne_bytes(rest[4..6].try_into()?);
            ensure!(
                (HEADER..=rest.len()).contains(&length),
                "a message of {length} bytes"
            );
            let body = &rest[HEADER..length];
            match kind {
                // of a dump that fails, too
                DONE | ERROR => {
                    let error = body.get(..4).context("an end without a number")?;
                    let error = i32::from_ne_bytes(error.try_into()?);
                    ensure!(error == 0, "netlink says {error}");
                    return Ok(answers);
                }
                _ => answers.push(body.get(FAMILY_HEADER..).unwrap_or_default().to_vec()),
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
        if flags & DUMP == 0 {
            return Ok(answers);
        }
    }
}

/// An attribute that is a number.
fn number(mut attributes: &[u8], wanted: u16) -> Option<u64> {
    while let [low, high, kind_low, kind_high, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let data = attributes.get(4..length)?;
        if u16::from_ne_bytes([kind_low, kind_high]) == wanted {
            return match *data {
                [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
                [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
                _ => Some(u64::from_ne_bytes(data.try_into().ok()?)),
            };
        }
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{attribute, number};

    #[test]
    fn numbers_are_found_in_any_size() {
        let attributes = [
            attribute(1, &7_u16.to_ne_bytes()),
            attribute(2, &8_u32.to_ne_bytes()),
            attribute(3, &9_u64.to_ne_bytes()),
        ]
        .concat();
        assert_eq!(
            [1, 2, 3, 4].map(|kind| number(&attributes, kind)),
            [Some(7), Some(8), Some(9), None]
        );
        // cut off in the middle
        assert_eq!(number(&attributes[..6], 2), None);
    }
}
