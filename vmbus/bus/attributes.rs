// SPDX-License-Identifier: GPL-2.0

//! Files of a device and of the bus in sysfs, with the names and formats of the C core
//! (`Documentation/ABI/stable/sysfs-bus-vmbus`).

use super::{
    bus_type::Static,
    device::channel_of,
    sysfs::{attribute, attributes, emit, group, Page, Shows},
};
use crate::{channel::Channel, connection::CONNECTION, counters, ffi};
use core::{convert::Infallible, fmt::Write, ptr};
use kernel::{bindings, ffi::c_char, prelude::*, sync::Arc};
use vmbus_protocol::class;

extern "C" fn device_show<F: Shows<Arc<Channel>>>(
    dev: *mut bindings::device,
    _attr: *mut bindings::device_attribute,
    buf: *mut c_char,
) -> isize {
    // SAFETY: sysfs passes a device of this bus, which stays while its file is read, and a page.
    unsafe { emit::<_, F>(channel_of(dev), buf) }
}

/// A file of a device, which nobody writes.
const fn device_file<F: Shows<Arc<Channel>>>(
    name: &'static CStr,
    _store: Option<Infallible>,
) -> bindings::device_attribute {
    bindings::device_attribute {
        attr: attribute(name, 0o444),
        __bindgen_anon_1: bindings::device_attribute__bindgen_ty_1 {
            show: Some(device_show::<F>),
        },
        __bindgen_anon_2: bindings::device_attribute__bindgen_ty_2 { store: None },
    }
}

attributes! {
    DEVICE_ATTRIBUTES: bindings::device_attribute = device_file, Arc<Channel>;

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

static DEVICE_GROUP: Static<bindings::attribute_group> =
    group(None, DEVICE_ATTRIBUTES.as_ptr().cast());

/// The attribute groups of every device on the bus.
pub(super) static DEVICE_GROUPS: Static<[*const bindings::attribute_group; 2]> =
    Static([DEVICE_GROUP.as_ptr(), ptr::null()]);

extern "C" fn bus_show<F: Shows<()>>(_bus: *const bindings::bus_type, buf: *mut c_char) -> isize {
    // SAFETY: sysfs passes a page.
    unsafe { emit::<_, F>(&(), buf) }
}

/// A file of the bus, which nobody writes.
const fn bus_file<F: Shows<()>>(
    name: &'static CStr,
    _store: Option<Infallible>,
) -> bindings::bus_attribute {
    bindings::bus_attribute {
        attr: attribute(name, 0o444),
        show: Some(bus_show::<F>),
        store: None,
    }
}

attributes! {
    BUS_ATTRIBUTES: bindings::bus_attribute = bus_file, ();

    hibernation, c"hibernation", |(), page| {
        // SAFETY: No requirements; asks ACPI whether S4 is there.
        let supported = unsafe { ffi::hv_is_hibernation_supported() };

        Ok(write!(page, "{}", u8::from(supported))?)
    };
}

static BUS_GROUP: Static<bindings::attribute_group> = group(None, BUS_ATTRIBUTES.as_ptr().cast());

/// Writes a number of the bus.
fn count(page: &mut Page, count: u64) -> Result {
    Ok(write!(page, "{count}")?)
}

attributes! {
    COUNTER_ATTRIBUTES: bindings::bus_attribute = bus_file, ();

    bad_messages, c"bad_messages", |(), page| count(page, counters::BAD_MESSAGES.get());
    stray_replies, c"stray_replies", |(), page| count(page, counters::STRAY_REPLIES.get());
    late_replies, c"late_replies", |(), page| count(page, counters::LATE_REPLIES.get());
    timeouts, c"timeouts", |(), page| count(page, counters::TIMEOUTS.get());
    refused_offers, c"refused_offers", |(), page| count(page, counters::REFUSED_OFFERS.get());
    bad_rescinds, c"bad_rescinds", |(), page| count(page, counters::BAD_RESCINDS.get());
    refused_posts, c"refused_posts", |(), page| count(page, counters::REFUSED_POSTS.get());
    refused_doorbells, c"refused_doorbells", |(), page| {
        count(page, counters::REFUSED_DOORBELLS.get())
    };
    leaked_pages, c"leaked_pages", |(), page| count(page, counters::leaked_pages());
}

static COUNTER_GROUP: Static<bindings::attribute_group> =
    group(Some(c"counters"), COUNTER_ATTRIBUTES.as_ptr().cast());

/// The attribute groups of the bus itself.
pub(super) static BUS_GROUPS: Static<[*const bindings::attribute_group; 3]> =
    Static([BUS_GROUP.as_ptr(), COUNTER_GROUP.as_ptr(), ptr::null()]);
