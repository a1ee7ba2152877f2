// SPDX-License-Identifier: GPL-2.0

//! Files of a device and of the bus in sysfs, with the names and formats of the C core
//! (`Documentation/ABI/stable/sysfs-bus-vmbus`).

use super::{bus_type::Static, device::channel_of};
use crate::{channel::Channel, connection::CONNECTION, counters, ffi, memory};
use core::{fmt::Write, mem::MaybeUninit, ptr};
use kernel::{bindings, ffi::c_char, prelude::*, str::as_char_ptr_in_const_context, sync::Arc};
use vmbus_protocol::class;

/// Text of an attribute; what does not fit into the page that sysfs gives is cut off.
pub(super) struct Page {
    buf: *mut u8,
    len: usize,
}

impl Write for Page {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let room = memory::PAGE_BYTES - 1 - self.len;
        let bytes = s.as_bytes().get(..s.len().min(room)).unwrap_or_default();

        // SAFETY: sysfs gives one page, of which `len` bytes are written; `bytes` fits the rest.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.buf.add(self.len), bytes.len()) };
        self.len += bytes.len();
        Ok(())
    }
}

/// Writes the value of one attribute, without the line feed.
type Show = fn(&Arc<Channel>, &mut Page) -> Result;

/// Runs `show` into the page at `buf` and answers as sysfs expects.
pub(super) fn emit(buf: *mut c_char, show: impl FnOnce(&mut Page) -> Result) -> isize {
    let mut page = Page {
        buf: buf.cast(),
        len: 0,
    };

    match show(&mut page).and_then(|()| page.write_str("\n").map_err(Error::from)) {
        Ok(()) => isize::try_from(page.len).unwrap_or(0),
        Err(e) => e.to_errno() as isize,
    }
}

/// Defines the read-only attributes of a device: name, and how to write the value.
macro_rules! device_attributes {
    ($($ident:ident, $name:literal, $show:expr;)*) => {
        $(mod $ident {
            use super::*;

            extern "C" fn show(
                dev: *mut bindings::device,
                _attr: *mut bindings::device_attribute,
                buf: *mut c_char,
            ) -> isize {
                const SHOW: Show = $show;

                // SAFETY: sysfs passes a device of this bus, which stays while its file is read.
                let channel = unsafe { channel_of(dev) };

                emit(buf, |page| SHOW(channel, page))
            }

            pub(super) static ATTRIBUTE: Static<bindings::device_attribute> =
                Static(bindings::device_attribute {
                    attr: attribute($name, 0o444),
                    __bindgen_anon_1: bindings::device_attribute__bindgen_ty_1 {
                        show: Some(show),
                    },
                    __bindgen_anon_2: bindings::device_attribute__bindgen_ty_2 { store: None },
                });
        })*

        static DEVICE_ATTRIBUTES: Static<
            [*mut bindings::attribute; [$(stringify!($ident)),*].len() + 1]
        > = Static([$($ident::ATTRIBUTE.as_ptr().cast(),)* ptr::null_mut()]);
    };
}

device_attributes! {
    id, c"id", |ch, page| Ok(write!(page, "{}", ch.relid().raw())?);
    state, c"state", |ch, page| Ok(write!(page, "{}", ch.state_number())?);
    class_id, c"class_id", |ch, page| Ok(write!(page, "{{{}}}", ch.offer().class)?);
    device_id, c"device_id", |ch, page| Ok(write!(page, "{{{}}}", ch.offer().instance)?);
    modalias, c"modalias", |ch, page| {
        Ok(write!(page, "vmbus:{}", ch.offer().class.modalias())?)
    };
    vendor, c"vendor", |_, page| Ok(write!(page, "0x1414")?);
    device, c"device", |ch, page| {
        let index = class::by_guid(&ch.offer().class)
            .map_or(class::UNKNOWN_DEVICE_INDEX, |info| info.device_index);

        Ok(write!(page, "{index:#x}")?)
    };
    numa_node, c"numa_node", |ch, page| Ok(write!(page, "{}", ch.numa_node())?);
    channel_vp_mapping, c"channel_vp_mapping", |ch, page| {
        write!(page, "{}:{}", ch.relid().raw(), ch.target_cpu())?;
        let mut written = Ok(());

        if let Some(connection) = CONNECTION.get() {
            connection.channels.for_each_sub(ch, |sub| {
                written = written
                    .and_then(|()| write!(page, "\n{}:{}", sub.relid().raw(), sub.target_cpu()));
            });
        }
        Ok(written?)
    };
    out_intr_mask, c"out_intr_mask", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.outgoing.interrupt_mask)?)
    };
    out_read_index, c"out_read_index", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.outgoing.read_index)?)
    };
    out_write_index, c"out_write_index", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.outgoing.write_index)?)
    };
    out_read_bytes_avail, c"out_read_bytes_avail", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.outgoing.bytes_to_read.ok_or(EIO)?)?)
    };
    out_write_bytes_avail, c"out_write_bytes_avail", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.outgoing.bytes_to_write.ok_or(EIO)?)?)
    };
    in_intr_mask, c"in_intr_mask", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.incoming.interrupt_mask)?)
    };
    in_read_index, c"in_read_index", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.incoming.read_index)?)
    };
    in_write_index, c"in_write_index", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.incoming.write_index)?)
    };
    in_read_bytes_avail, c"in_read_bytes_avail", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.incoming.bytes_to_read.ok_or(EIO)?)?)
    };
    in_write_bytes_avail, c"in_write_bytes_avail", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.incoming.bytes_to_write.ok_or(EIO)?)?)
    };
}

/// A file, and who may do what with it.
#[allow(clippy::needless_update)]
pub(super) const fn attribute(name: &'static CStr, mode: u16) -> bindings::attribute {
    bindings::attribute {
        name: as_char_ptr_in_const_context(name),
        mode,
        // With lockdep there are more: a flag and a pointer, for which zero means "not there", and
        // the lock's class, of which only the address matters.
        //
        // SAFETY: By the above, all of them may be zero.
        ..unsafe { MaybeUninit::<bindings::attribute>::zeroed().assume_init() }
    }
}

/// A group of attributes, in a folder of its own if it has a name.
pub(super) const fn group(
    name: Option<&'static CStr>,
    attrs: *mut *mut bindings::attribute,
) -> Static<bindings::attribute_group> {
    Static(bindings::attribute_group {
        name: match name {
            Some(name) => as_char_ptr_in_const_context(name),
            None => ptr::null(),
        },
        __bindgen_anon_2: bindings::attribute_group__bindgen_ty_2 { attrs },
        // SAFETY: All other fields are pointers, for which zero means "not there".
        ..unsafe { MaybeUninit::<bindings::attribute_group>::zeroed().assume_init() }
    })
}

static DEVICE_GROUP: Static<bindings::attribute_group> =
    group(None, DEVICE_ATTRIBUTES.as_ptr().cast());

/// The attribute groups of every device on the bus.
pub(super) static DEVICE_GROUPS: Static<[*const bindings::attribute_group; 2]> =
    Static([DEVICE_GROUP.as_ptr(), ptr::null()]);

extern "C" fn hibernation_show(_bus: *const bindings::bus_type, buf: *mut c_char) -> isize {
    // SAFETY: No requirements; asks ACPI whether S4 is there.
    let supported = unsafe { ffi::hv_is_hibernation_supported() };

    emit(buf, |page| Ok(write!(page, "{}", u8::from(supported))?))
}

static HIBERNATION: Static<bindings::bus_attribute> = Static(bindings::bus_attribute {
    attr: attribute(c"hibernation", 0o444),
    show: Some(hibernation_show),
    store: None,
});

static BUS_ATTRIBUTES: Static<[*mut bindings::attribute; 2]> =
    Static([HIBERNATION.as_ptr().cast(), ptr::null_mut()]);

static BUS_GROUP: Static<bindings::attribute_group> = group(None, BUS_ATTRIBUTES.as_ptr().cast());

/// Defines the files of the bus's `counters` folder: name, and where the number comes from.
macro_rules! counter_attributes {
    ($($ident:ident, $name:literal, $get:expr;)*) => {
        $(mod $ident {
            use super::*;

            extern "C" fn show(_bus: *const bindings::bus_type, buf: *mut c_char) -> isize {
                emit(buf, |page| Ok(write!(page, "{}", $get)?))
            }

            pub(super) static ATTRIBUTE: Static<bindings::bus_attribute> =
                Static(bindings::bus_attribute {
                    attr: attribute($name, 0o444),
                    show: Some(show),
                    store: None,
                });
        })*

        static COUNTER_ATTRIBUTES: Static<
            [*mut bindings::attribute; [$(stringify!($ident)),*].len() + 1]
        > = Static([$($ident::ATTRIBUTE.as_ptr().cast(),)* ptr::null_mut()]);
    };
}

counter_attributes! {
    bad_messages, c"bad_messages", counters::BAD_MESSAGES.get();
    stray_replies, c"stray_replies", counters::STRAY_REPLIES.get();
    late_replies, c"late_replies", counters::LATE_REPLIES.get();
    timeouts, c"timeouts", counters::TIMEOUTS.get();
    refused_offers, c"refused_offers", counters::REFUSED_OFFERS.get();
    bad_rescinds, c"bad_rescinds", counters::BAD_RESCINDS.get();
    refused_posts, c"refused_posts", counters::REFUSED_POSTS.get();
    refused_doorbells, c"refused_doorbells", counters::REFUSED_DOORBELLS.get();
    leaked_pages, c"leaked_pages", counters::leaked_pages();
}

static COUNTER_GROUP: Static<bindings::attribute_group> =
    group(Some(c"counters"), COUNTER_ATTRIBUTES.as_ptr().cast());

/// The attribute groups of the bus itself.
pub(super) static BUS_GROUPS: Static<[*const bindings::attribute_group; 3]> =
    Static([BUS_GROUP.as_ptr(), COUNTER_GROUP.as_ptr(), ptr::null()]);
