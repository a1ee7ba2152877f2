// SPDX-License-Identifier: GPL-2.0

//! What `rust/kernel` does not offer yet and the VMBus modules need.
//!
//! Each submodule wraps one kernel interface in the style of `rust/kernel/`, knows nothing of
//! VMBus and can move there unchanged. Drivers may use them through `vmbus::abstractions`.
//!
//! All of them hand the address of a function of the calling module to the kernel. A guard or an
//! owned object that is dropped takes it back and waits for running calls, so a module that drops
//! what it registered (which fields of the module's own data do when it is unloaded) leaves no
//! pointer into its text behind. Leaking such an object on purpose, as with
//! [`core::mem::forget`], forbids unloading the module, as for every registration of
//! `rust/kernel/`.

pub mod clock;
pub mod completion;
pub mod counter;
pub mod cpuhp;
pub mod cpus;
pub mod dma_buffer;
pub mod mirrored;
pub mod noio;
pub mod panic_notifier;
pub mod rcu_arc;
pub mod shown;
pub mod workqueue;

pub use self::{
    completion::Completion,
    counter::Counter,
    cpuhp::{CpuHotplug, CpuHotplugOps, CpuHotplugState},
    dma_buffer::DmaBuffer,
    noio::{NoIo, Reclaim},
    panic_notifier::PanicNotifier,
    rcu_arc::RcuArc,
    shown::Shown,
    workqueue::{Workqueue, WqFlags},
};
