// SPDX-License-Identifier: GPL-2.0

//! The folder `channels/<relid>/` of a device in sysfs, one for each of its channels
//! (`Documentation/ABI/stable/sysfs-bus-vmbus`).

use super::{
    bus_type::Static,
    device::{LiveObject, RawDevice},
    sysfs::{attribute, attributes, emit, group, Page, Shows},
};
use crate::{
    abstractions::cpuhp::CpusReadGuard,
    channel::{self, Channel},
    connection::CONNECTION,
};
use core::{fmt::Write, mem::MaybeUninit, ptr, ptr::NonNull};
use kernel::{
    bindings, container_of,
    cpu::CpuId,
    error::to_result,
    ffi::{c_char, c_uint},
    prelude::*,
    str::as_char_ptr_in_const_context,
    sync::Arc,
};

/// A channel as sysfs sees it; owned by the reference count of `kobj`.
#[repr(C)]
struct RawFolder {
    kobj: bindings::kobject,
    channel: Arc<Channel>,
    _live: LiveObject,
}

/// The `channels` folder of a device. Dropping removes it, after the folders in it are gone.
pub(super) struct ChannelsFolder(NonNull<bindings::kset>);

// SAFETY: A kset is reference-counted and not bound to a thread.
unsafe impl Send for ChannelsFolder {}
// SAFETY: Shared access only adds folders, which the kset locks.
unsafe impl Sync for ChannelsFolder {}

impl ChannelsFolder {
    /// Makes the folder in that of a device. May sleep.
    ///
    /// # Safety
    ///
    /// `dev` must be registered.
    pub(super) unsafe fn new(dev: *mut RawDevice) -> Result<Self> {
        // SAFETY: By the requirements of this function.
        let kset = unsafe {
            bindings::kset_create_and_add(
                as_char_ptr_in_const_context(c"channels"),
                ptr::null(),
                &raw mut (*dev).dev.kobj,
            )
        };

        NonNull::new(kset).map(Self).ok_or(ENOMEM)
    }

    /// Adds the folder of `channel`. May sleep.
    pub(super) fn add(&self, channel: Arc<Channel>) -> Result<ChannelFolder> {
        let relid = channel.relid().raw();
        let folder = KBox::into_raw(KBox::new(
            RawFolder {
                kobj: bindings::kobject::default(),
                channel,
                _live: LiveObject::new(),
            },
            GFP_KERNEL,
        )?);
        // SAFETY: A fresh allocation that nobody else knows; from `kobject_init_and_add()` on its
        // reference count owns it, also when that fails.
        unsafe {
            (*folder).kobj.kset = self.0.as_ptr();
            let kobj = &raw mut (*folder).kobj;
            let added = to_result(bindings::kobject_init_and_add(
                kobj,
                TYPE.as_ptr(),
                ptr::null_mut(),
                as_char_ptr_in_const_context(c"%u"),
                relid as c_uint,
            ));

            if let Err(error) = added {
                bindings::kobject_put(kobj);
                return Err(error);
            }
            bindings::kobject_uevent(kobj, bindings::kobject_action_KOBJ_ADD);
            Ok(ChannelFolder(NonNull::new_unchecked(kobj)))
        }
    }
}

impl Drop for ChannelsFolder {
    fn drop(&mut self) {
        // SAFETY: Made by `new`; the folders in it were dropped before.
        unsafe { bindings::kset_unregister(self.0.as_ptr()) };
    }
}

/// The folder of one channel. Dropping removes it, and waits for whoever reads a file in it.
pub(super) struct ChannelFolder(NonNull<bindings::kobject>);

// SAFETY: A kobject is reference-counted and not bound to a thread.
unsafe impl Send for ChannelFolder {}
// SAFETY: Shared access can do nothing.
unsafe impl Sync for ChannelFolder {}

impl Drop for ChannelFolder {
    fn drop(&mut self) {
        // SAFETY: Added by `ChannelsFolder::add`, whose reference this object owns.
        unsafe {
            bindings::kobject_del(self.0.as_ptr());
            bindings::kobject_put(self.0.as_ptr());
        }
    }
}

extern "C" fn release(kobj: *mut bindings::kobject) {
    // SAFETY: Called once, when the last reference to a folder of ours is gone; its memory came
    // from a box.
    drop(unsafe { KBox::from_raw(container_of!(kobj, RawFolder, kobj)) });
}

/// The channel of a folder, for its files.
///
/// # Safety
///
/// `kobj` must be a folder of this file that lives during `'a`.
unsafe fn channel_of<'a>(kobj: *mut bindings::kobject) -> &'a Arc<Channel> {
    // SAFETY: By the requirements of this function.
    unsafe { &(*container_of!(kobj, RawFolder, kobj)).channel }
}

extern "C" fn file_show<F: Shows<Arc<Channel>>>(
    kobj: *mut bindings::kobject,
    _attr: *mut bindings::kobj_attribute,
    buf: *mut c_char,
) -> isize {
    // SAFETY: sysfs passes a folder, which stays while its file is read, and a page.
    unsafe { emit::<_, F>(channel_of(kobj), buf) }
}

/// What takes the value of a file.
type Store = unsafe extern "C" fn(
    *mut bindings::kobject,
    *mut bindings::kobj_attribute,
    *const c_char,
    usize,
) -> isize;

/// A file of a folder.
const fn file<F: Shows<Arc<Channel>>>(
    name: &'static CStr,
    store: Option<Store>,
) -> bindings::kobj_attribute {
    bindings::kobj_attribute {
        attr: attribute(name, if store.is_some() { 0o644 } else { 0o444 }),
        __bindgen_anon_1: bindings::kobj_attribute__bindgen_ty_1 {
            show: Some(file_show::<F>),
        },
        __bindgen_anon_2: bindings::kobj_attribute__bindgen_ty_2 { store },
    }
}

attributes! {
    ATTRIBUTES: bindings::kobj_attribute = file, Arc<Channel>;

    cpu, c"cpu", |ch, page| Ok(write!(page, "{}", ch.target_cpu())?), cpu_store;
    subchannel_id, c"subchannel_id", |ch, page| {
        Ok(write!(page, "{}", ch.offer().sub_channel_index)?)
    };
    interrupts, c"interrupts", |ch, page| {
        Ok(write!(page, "{}", ch.counts().interrupts)?)
    };
    events, c"events", |ch, page| Ok(write!(page, "{}", ch.counts().signals)?);
    intr_in_full, c"intr_in_full", |ch, page| {
        Ok(write!(page, "{}", ch.counts().signals_for_room)?)
    };
    intr_out_empty, c"intr_out_empty", |ch, page| {
        let counts = ch.counts();

        // There is no other reason.
        Ok(write!(page, "{}", counts.signals.saturating_sub(counts.signals_for_room))?)
    };
    out_full_first, c"out_full_first", |ch, page| {
        Ok(write!(page, "{}", ch.counts().ring_full_first)?)
    };
    out_full_total, c"out_full_total", |ch, page| {
        Ok(write!(page, "{}", ch.counts().ring_full)?)
    };
    dropped_packets, c"dropped_packets", |ch, page| {
        Ok(write!(page, "{}", ch.counts().dropped)?)
    };
    out_mask, c"out_mask", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.outgoing.interrupt_mask)?)
    };
    in_mask, c"in_mask", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.incoming.interrupt_mask)?)
    };
    read_avail, c"read_avail", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.incoming.bytes_to_read.ok_or(EIO)?)?)
    };
    write_avail, c"write_avail", |ch, page| {
        Ok(write!(page, "{}", ch.ring_stats()?.outgoing.bytes_to_write.ok_or(EIO)?)?)
    };
}

static GROUP: Static<bindings::attribute_group> = group(None, ATTRIBUTES.as_ptr().cast());

static GROUPS: Static<[*const bindings::attribute_group; 2]> =
    Static([GROUP.as_ptr(), ptr::null()]);

static TYPE: Static<bindings::kobj_type> = Static(bindings::kobj_type {
    release: Some(release),
    sysfs_ops: &raw const bindings::kobj_sysfs_ops,
    default_groups: GROUPS.as_ptr().cast(),
    // SAFETY: All other fields are options of functions, for which zero means "not there".
    ..unsafe { MaybeUninit::<bindings::kobj_type>::zeroed().assume_init() }
});

/// Moves the interrupts of the channel to the CPU whose number was written.
extern "C" fn cpu_store(
    kobj: *mut bindings::kobject,
    _attr: *mut bindings::kobj_attribute,
    buf: *const c_char,
    count: usize,
) -> isize {
    // SAFETY: sysfs passes a folder, which stays while its file is written, and `count` bytes.
    let (channel, text) = unsafe {
        (
            channel_of(kobj),
            core::slice::from_raw_parts(buf.cast::<u8>(), count),
        )
    };
    let result = parse_cpu(text).and_then(|cpu| {
        let connection = CONNECTION.get().ok_or(ENODEV)?;
        let _online = CpusReadGuard::new();

        channel::retarget(&connection, channel, cpu)
    });

    match result {
        Ok(()) => isize::try_from(count).unwrap_or(isize::MAX),
        Err(error) => error.to_errno() as isize,
    }
}

fn parse_cpu(text: &[u8]) -> Result<CpuId> {
    let mut cpu = 0u32;
    let digits = text.trim_ascii();

    if digits.is_empty() {
        return Err(EINVAL);
    }
    for &digit in digits {
        let digit = digit.checked_sub(b'0').filter(|&d| d < 10).ok_or(EINVAL)?;

        cpu = cpu
            .checked_mul(10)
            .and_then(|cpu| cpu.checked_add(u32::from(digit)))
            .ok_or(EINVAL)?;
    }
    CpuId::from_u32(cpu).ok_or(EINVAL)
}
