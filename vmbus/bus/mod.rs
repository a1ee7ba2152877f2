// SPDX-License-Identifier: GPL-2.0

//! The VMBus as a bus of the driver model.
//!
//! Written in the style of `rust/kernel/`: this folder and its API go there in an upstream
//! series. It is one of the rooms where `unsafe` lives.

mod adapter;
pub(crate) mod attach;
mod attributes;
mod bus_type;
mod channel_files;
mod device;
mod driver;
mod dynamic_ids;
mod platform;
mod sysfs;

#[doc(hidden)]
pub use adapter::{Adapter, RawDriver};
pub(crate) use bus_type::BusRegistration;
pub use device::Device;
#[doc(hidden)]
pub use device::RawDevice;
pub(crate) use device::{wait_for_devices, DeviceRegistration};
pub use driver::{DeviceId, Driver, IdTable};
pub(crate) use dynamic_ids::init as init_dynamic_ids;
pub(crate) use platform::{PlatformDriver, Shutdown};
