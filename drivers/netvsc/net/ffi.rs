// SPDX-License-Identifier: GPL-2.0

//! C functions that `kernel::bindings` does not have: those of `shim.h`, and
//! exports of the network stack, whose headers it does not cover. The numbers of constants are
//! asserted in `shim_layout.h`, as layouts are.

use kernel::{
    bindings::device,
    ffi::{c_int, c_uint, c_void},
};

mod layout;

/// `struct net_device`, seen as a whole only.
#[repr(C)]
pub(super) struct net_device([u8; 0]);

/// `struct sk_buff`, seen as a whole only.
#[repr(C)]
pub(super) struct sk_buff([u8; 0]);

/// `struct napi_struct`, seen as a whole only.
#[repr(C)]
pub(super) struct napi_struct([u8; 0]);

/// `struct hv_netvsc_shim_notifier`, seen as a whole only.
#[repr(C)]
pub(super) struct notifier([u8; 0]);

/// `HV_NETVSC_SHIM_FRAGS`.
pub(super) const FRAGS: usize = 17;
/// `HV_NETVSC_SHIM_HEADROOM`.
pub(super) const HEADROOM: usize = 104;

/// `enum hv_netvsc_shim_task`.
pub(super) mod task {
    pub(in super::super) const CHECKSUM: u8 = 1;
    pub(in super::super) const SEGMENT: u8 = 2;
}

/// Checksums that the host can fill in.
pub(super) mod checksum {
    pub(in super::super) const TCP4: u8 = 1;
    pub(in super::super) const UDP4: u8 = 2;
    pub(in super::super) const TCP6: u8 = 4;
    pub(in super::super) const UDP6: u8 = 8;
}

/// `enum hv_netvsc_shim_drop`.
pub(super) mod drop {
    pub(in super::super) const NO_MEMORY: u32 = 0;
    pub(in super::super) const TOO_BIG: u32 = 1;
    pub(in super::super) const VLAN: u32 = 2;
}

/// `enum hv_netvsc_shim_cast`.
pub(super) mod cast {
    pub(in super::super) const UNICAST: u32 = 0;
    pub(in super::super) const MULTICAST: u32 = 1;
    pub(in super::super) const DROPPED: u32 = 2;
    pub(in super::super) const XDP_DROPPED: u32 = 4;
    pub(in super::super) const XDP_SENT: u32 = 5;
    pub(in super::super) const XDP_REDIRECTED: u32 = 6;
}

/// `enum hv_netvsc_shim_card_event`.
pub(super) mod card_event {
    pub(in super::super) const BEGINS: u32 = 0;
    pub(in super::super) const APPEARS: u32 = 1;
    pub(in super::super) const CLOSES: u32 = 3;
    pub(in super::super) const GOES: u32 = 4;
}

/// `struct hv_netvsc_shim_card`.
#[repr(C)]
pub(super) struct RawCard {
    pub(super) permanent: [u8; 6],
    pub(super) address: [u8; 6],
    pub(super) ours: [u8; 6],
    pub(super) joined: bool,
    pub(super) usable: bool,
    pub(super) same_net: bool,
    pub(super) slot: [u8; 32],
    pub(super) slot_len: u32,
}

/// `struct hv_netvsc_shim_piece`.
#[repr(C)]
pub(super) struct Piece {
    pub(super) phys: u64,
    pub(super) len: u32,
    unused: u32,
}

/// `struct hv_netvsc_shim_tx`.
#[repr(C)]
pub(super) struct Tx {
    pub(super) data: *mut u8,
    pub(super) phys: u64,
    pub(super) len: u32,
    pub(super) linear: u32,
    pub(super) pieces: u32,
    pub(super) hash: u32,
    pub(super) queue: u16,
    pub(super) vlan: u16,
    pub(super) mss: u16,
    pub(super) offset: u16,
    pub(super) task: u8,
    pub(super) ipv6: bool,
    pub(super) udp: bool,
    pub(super) tagged: bool,
    pub(super) more: bool,
    pub(super) linearized: bool,
    pub(super) piece: [Piece; FRAGS],
}

/// `struct hv_netvsc_shim_rx`.
#[repr(C)]
pub(super) struct Rx {
    pub(super) hash: u32,
    pub(super) vlan: u16,
    pub(super) hashed: bool,
    pub(super) tagged: bool,
    pub(super) l4_good: bool,
    pub(super) fill_ip: bool,
}

/// `struct hv_netvsc_shim_terms`.
#[repr(C)]
pub(super) struct RawTerms {
    pub(super) mtu: u32,
    pub(super) max_mtu: u32,
    pub(super) tso_max: u32,
    pub(super) checksums: u8,
    pub(super) tso4: bool,
    pub(super) tso6: bool,
    pub(super) coalesce: bool,
}

/// `struct hv_netvsc_shim_config`.
#[repr(C)]
pub(super) struct RawConfig {
    pub(super) address: *const u8,
    pub(super) alias: *const u8,
    pub(super) alias_len: u32,
    pub(super) terms: RawTerms,
}

/// `struct hv_netvsc_shim_limits`.
#[repr(C)]
pub(super) struct RawLimits {
    pub(super) now: u32,
    pub(super) most: u32,
}

/// `struct hv_netvsc_shim_sections`.
#[repr(C)]
pub(super) struct RawSections {
    pub(super) receive: u32,
    pub(super) receive_most: u32,
    pub(super) send: u32,
    pub(super) send_most: u32,
}

/// `struct hv_netvsc_shim_stats`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct RawStats {
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) rx_dropped: u64,
    pub(crate) rx_errors: u64,
    pub(crate) multicast: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) tx_dropped: u64,
}

// Generated types have members of types that are empty in this configuration, which C does not
// have; only pointers to them go over.
#[allow(improper_ctypes)]
extern "C" {
    pub(super) static hv_netvsc_shim_ring_size: c_uint;

    pub(super) fn hv_netvsc_shim_alloc(parent: *mut device, queues: u32) -> *mut net_device;
    pub(super) fn hv_netvsc_shim_register(
        dev: *mut net_device,
        data: *mut c_void,
        config: *const RawConfig,
    ) -> c_int;
    pub(super) fn hv_netvsc_shim_unregister(dev: *mut net_device);
    pub(super) fn hv_netvsc_shim_agree(dev: *mut net_device, terms: *const RawTerms) -> bool;
    pub(super) fn hv_netvsc_shim_mtu(dev: *const net_device) -> u32;
    pub(super) fn hv_netvsc_shim_recover(dev: *mut net_device);
    pub(super) fn hv_netvsc_shim_notify_peers(dev: *mut net_device);
    pub(super) fn hv_netvsc_shim_carrier(dev: *mut net_device, on: bool);
    pub(super) fn hv_netvsc_shim_flags(dev: *mut net_device) -> u32;
    pub(super) fn hv_netvsc_shim_tx_stop(dev: *mut net_device, queue: u32);
    pub(super) fn hv_netvsc_shim_tx_stopped(dev: *mut net_device, queue: u32) -> bool;
    pub(super) fn hv_netvsc_shim_tx_wake(dev: *mut net_device, queue: u32);
    pub(super) fn hv_netvsc_shim_tx_wake_all(dev: *mut net_device);
    pub(super) fn hv_netvsc_shim_tx_disable(dev: *mut net_device);
    pub(super) fn hv_netvsc_shim_tx_sent(
        dev: *mut net_device,
        queue: u32,
        bytes: u32,
        more: bool,
    ) -> bool;
    pub(super) fn hv_netvsc_shim_has_own_table(dev: *mut net_device) -> bool;
    pub(super) fn hv_netvsc_shim_tx_completed(
        dev: *mut net_device,
        queue: u32,
        packets: u32,
        bytes: u32,
    ) -> bool;
    pub(super) fn hv_netvsc_shim_tx_stalled(dev: *mut net_device, queue: u32) -> bool;
    pub(super) fn hv_netvsc_shim_tx_reset(dev: *mut net_device);
    pub(super) fn hv_netvsc_shim_tx_end(dev: *mut net_device, queue: u32);
    pub(super) fn hv_netvsc_shim_use_queues(dev: *mut net_device, queues: u32);
    pub(super) fn hv_netvsc_shim_barrier();
    pub(super) fn hv_netvsc_shim_free(skb: *mut sk_buff);
    pub(super) fn hv_netvsc_shim_consume(skb: *mut sk_buff, budget: c_int);
    pub(super) fn hv_netvsc_shim_copy(skb: *mut sk_buff, to: *mut c_void, len: u32) -> c_int;
    pub(super) fn hv_netvsc_shim_napi_add(
        dev: *mut net_device,
        index: u32,
        data: *mut c_void,
    ) -> *mut napi_struct;
    pub(super) fn hv_netvsc_shim_napi_del(napi: *mut napi_struct);
    pub(super) fn hv_netvsc_shim_napi_schedule(napi: *mut napi_struct);
    pub(super) fn hv_netvsc_shim_napi_kick(napi: *mut napi_struct);
    pub(super) fn hv_netvsc_shim_rx_begin(
        napi: *mut napi_struct,
        len: u32,
        room: *mut u32,
    ) -> *mut c_void;
    pub(super) fn hv_netvsc_shim_rx_more(
        napi: *mut napi_struct,
        len: u32,
        room: *mut u32,
    ) -> *mut c_void;
    pub(super) fn hv_netvsc_shim_rx_abort(napi: *mut napi_struct);
    pub(super) fn hv_netvsc_shim_rx_end(napi: *mut napi_struct, rx: *const Rx) -> u32;
    pub(super) fn hv_netvsc_shim_phys(address: *const c_void) -> u64;
    pub(super) fn hv_netvsc_shim_cpus() -> u32;
    pub(super) fn hv_netvsc_shim_default_queues() -> u32;
    pub(super) fn hv_netvsc_shim_rss_key(key: *mut u8, len: u32);

    pub(super) fn hv_netvsc_shim_dealloc(dev: *mut net_device);
    pub(super) fn hv_netvsc_shim_isolated() -> bool;
    pub(super) fn hv_netvsc_shim_notifier_add(dev: *mut net_device) -> *mut notifier;
    pub(super) fn hv_netvsc_shim_notifier_del(notifier: *mut notifier);
    pub(super) fn hv_netvsc_shim_rx_handler_add(
        card: *mut net_device,
        dev: *mut net_device,
    ) -> c_int;
    pub(super) fn hv_netvsc_shim_rx_handler_del(card: *mut net_device);
    pub(super) fn hv_netvsc_shim_upper_add(card: *mut net_device, dev: *mut net_device) -> c_int;
    pub(super) fn hv_netvsc_shim_upper_del(card: *mut net_device, dev: *mut net_device);
    pub(super) fn hv_netvsc_shim_vf_mark(card: *mut net_device);
    pub(super) fn hv_netvsc_shim_vf_joined(dev: *mut net_device, card: *mut net_device);
    pub(super) fn hv_netvsc_shim_vf_left(dev: *mut net_device, card: *mut net_device);
    pub(super) fn hv_netvsc_shim_vf_stray(dev: *mut net_device, card: *mut net_device);
    pub(super) fn hv_netvsc_shim_vf_take_up(dev: *mut net_device);
    pub(super) fn hv_netvsc_shim_vf_path(dev: *mut net_device, function: bool);
    pub(super) fn hv_netvsc_shim_vf_leave_path(dev: *mut net_device);

    // net/core
    pub(super) fn rtnl_lock();
    pub(super) fn rtnl_trylock() -> c_int;
    pub(super) fn rtnl_unlock();
    pub(super) fn napi_enable(napi: *mut napi_struct);
    pub(super) fn napi_disable(napi: *mut napi_struct);
}
