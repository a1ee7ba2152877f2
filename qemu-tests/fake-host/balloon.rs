// SPDX-License-Identifier: GPL-2.0

//! Dynamic Memory messages of the host, byte by byte.

/// A message with a head that claims `size` bytes.
pub fn message(kind: u16, size: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&7u32.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A message whose head is right about its size.
pub fn honest(kind: u16, body: &[u8]) -> Vec<u8> {
    message(kind, (body.len() + 8) as u16, body)
}

/// VERSION_RESPONSE or CAPABILITIES_RESPONSE.
pub fn accepted(kind: u16, accepted: bool) -> Vec<u8> {
    honest(kind, &u64::from(accepted).to_le_bytes())
}

/// BALLOON_REQUEST.
pub fn balloon(pages: u32) -> Vec<u8> {
    honest(6, &u64::from(pages).to_le_bytes())
}

/// A range on the wire.
pub fn range(start: u64, count: u64) -> u64 {
    (start & 0xff_ffff_ffff) | (count << 40)
}

/// The body of an unballoon request with any count.
pub fn unballoon_body(more: bool, range_count: u32, ranges: &[u64]) -> Vec<u8> {
    let mut body = u32::from(more).to_le_bytes().to_vec();
    body.extend_from_slice(&range_count.to_le_bytes());
    for range in ranges {
        body.extend_from_slice(&range.to_le_bytes());
    }
    body
}

/// UNBALLOON_REQUEST.
pub fn unballoon(more: bool, ranges: &[u64]) -> Vec<u8> {
    honest(8, &unballoon_body(more, ranges.len() as u32, ranges))
}

/// HOT_ADD_REQUEST without a region.
pub fn hot_add(range: u64) -> Vec<u8> {
    honest(10, &range.to_le_bytes())
}

/// HOT_ADD_REQUEST with a region.
pub fn hot_add_region(range: u64, region: u64) -> Vec<u8> {
    let mut body = range.to_le_bytes().to_vec();
    body.extend_from_slice(&region.to_le_bytes());
    honest(10, &body)
}

/// INFO_MESSAGE.
pub fn info(info_type: u32, data: &[u8]) -> Vec<u8> {
    let mut body = 0u32.to_le_bytes().to_vec();
    body.extend_from_slice(&((data.len() + 8) as u32).to_le_bytes());
    body.extend_from_slice(&info_type.to_le_bytes());
    body.extend_from_slice(&(data.len() as u32).to_le_bytes());
    body.extend_from_slice(data);
    honest(12, &body)
}
