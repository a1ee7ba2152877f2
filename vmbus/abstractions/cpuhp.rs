// SPDX-License-Identifier: GPL-2.0

//! CPU hotplug callbacks.
//!
//! C header: [`include/linux/cpuhotplug.h`](srctree/include/linux/cpuhotplug.h)

use kernel::{
    bindings,
    cpu::CpuId,
    error::{from_result, to_result},
    ffi::{c_int, c_uint},
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Release},
    types::NotThreadSafe,
};

/// What happens on each CPU that comes online or goes offline.
///
/// The functions get no context: the kernel keeps no pointer for a hotplug state, so what they need
/// is in statics that are valid before [`CpuHotplug::new`] is called and until the guard is
/// dropped.
///
/// Both run in process context on the CPU in question, which is online, and may sleep. They must
/// not register or remove hotplug states.
pub trait CpuHotplugOps: 'static {
    /// The name of the state, as in `/sys/devices/system/cpu/hotplug/states`.
    const NAME: &'static CStr;

    /// The one state word of this implementation: `static STATE: CpuHotplugState` of its own.
    fn state() -> &'static CpuHotplugState;

    /// Called for each CPU that is online when the guard is made, and later for each that comes
    /// online. An error keeps the guard from being made, or the CPU from coming online.
    fn startup(cpu: CpuId) -> Result;

    /// Called for each CPU that goes offline, and for each that is online when the guard is
    /// dropped.
    ///
    /// An error keeps the CPU online. When the guard is dropped, or cannot be made, there is
    /// nothing to keep: then it is logged only.
    fn teardown(cpu: CpuId) -> Result;
}

const IDLE: u32 = 0;
/// The kernel runs the callbacks for the guard and does not allow `teardown` to fail.
const CHANGING: u32 = 1;
const REGISTERED: u32 = 2;

/// Tells the callbacks of one [`CpuHotplugOps`] implementation whether `teardown` may fail.
pub struct CpuHotplugState(Atomic<u32>);

impl CpuHotplugState {
    /// Returns the word in its first state. Meant for a `static`.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(Atomic::new(IDLE))
    }
}

/// A dynamic hotplug state (`CPUHP_AP_ONLINE_DYN`) that is removed when the guard is dropped.
///
/// Making and dropping the guard takes `cpus_read_lock` and may sleep, so neither may happen with
/// that lock held or inside a hotplug callback. Dropping it calls
/// [`teardown`](CpuHotplugOps::teardown) on each online CPU and returns when no callback runs any
/// more.
///
/// # Invariants
///
/// `id` is a state that the kernel allocated for the functions of the implementation which `state`
/// belongs to, and that nobody else removes.
///
/// # Examples
///
/// ```ignore
/// struct PerCpuThing;
///
/// static THING: CpuHotplugState = CpuHotplugState::new();
///
/// impl CpuHotplugOps for PerCpuThing {
///     const NAME: &'static CStr = c"hyperv/thing:online";
///
///     fn state() -> &'static CpuHotplugState {
///         &THING
///     }
///     fn startup(cpu: CpuId) -> Result {
///         Ok(())
///     }
///     fn teardown(cpu: CpuId) -> Result {
///         Ok(())
///     }
/// }
///
/// let guard = CpuHotplug::new::<PerCpuThing>()?;
/// ```
pub struct CpuHotplug {
    id: bindings::cpuhp_state,
    state: &'static CpuHotplugState,
}

impl CpuHotplug {
    /// Allocates a state for `T` and calls [`startup`](CpuHotplugOps::startup) on each online CPU.
    ///
    /// If one of them fails, those that were started are torn down again and the error is
    /// returned. `EBUSY` means that `T` has a state already; the kernel has some 40 to give, then
    /// it is `ENOSPC`.
    pub fn new<T: CpuHotplugOps>() -> Result<Self> {
        let state = T::state();
        if state.0.cmpxchg(IDLE, CHANGING, Full).is_err() {
            return Err(EBUSY);
        }

        // SAFETY: The name is 'static and NUL-terminated, and the two functions fit the signature
        // of a single-instance state. They are valid until the state is removed, since that is
        // what dropping the guard does.
        let ret = unsafe {
            bindings::__cpuhp_setup_state(
                bindings::cpuhp_state_CPUHP_AP_ONLINE_DYN,
                T::NAME.as_char_ptr(),
                true,
                Some(startup::<T>),
                Some(teardown::<T>),
                false,
            )
        };
        if let Err(e) = to_result(ret) {
            state.0.store(IDLE, Release);
            return Err(e);
        }

        state.0.store(REGISTERED, Release);
        // INVARIANT: For a dynamic state a return value that is no error is the id.
        Ok(Self { id: ret, state })
    }

    /// Returns the id that the kernel gave to the state.
    pub fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for CpuHotplug {
    fn drop(&mut self) {
        self.state.0.store(CHANGING, Release);

        // SAFETY: By the type invariant the state exists and is ours. `teardown` never returns an
        // error while the word says `CHANGING`, as this function requires.
        unsafe { bindings::__cpuhp_remove_state(self.id, true) };

        self.state.0.store(IDLE, Release);
    }
}

/// # Safety
///
/// Only to be called by the hotplug core, with the number of a present CPU.
unsafe extern "C" fn startup<T: CpuHotplugOps>(cpu: c_uint) -> c_int {
    // SAFETY: The hotplug core passes the number of a present CPU, which is below `nr_cpu_ids`.
    let cpu = unsafe { CpuId::from_u32_unchecked(cpu) };

    from_result(|| T::startup(cpu).map(|()| 0))
}

/// # Safety
///
/// Only to be called by the hotplug core, with the number of a present CPU.
unsafe extern "C" fn teardown<T: CpuHotplugOps>(cpu: c_uint) -> c_int {
    // SAFETY: The hotplug core passes the number of a present CPU, which is below `nr_cpu_ids`.
    let id = unsafe { CpuId::from_u32_unchecked(cpu) };

    match T::teardown(id) {
        Ok(()) => 0,
        // When a state is removed, or taken back half-way, the hotplug core treats an error as a
        // bug of its own and stops the machine.
        Err(e) if T::state().0.load(Acquire) == CHANGING => {
            pr_warn!(
                "teardown of a hotplug state failed on CPU {}: {:?}\n",
                cpu,
                e
            );
            0
        }
        Err(e) => e.to_errno(),
    }
}

/// Keeps CPUs from coming online and going offline while it exists.
///
/// To be taken before locks that hotplug callbacks take.
pub struct CpusReadGuard(NotThreadSafe);

impl CpusReadGuard {
    /// Waits for a hotplug operation that is under way. May sleep.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        // SAFETY: No requirements; undone by `drop` in the same task.
        unsafe { bindings::cpus_read_lock() };
        Self(NotThreadSafe)
    }
}

impl Drop for CpusReadGuard {
    fn drop(&mut self) {
        // SAFETY: Taken by `new`, in the same task because the guard is not `Send`.
        unsafe { bindings::cpus_read_unlock() };
    }
}
