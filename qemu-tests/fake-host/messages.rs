// SPDX-License-Identifier: GPL-2.0

//! Channel messages of the host, byte by byte.

/// A message of `words` after the 8-byte header.
pub fn words(kind: u32, words: &[u32]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend_from_slice(&[0; 4]);
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Values of an offer.
#[derive(Clone, Debug)]
pub struct OfferSpec {
    /// Class, in wire order.
    pub class: [u8; 16],
    /// Instance, in wire order.
    pub instance: [u8; 16],
    /// Flags.
    pub flags: u16,
    /// Sub-channel index.
    pub sub_channel_index: u16,
    /// Relid.
    pub relid: u32,
    /// Monitor id; `None` leaves the allocated bit clear.
    pub monitor_id: Option<u8>,
    /// Connection id.
    pub connection_id: u32,
}

impl OfferSpec {
    /// A primary channel of a class; the instance is made of the relid.
    pub fn new(class: vmbus_protocol::Guid, relid: u32) -> Self {
        let mut instance = [0x11; 16];
        instance[..4].copy_from_slice(&relid.to_le_bytes());
        OfferSpec {
            class: class.to_bytes(),
            instance,
            flags: 0,
            sub_channel_index: 0,
            relid,
            monitor_id: None,
            connection_id: relid ^ 0x1_0000,
        }
    }

    /// The message.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = words(1, &[]);
        bytes.extend_from_slice(&self.class);
        bytes.extend_from_slice(&self.instance);
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&[0; 120]);
        bytes.extend_from_slice(&self.sub_channel_index.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.relid.to_le_bytes());
        bytes.push(self.monitor_id.unwrap_or(0));
        bytes.push(u8::from(self.monitor_id.is_some()));
        bytes.extend_from_slice(&1u16.to_le_bytes());
        bytes.extend_from_slice(&self.connection_id.to_le_bytes());
        assert_eq!(bytes.len(), 196);
        bytes
    }
}

/// RESCIND.
pub fn rescind(relid: u32) -> Vec<u8> {
    words(2, &[relid])
}

/// ALLOFFERS_DELIVERED.
pub fn all_offers() -> Vec<u8> {
    words(4, &[])
}

/// OPENCHANNEL_RESULT.
pub fn open_result(relid: u32, open_id: u32, status: u32) -> Vec<u8> {
    words(6, &[relid, open_id, status])
}

/// GPADL_CREATED.
pub fn gpadl_created(relid: u32, gpadl: u32, status: u32) -> Vec<u8> {
    words(10, &[relid, gpadl, status])
}

/// GPADL_TORNDOWN.
pub fn gpadl_torndown(gpadl: u32) -> Vec<u8> {
    words(12, &[gpadl])
}

/// VERSION_RESPONSE.
pub fn version_response(supported: bool, msg_conn_id: u32) -> Vec<u8> {
    words(15, &[u32::from(supported), msg_conn_id])
}

/// UNLOAD_RESPONSE.
pub fn unload_response() -> Vec<u8> {
    words(17, &[])
}

/// MODIFYCHANNEL_RESPONSE.
pub fn modify_response(relid: u32, status: u32) -> Vec<u8> {
    words(24, &[relid, status])
}

/// Every message type the host sends, with its shortest length.
pub const HOST_MESSAGES: [(u32, usize); 10] = [
    (1, 196),
    (2, 12),
    (4, 8),
    (6, 20),
    (10, 20),
    (12, 12),
    (15, 16),
    (17, 8),
    (23, 44),
    (24, 16),
];

/// A zero-filled message of a type and length.
pub fn blank(kind: u32, len: usize) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.resize(len, 0);
    bytes
}
