// SPDX-License-Identifier: GPL-2.0

//! Network devices: their memory, their registration, their queues.

use super::{
    ffi::{self, checksum, RawConfig, RawTerms},
    ops::{Driver, Operations},
};
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{
    bindings, device,
    error::to_result,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Full},
        Arc,
    },
};
use netvsc_protocol::{setup::Agreed, terms::Terms};

/// A network device: its memory, registered or not.
///
/// # Invariants
///
/// `ptr` is a device of the shim with `queues` transmit queues, which is freed
/// by `drop` only. It is registered at most once, by the [`Registration`] that
/// set `registered`.
pub(crate) struct NetDevice {
    ptr: NonNull<ffi::net_device>,
    queues: u32,
    registered: Atomic<bool>,
    _parent: ARef<device::Device>,
}

// SAFETY: A device is not bound to a thread.
unsafe impl Send for NetDevice {}
// SAFETY: What it offers to shared references is safe on any thread.
unsafe impl Sync for NetDevice {}

/// What is known of a device when it is registered.
pub(crate) struct Config<'a> {
    /// What was agreed on with the host.
    pub(crate) agreed: &'a Agreed,
    /// What the stack is told of it.
    pub(crate) terms: &'a Terms,
}

impl RawTerms {
    fn new(terms: &Terms) -> Self {
        let (four, six) = (terms.offloads.ipv4, terms.offloads.ipv6);
        let bit = |on, bit| if on { bit } else { 0 };

        Self {
            mtu: terms.mtu,
            max_mtu: terms.max_mtu,
            tso_max: terms.offloads.max_segmented,
            checksums: bit(four.tcp, checksum::TCP4)
                | bit(four.udp, checksum::UDP4)
                | bit(six.tcp, checksum::TCP6)
                | bit(six.udp, checksum::UDP6),
            tso4: four.segments,
            tso6: six.segments,
            coalesce: terms.offloads.coalesce,
        }
    }
}

/// Which frames a device wants besides its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    /// Those for any address.
    pub(crate) promiscuous: bool,
    /// Those for groups.
    pub(crate) multicast: bool,
}

impl NetDevice {
    /// A device below `parent` with room for so many queues, of which one is used at first. May
    /// sleep.
    pub(crate) fn new(parent: &device::Device<device::Bound>, queues: u32) -> Result<Arc<Self>> {
        let raw = ptr::from_ref(parent).cast_mut().cast();

        if queues == 0 {
            return Err(EINVAL);
        }
        // SAFETY: The parent is a valid device, and stays as long as the new one.
        let dev = unsafe { ffi::hv_netvsc_shim_alloc(raw, queues) };
        // INVARIANT: The device is new.
        let this = Self {
            ptr: NonNull::new(dev).ok_or(ENOMEM)?,
            queues,
            registered: Atomic::new(false),
            _parent: (&**parent).into(),
        };

        Ok(Arc::new(this, GFP_KERNEL)?)
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut ffi::net_device {
        self.ptr.as_ptr()
    }

    /// Whether the link is up, from now on; without effect unless the device is registered, and
    /// none is left when [`Registration`] is gone. A full barrier before and after. Any context but
    /// NMI.
    pub(crate) fn set_carrier(&self, on: bool) {
        // SAFETY: The device is valid by the type invariant.
        unsafe { ffi::hv_netvsc_shim_carrier(self.as_ptr(), on) };
    }

    /// Tells the neighbours where the device is, if its interface is up. Takes RTNL.
    pub(crate) fn notify_peers(&self) {
        // SAFETY: The device is valid by the type invariant.
        unsafe { ffi::hv_netvsc_shim_notify_peers(self.as_ptr()) };
    }

    /// Which frames it wants. Any context.
    pub(crate) fn mode(&self) -> Mode {
        // SAFETY: The device is valid by the type invariant.
        let flags = unsafe { ffi::hv_netvsc_shim_flags(self.as_ptr()) };

        Mode {
            promiscuous: flags & bindings::net_device_flags_IFF_PROMISC != 0,
            multicast: flags & bindings::net_device_flags_IFF_ALLMULTI != 0,
        }
    }

    /// Uses so many of its queues, both ways, if it is registered, and if `still` says so under
    /// RTNL, which is told what [`Self::has_own_table`] is. Returns what it says. May sleep.
    pub(crate) fn set_queues(&self, queues: u32, still: impl FnOnce(bool) -> bool) -> bool {
        let _held = Held::new();
        // SAFETY: The device is valid by the type invariant, and RTNL is held.
        let own_table = unsafe { ffi::hv_netvsc_shim_has_own_table(self.as_ptr()) };

        if !still(own_table) {
            return false;
        }
        if (1..=self.queues).contains(&queues) {
            // SAFETY: The device is valid by the type invariant, has as many queues, and RTNL is
            // held.
            unsafe { ffi::hv_netvsc_shim_use_queues(self.as_ptr(), queues) };
        }
        true
    }

    /// Runs `f` under RTNL. May sleep.
    pub(super) fn with_rtnl(&self, f: impl FnOnce()) {
        let _held = Held::new();

        f();
    }

    /// Runs `f` under RTNL if nobody else has it. Returns whether it ran. May sleep.
    pub(crate) fn try_with_rtnl(&self, f: impl FnOnce()) -> bool {
        let held = Held::if_free();

        if held.is_some() {
            f();
        }
        held.is_some()
    }

    /// Calls [`super::Operations::recover`] under RTNL, if it is registered. May sleep.
    pub(crate) fn recover(&self) {
        // SAFETY: The device is valid by the type invariant.
        unsafe { ffi::hv_netvsc_shim_recover(self.as_ptr()) };
    }

    /// Longest frame that the stack sends, without its header, in bytes.
    pub(crate) fn mtu(&self) -> u32 {
        // SAFETY: The device is valid by the type invariant.
        unsafe { ffi::hv_netvsc_shim_mtu(self.as_ptr()) }
    }

    /// Tells the stack what another connection has agreed on: switches off what the host does not
    /// do any more, and on what it does again if somebody wants it; frames become shorter if they
    /// have to. Returns whether coalesced frames are welcome. To be called while nothing is sent.
    pub(crate) fn agree(&self, _rtnl: &Rtnl<'_>, terms: &Terms) -> bool {
        let raw = RawTerms::new(terms);

        // SAFETY: The device is valid by the type invariant, and registered, since RTNL is held in
        // a call for it.
        unsafe { ffi::hv_netvsc_shim_agree(self.as_ptr(), &raw) }
    }

    /// Forgets what was sent on all queues and not completed. To be called while nothing is sent or
    /// completed.
    pub(crate) fn reset_queues(&self, _rtnl: &Rtnl<'_>) {
        // SAFETY: The device is valid by the type invariant.
        unsafe { ffi::hv_netvsc_shim_tx_reset(self.as_ptr()) };
    }

    /// Uses so many of its queues, both ways, if it is registered. For who holds RTNL.
    pub(crate) fn use_queues(&self, _rtnl: &Rtnl<'_>, queues: u32) {
        if (1..=self.queues).contains(&queues) {
            // SAFETY: The device is valid by the type invariant, has as many queues, and RTNL is
            // held.
            unsafe { ffi::hv_netvsc_shim_use_queues(self.as_ptr(), queues) };
        }
    }

    /// Stops a transmit queue: no frames come to it any more. Whoever does so looks once more
    /// whether it has to be stopped; this is a full barrier. Any context but NMI.
    #[inline]
    pub(crate) fn stop_queue(&self, queue: u32) {
        if queue < self.queues {
            // SAFETY: The device is valid by the type invariant, and has the queue.
            unsafe { ffi::hv_netvsc_shim_tx_stop(self.as_ptr(), queue) };
        }
    }

    /// Forgets what was sent on a queue and not completed, and lets frames come to it, to be
    /// dropped. To be called when nothing that comes to it is sent any more, nor completed. May
    /// sleep.
    pub(crate) fn end_queue(&self, queue: u32) {
        if queue < self.queues {
            // SAFETY: The device is valid by the type invariant, and has the queue.
            unsafe { ffi::hv_netvsc_shim_tx_end(self.as_ptr(), queue) };
        }
    }

    /// Wakes a transmit queue if it is stopped, unless all are, and returns whether it was. To be
    /// called after something was changed that made it stop; this is a full barrier first. Any
    /// context but NMI.
    #[inline]
    pub(crate) fn wake_queue(&self, queue: u32) -> bool {
        if queue >= self.queues {
            return false;
        }
        // SAFETY: The device is valid by the type invariant, and has the queue.
        unsafe {
            ffi::hv_netvsc_shim_barrier();
            let stopped = ffi::hv_netvsc_shim_tx_stopped(self.as_ptr(), queue);

            if stopped {
                ffi::hv_netvsc_shim_tx_wake(self.as_ptr(), queue);
            }
            stopped
        }
    }

    /// Lets frames come to all queues that are used. Any context but NMI.
    pub(crate) fn wake_all(&self) {
        // SAFETY: The device is valid by the type invariant.
        unsafe { ffi::hv_netvsc_shim_tx_wake_all(self.as_ptr()) };
    }

    /// Stops all queues until [`Self::wake_all`], and waits for who is transmitting. Process
    /// context.
    pub(crate) fn disable_transmit(&self) {
        // SAFETY: The device is valid by the type invariant.
        unsafe { ffi::hv_netvsc_shim_tx_disable(self.as_ptr()) };
    }

    /// Whether a queue is stopped, and no frame of it was sent or done with in the last
    /// `HV_NETVSC_SHIM_IDLE` seconds. Any context.
    pub(crate) fn is_stalled(&self, queue: u32) -> bool {
        // SAFETY: The device is valid by the type invariant, and has the queue.
        queue < self.queues && unsafe { ffi::hv_netvsc_shim_tx_stalled(self.as_ptr(), queue) }
    }

    /// So many bytes are about to be sent on a queue, and `more` follow soon. Returns whether the
    /// host has to be told of them at once. Only while a frame is being transmitted there.
    #[inline]
    pub(super) fn sent(&self, queue: u32, bytes: u32, more: bool) -> bool {
        if queue >= self.queues {
            return true;
        }
        // SAFETY: The device is valid by the type invariant, and has the queue.
        unsafe { ffi::hv_netvsc_shim_tx_sent(self.as_ptr(), queue, bytes, more) }
    }

    /// Whether somebody has chosen a table for receiving, and not the default one since.
    pub(crate) fn has_own_table(&self, _rtnl: &Rtnl<'_>) -> bool {
        // SAFETY: The device is valid by the type invariant, and RTNL is held.
        unsafe { ffi::hv_netvsc_shim_has_own_table(self.as_ptr()) }
    }

    /// So many of the bytes that were sent on a queue are done. False, and nothing happens, when
    /// fewer were sent. One caller at a time for each queue.
    #[inline]
    pub(super) fn completed(&self, queue: u32, packets: u32, bytes: u32) -> bool {
        if queue >= self.queues {
            return false;
        }
        // SAFETY: The device is valid by the type invariant, and has the queue.
        unsafe { ffi::hv_netvsc_shim_tx_completed(self.as_ptr(), queue, packets, bytes) }
    }
}

impl Drop for NetDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the device is ours. Whoever registered it held a reference
        // until it was unregistered.
        unsafe { ffi::hv_netvsc_shim_dealloc(self.as_ptr()) };
    }
}

/// The device on the bus that a network device belongs to.
pub(crate) struct Parent(ARef<vmbus::Device>);

impl Parent {
    /// Of this device.
    pub(crate) fn new(device: &vmbus::Device<device::Bound>) -> Self {
        Self((&**device).into())
    }

    /// The proof that RTNL is held and the device is bound.
    ///
    /// # Safety
    ///
    /// Both are the case until the result is gone.
    pub(super) unsafe fn rtnl(&self) -> Rtnl<'_> {
        let device: *const vmbus::Device = &*self.0;

        Rtnl {
            // SAFETY: What a device says of its state is a type parameter only, and the caller says
            // that it is bound.
            device: unsafe { &*device.cast::<vmbus::Device<device::Bound>>() },
            _thread: PhantomData,
        }
    }
}

/// RTNL, which this thread takes and holds.
struct Held(PhantomData<*mut ()>);

impl Held {
    fn new() -> Self {
        // SAFETY: Process context, says who calls.
        unsafe { ffi::rtnl_lock() };
        Self(PhantomData)
    }

    fn if_free() -> Option<Self> {
        // SAFETY: Process context, says who calls.
        (unsafe { ffi::rtnl_trylock() } != 0).then_some(Self(PhantomData))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: This thread holds it.
        unsafe { ffi::rtnl_unlock() };
    }
}

/// RTNL is held, by this thread, in a call for a registered device.
pub(crate) struct Rtnl<'a> {
    device: &'a vmbus::Device<device::Bound>,
    _thread: PhantomData<*mut ()>,
}

impl Rtnl<'_> {
    /// The device on the bus.
    pub(crate) fn device(&self) -> &vmbus::Device<device::Bound> {
        self.device
    }
}

/// A registered device. Dropping unregisters it: its interface is closed, and no callback runs any
/// more. May sleep.
///
/// # Invariants
///
/// The device is registered, and its data is that of `_data`. The device that it belongs to is
/// bound during `'bound`.
pub(crate) struct Registration<'bound> {
    netdev: Arc<NetDevice>,
    _data: Arc<Driver>,
    _device: PhantomData<&'bound vmbus::Device<device::Bound>>,
}

impl<'bound> Registration<'bound> {
    /// Registers a device, whose callbacks work with `data`, which belongs to `device`. May sleep.
    /// `EBUSY` for a device that was registered before, `EINVAL` for data of another device.
    pub(crate) fn new(
        device: &'bound vmbus::Device<device::Bound>,
        netdev: &Arc<NetDevice>,
        data: &Arc<Driver>,
        config: &Config<'_>,
    ) -> Result<Self> {
        if !ptr::addr_eq(device, &*data.parent().0) {
            return Err(EINVAL);
        }
        if netdev.registered.xchg(true, Full) {
            return Err(EBUSY);
        }
        let agreed = config.agreed;
        let alias = agreed.name.as_ref().map_or(&[][..], |name| name.bytes());
        let raw = RawConfig {
            address: agreed.address.as_ptr(),
            alias: alias.as_ptr(),
            alias_len: u32::try_from(alias.len())?,
            terms: RawTerms::new(config.terms),
        };
        let pointer = Arc::as_ptr(data).cast_mut().cast();

        // INVARIANT: On success it is registered with that data.
        //
        // SAFETY: The device is valid and was never registered. Its callbacks get a pointer to data
        // that `self` keeps until the device is unregistered; on failure none runs. Address and
        // alias are read during the call.
        to_result(unsafe { ffi::hv_netvsc_shim_register(netdev.as_ptr(), pointer, &raw) })?;
        Ok(Self {
            netdev: netdev.clone(),
            _data: data.clone(),
            _device: PhantomData,
        })
    }

    /// The device.
    pub(super) fn netdev(&self) -> &NetDevice {
        &self.netdev
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the device is registered, and this is done once.
        unsafe { ffi::hv_netvsc_shim_unregister(self.netdev.as_ptr()) };
    }
}
