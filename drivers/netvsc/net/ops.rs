// SPDX-License-Identifier: GPL-2.0

//! The stack's callbacks.

use super::{
    device::{Parent, Rtnl},
    ffi::{self, drop, RawStats, Tx},
    tx::{SkBuff, TxFrame},
    vf::{Card, CardEvent},
};
use core::ptr::NonNull;
use kernel::{
    error::from_result,
    ffi::{c_int, c_void},
    prelude::*,
    sync::ArcBorrow,
};

use netvsc_protocol::rss::KEY_LEN;

pub(crate) use super::ffi::RawStats as Stats;

/// What becomes of a frame.
pub(crate) enum Transmit {
    /// The driver has it.
    Taken,
    /// The stack gets it back, and tries again when the queue is woken.
    Busy(SkBuff),
}

/// Why a frame was dropped before the driver saw it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// No memory.
    NoMemory,
    /// It is in too many pieces.
    TooBig,
    /// Its VLAN tag is none.
    Vlan,
    /// Something else.
    Other,
}

/// A driver of network devices.
pub(crate) trait Operations: Send + Sync + Sized + 'static {
    /// The interface is brought up. Process context, under RTNL.
    fn open(this: ArcBorrow<'_, Self>) -> Result;

    /// The interface is brought down. Process context, under RTNL.
    fn stop(this: ArcBorrow<'_, Self>);

    /// Takes a frame. Softirq context, one at a time for each queue.
    fn transmit(&self, frame: TxFrame<'_>) -> Transmit;

    /// A frame was dropped on its way to the driver. As [`Self::transmit`].
    fn dropped(&self, queue: u32, why: Dropped);

    /// So many frames of XDP programs were transmitted on a queue with [`Self::transmit`], and the
    /// host has to be told of them. As that.
    fn xdp_sent(&self, queue: u32, count: u32);

    /// The queue for frames with this hash; any number. Softirq context.
    fn select(&self, hash: u32) -> u32;

    /// A queue has been stopped for `HV_NETVSC_SHIM_TIMEOUT` seconds in which nothing was sent.
    /// Softirq context.
    fn timed_out(this: ArcBorrow<'_, Self>, queue: u32);

    /// Does what helps after [`Self::timed_out`]. Process context.
    fn recover(this: ArcBorrow<'_, Self>, rtnl: &Rtnl<'_>) -> Result;

    /// Other frames are wanted; see [`super::NetDevice::mode`]. Atomic context.
    fn mode_changed(this: ArcBorrow<'_, Self>);

    /// Sets the address. Process context, under RTNL.
    fn set_address(this: ArcBorrow<'_, Self>, address: [u8; 6]) -> Result;

    /// The device that it belongs to.
    fn parent(&self) -> &Parent;

    /// Sets the longest frame without its header, in bytes; returns what the host takes of it.
    /// Process context.
    fn change_mtu(this: ArcBorrow<'_, Self>, rtnl: &Rtnl<'_>, mtu: u32) -> Result<u32>;

    /// How many channels are used, and may be. Process context, under RTNL.
    fn channels(&self) -> Limits;

    /// Uses so many channels. Process context.
    fn set_channels(this: ArcBorrow<'_, Self>, rtnl: &Rtnl<'_>, channels: u32) -> Result;

    /// How the buffers are divided. Process context, under RTNL.
    fn sections(&self) -> Sections;

    /// Uses buffers of so many sections. Process context.
    fn set_sections(this: ArcBorrow<'_, Self>, rtnl: &Rtnl<'_>, receive: u32, send: u32) -> Result;

    /// Entries of the table of channels for received frames; at most 256. Process context,
    /// under RTNL.
    fn table_len(&self) -> u32;

    /// How received frames are spread: as much of the table as there is room for, and the key.
    /// Process context, under RTNL.
    fn spread(&self, table: &mut [u32], key: &mut [u8; KEY_LEN]);

    /// Sets how received frames are spread. Process context.
    fn set_spread(
        this: ArcBorrow<'_, Self>,
        rtnl: &Rtnl<'_>,
        table: Option<&[u32]>,
        key: Option<&[u8; KEY_LEN]>,
    ) -> Result;

    /// Whether coalesced frames are welcome. Process context, under RTNL.
    fn set_coalesce(this: ArcBorrow<'_, Self>, on: bool) -> Result;

    /// What was counted. Atomic context.
    fn stats(&self) -> RawStats;

    /// Something becomes of a card on a PCI bus. Process context, under RTNL.
    fn on_card(this: ArcBorrow<'_, Self>, rtnl: &Rtnl<'_>, card: &Card<'_>, event: CardEvent);

    /// The interface is in another network namespace. Process context, under RTNL.
    fn on_moved(this: ArcBorrow<'_, Self>);

    /// What was counted for queues whose channel interrupts this CPU. Process context.
    fn cpu_stats(&self, cpu: u32) -> RawStats;

    /// What was counted for a queue, used at present or not. Process context.
    fn queue_stats(&self, queue: u32) -> RawStats;

    /// The link's speed in Mb/s.
    fn speed(&self) -> Option<u32>;

    /// How many more numbers there are, each with a name. Does not change.
    fn number_count(&self) -> u32;

    /// The name of a number.
    fn number_name(&self, index: u32, to: &mut [u8]);

    /// A number.
    fn number(&self, index: u32) -> u64;
}

/// How many there are, and may be.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) now: u32,
    pub(crate) most: u32,
}

/// Sections of the two buffers: how many there are, and may be.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sections {
    pub(crate) receive: u32,
    pub(crate) receive_most: u32,
    pub(crate) send: u32,
    pub(crate) send_most: u32,
}

/// The driver whose callbacks these are.
pub(super) type Driver = crate::adapter::Adapter;

/// The data of a registered device.
///
/// # Safety
///
/// `data` is the data of a device that stays registered during `'a`.
#[inline]
pub(super) unsafe fn driver<'a>(data: *mut c_void) -> ArcBorrow<'a, Driver> {
    // SAFETY: By the requirements of this function, and since `Registration` owns the reference
    // until the device is unregistered.
    unsafe { ArcBorrow::from_raw(data.cast_const().cast()) }
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_open(data: *mut c_void) -> c_int {
    // SAFETY: By the requirements of this function.
    from_result(|| Driver::open(unsafe { driver(data) }).map(|()| 0))
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_stop(data: *mut c_void) {
    // SAFETY: By the requirements of this function.
    Driver::stop(unsafe { driver(data) });
}

/// # Safety
///
/// The shim calls this with the data of a registered device, a frame that is being transmitted, and
/// what it found out about that.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_xmit(
    data: *mut c_void,
    skb: NonNull<ffi::sk_buff>,
    tx: &Tx,
) -> bool {
    // SAFETY: By the requirements of this function.
    let (driver, frame) = unsafe { (driver(data), TxFrame::new(skb, tx)) };

    match driver.transmit(frame) {
        Transmit::Taken => true,
        Transmit::Busy(skb) => {
            // The stack owns it again.
            skb.into_raw();
            false
        }
    }
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_timed_out(data: *mut c_void, queue: u32) {
    // SAFETY: By the requirements of this function.
    Driver::timed_out(unsafe { driver(data) }, queue);
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_dropped(data: *mut c_void, queue: u32, why: u32) {
    let why = match why {
        drop::NO_MEMORY => Dropped::NoMemory,
        drop::TOO_BIG => Dropped::TooBig,
        drop::VLAN => Dropped::Vlan,
        _ => Dropped::Other,
    };

    // SAFETY: By the requirements of this function.
    unsafe { driver(data) }.dropped(queue, why);
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_xdp_sent(data: *mut c_void, queue: u32, count: u32) {
    // SAFETY: By the requirements of this function.
    unsafe { driver(data) }.xdp_sent(queue, count);
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_select(data: *mut c_void, hash: u32) -> u32 {
    // SAFETY: By the requirements of this function.
    unsafe { driver(data) }.select(hash)
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_rx_mode(data: *mut c_void) {
    // SAFETY: By the requirements of this function.
    Driver::mode_changed(unsafe { driver(data) });
}

/// # Safety
///
/// The shim calls this with the data of a registered device and an Ethernet address.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_set_address(data: *mut c_void, address: &[u8; 6]) -> c_int {
    // SAFETY: By the requirements of this function.
    from_result(|| Driver::set_address(unsafe { driver(data) }, *address).map(|()| 0))
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_set_coalesce(data: *mut c_void, on: bool) -> c_int {
    // SAFETY: By the requirements of this function.
    from_result(|| Driver::set_coalesce(unsafe { driver(data) }, on).map(|()| 0))
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_stats(data: *mut c_void, stats: &mut RawStats) {
    // SAFETY: By the requirements of this function.
    *stats = unsafe { driver(data) }.stats();
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_queue_stats(
    data: *mut c_void,
    queue: u32,
    stats: &mut RawStats,
) {
    // SAFETY: By the requirements of this function.
    *stats = unsafe { driver(data) }.queue_stats(queue);
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_speed(data: *mut c_void) -> u32 {
    // SAFETY: By the requirements of this function.
    unsafe { driver(data) }.speed().unwrap_or(0)
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_stat_count(data: *mut c_void) -> u32 {
    // SAFETY: By the requirements of this function.
    unsafe { driver(data) }.number_count()
}

/// # Safety
///
/// The shim calls this with the data of a registered device, and `len` zeroed bytes at `name`.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_stat_name(
    data: *mut c_void,
    index: u32,
    name: *mut u8,
    len: u32,
) {
    // SAFETY: By the requirements of this function. The last byte stays zero.
    let (driver, name) = unsafe {
        (
            driver(data),
            core::slice::from_raw_parts_mut(name, (len as usize).saturating_sub(1)),
        )
    };

    driver.number_name(index, name);
}

/// # Safety
///
/// The shim calls this with the data of a registered device.
#[no_mangle]
unsafe extern "C" fn hv_netvsc_rust_stat_value(data: *mut c_void, index: u32) -> u64 {
    // SAFETY: By the requirements of this function.
    unsafe { driver(data) }.number(index)
}
