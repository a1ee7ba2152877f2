// SPDX-License-Identifier: GPL-2.0

//! Layouts of what `ffi.rs` declares, asserted: the C compiler is given the same numbers in
//! `shim_layout.h`.

use super::{Piece, RawCard, RawConfig, RawLimits, RawSections, RawStats, RawTerms, Rx, Tx};
use netvsc_protocol::rss::KEY_LEN;
use static_assertions::const_assert_eq;

vmbus::mirrored! {
    RawCard, 60;
    permanent: 0, 6;
    address: 6, 6;
    ours: 12, 6;
    joined: 18, 1;
    usable: 19, 1;
    same_net: 20, 1;
    slot: 21, 32;
    slot_len: 56, 4;
}

vmbus::mirrored! {
    Piece, 16;
    phys: 0, 8;
    len: 8, 4;
    unused: 12, 4;
}

vmbus::mirrored! {
    Tx, 320;
    data: 0, 8;
    phys: 8, 8;
    len: 16, 4;
    linear: 20, 4;
    pieces: 24, 4;
    hash: 28, 4;
    queue: 32, 2;
    vlan: 34, 2;
    mss: 36, 2;
    offset: 38, 2;
    task: 40, 1;
    ipv6: 41, 1;
    udp: 42, 1;
    tagged: 43, 1;
    more: 44, 1;
    linearized: 45, 1;
    piece: 48, 272;
}

vmbus::mirrored! {
    Rx, 12;
    hash: 0, 4;
    vlan: 4, 2;
    hashed: 6, 1;
    tagged: 7, 1;
    l4_good: 8, 1;
    fill_ip: 9, 1;
}

vmbus::mirrored! {
    RawTerms, 16;
    mtu: 0, 4;
    max_mtu: 4, 4;
    tso_max: 8, 4;
    checksums: 12, 1;
    tso4: 13, 1;
    tso6: 14, 1;
    coalesce: 15, 1;
}

vmbus::mirrored! {
    RawConfig, 40;
    address: 0, 8;
    alias: 8, 8;
    alias_len: 16, 4;
    terms: 20, 16;
}

vmbus::mirrored! {
    RawLimits, 8;
    now: 0, 4;
    most: 4, 4;
}

vmbus::mirrored! {
    RawSections, 16;
    receive: 0, 4;
    receive_most: 4, 4;
    send: 8, 4;
    send_most: 12, 4;
}

vmbus::mirrored! {
    RawStats, 64;
    rx_packets: 0, 8;
    rx_bytes: 8, 8;
    rx_dropped: 16, 8;
    rx_errors: 24, 8;
    multicast: 32, 8;
    tx_packets: 40, 8;
    tx_bytes: 48, 8;
    tx_dropped: 56, 8;
}

// The key of `hv_netvsc_rust_spread` and `hv_netvsc_rust_set_spread`.
const_assert_eq!(KEY_LEN, 40);
