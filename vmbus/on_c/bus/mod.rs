// SPDX-License-Identifier: GPL-2.0

//! The C core's bus, for drivers in Rust. It is one of the rooms where `unsafe` lives.

mod adapter;
mod device;
#[path = "../../bus/driver.rs"]
mod driver;

#[doc(hidden)]
pub use adapter::{Adapter, RawDriver};
pub use device::Device;
#[doc(hidden)]
pub use device::RawDevice;
pub(crate) use driver::RawDeviceId;
pub use driver::{DeviceId, Driver, IdTable};
