// SPDX-License-Identifier: GPL-2.0

//! Which guest physical addresses this program gives to the hypervisor. The image, with its stacks and
//! page tables, is below `FREE`, and none of these.

use crate::random::Random;

/// From here to `END` memory has no owner.
pub(crate) const FREE: u64 = 0x40_0000;
/// Where memory ends: QEMU is started with 64 MiB.
pub(crate) const END: u64 = 0x400_0000;
/// A page.
pub(crate) const PAGE: u64 = 4096;

/// The message page of the checks.
pub(crate) const SIMP: u64 = FREE;
/// The message pages of the random part, while they are in their place.
pub(crate) const SIMP_OF_CPU: [u64; 2] = [SIMP, FREE + 8 * PAGE];
/// Their event flags page.
pub(crate) const SIEFP: u64 = FREE + PAGE;
/// Their hypercall page.
pub(crate) const HYPERCALL: u64 = FREE + 2 * PAGE;
/// Their reference TSC page.
pub(crate) const REFERENCE_TSC: u64 = FREE + 3 * PAGE;
/// The input of hypercalls, one page for each CPU.
pub(crate) const INPUT: u64 = FREE + 4 * PAGE;

/// Pages without memory: above RAM, in the PCI hole, beyond what a CPU can address.
pub(crate) const NO_MEMORY: [u64; 7] = [
    END,
    0x8000_0000,
    0xa000_0000,
    1 << 36,
    1 << 52,
    1 << 63,
    u64::MAX & !(PAGE - 1),
];

/// Pages of devices, ROM and legacy memory: overlays only.
const ODD: [u64; 12] = [
    0,
    0x9_f000,
    0xa_0000,
    0xc_0000,
    0xf_f000,
    0xb000_0000,
    0xfec0_0000,
    0xfed0_0000,
    0xfee0_0000,
    0xfffc_0000,
    0xffff_f000,
    1 << 32,
];

/// A page that the hypervisor may be asked to write: memory without owner, or none at all.
pub(crate) fn writable_page(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => NO_MEMORY[random.index(NO_MEMORY.len())],
        // The same few ones again and again, so that they overlap.
        1..=4 => FREE + random.below(16) * PAGE,
        5 => END - PAGE * (1 + random.below(2)),
        _ => FREE + random.below((END - FREE) / PAGE) * PAGE,
    }
}

/// Any page but the program's own.
pub(crate) fn any_page(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => ODD[random.index(ODD.len())],
        1 => {
            let page = random.word() & !(PAGE - 1);
            if (0x10_0000..FREE).contains(&page) {
                FREE
            } else {
                page
            }
        }
        _ => writable_page(random),
    }
}

/// Read memory that the hypervisor writes.
pub(crate) fn read<T: Copy>(address: u64) -> T {
    assert!((FREE..END).contains(&address), "memory of its own");
    // SAFETY: memory without owner, mapped to itself; `T` is an integer wherever this is used, so that
    // any bytes are one.
    unsafe { (address as *const T).read_volatile() }
}

/// Write memory that the hypervisor reads.
pub(crate) fn write<T: Copy>(address: u64, value: T) {
    assert!((FREE..END).contains(&address), "memory of its own");
    // SAFETY: as above, and no Rust object is there.
    unsafe { (address as *mut T).write_volatile(value) };
}
