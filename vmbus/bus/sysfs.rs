// SPDX-License-Identifier: GPL-2.0

//! Files in sysfs, and groups of them: what a file shows is safe code, see [`Shows`] and
//! [`attributes!`].

use super::bus_type::Static;
use crate::memory::PAGE_BYTES;
use core::{fmt::Write, mem::MaybeUninit, ptr};
use kernel::{bindings, ffi::c_char, prelude::*, str::as_char_ptr_in_const_context};

/// Most bytes of a file: sysfs gives a page, and wants a zero behind the text.
const MAX_BYTES: usize = PAGE_BYTES - 1;

/// The text of a file.
///
/// # Invariants
///
/// `buf` is a page of which `len` bytes are written, at most [`MAX_BYTES`].
pub(super) struct Page {
    buf: *mut u8,
    len: usize,
    /// Something did not fit.
    full: bool,
}

impl Write for Page {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        if s.len() > MAX_BYTES - self.len {
            self.full = true;
            return Err(core::fmt::Error);
        }
        // INVARIANT: As was just checked.
        //
        // SAFETY: By the invariant, and the check, this is inside of the page.
        unsafe { ptr::copy_nonoverlapping(s.as_ptr(), self.buf.add(self.len), s.len()) };
        self.len += s.len();
        Ok(())
    }
}

/// What a file shows of a `T`.
pub(super) trait Shows<T: ?Sized> {
    /// Writes the value, without the line feed.
    const SHOW: fn(&T, &mut Page) -> Result;
}

/// Has a file shown at `buf`, and answers as sysfs expects: `EFBIG` when the page cannot hold it,
/// since a part of a value looks like another value.
///
/// # Safety
///
/// `buf` is a page that nobody else uses meanwhile.
pub(super) unsafe fn emit<T: ?Sized, F: Shows<T>>(of: &T, buf: *mut c_char) -> isize {
    // INVARIANT: By the requirements of this function; nothing is written yet.
    let mut page = Page {
        buf: buf.cast(),
        len: 0,
        full: false,
    };
    let shown = (F::SHOW)(of, &mut page).and_then(|()| Ok(page.write_str("\n")?));

    match shown {
        // Also where whoever shows it went on after that.
        _ if page.full => EFBIG.to_errno() as isize,
        Ok(()) => isize::try_from(page.len).unwrap_or(0),
        Err(e) => e.to_errno() as isize,
    }
}

/// Defines the files of a folder, and a list of them for its [`group`].
///
/// The head says how the list is called, of which C type the files are, which function makes one,
/// and what they show something of. Then each file has a line: a name for the code, one in sysfs,
/// what is shown, and what takes a value, if it can be written.
macro_rules! attributes {
    (@store) => { None };
    (@store $store:expr) => { Some($store) };
    (
        $list:ident: $raw:ty = $make:ident, $of:ty;
        $($ident:ident, $name:literal, $show:expr $(, $store:expr)?;)*
    ) => {
        $(mod $ident {
            use super::*;

            pub(super) struct File;

            impl Shows<$of> for File {
                const SHOW: fn(&$of, &mut Page) -> Result = $show;
            }

            pub(super) static ATTRIBUTE: Static<$raw> =
                Static($make::<File>($name, attributes!(@store $($store)?)));
        })*

        static $list: Static<[*mut bindings::attribute; [$(stringify!($ident)),*].len() + 1]> =
            Static([$($ident::ATTRIBUTE.as_ptr().cast(),)* ptr::null_mut()]);
    };
}

pub(super) use attributes;

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

#[kunit_tests(vmbus_sysfs)]
mod tests {
    use super::*;

    /// Writes so many bytes, one by one, whether they fit or not.
    struct Bytes;

    impl Shows<usize> for Bytes {
        const SHOW: fn(&usize, &mut Page) -> Result = |bytes, page| {
            for _ in 0..*bytes {
                let _ = page.write_str("x");
            }
            Ok(())
        };
    }

    /// Shows nothing.
    struct Refusal;

    impl Shows<()> for Refusal {
        const SHOW: fn(&(), &mut Page) -> Result = |(), page| {
            write!(page, "half of it")?;
            Err(EINVAL)
        };
    }

    const UNTOUCHED: u8 = 0xa5;

    fn page() -> Result<KVec<u8>> {
        Ok(KVec::from_elem(UNTOUCHED, PAGE_BYTES, GFP_KERNEL)?)
    }

    #[test]
    fn a_full_page_is_an_error() -> Result {
        let too_big = EFBIG.to_errno() as isize;

        // What fits with its line feed, and what does not.
        for (bytes, answer) in [
            (0, 1),
            (PAGE_BYTES - 2, (PAGE_BYTES - 1) as isize),
            (PAGE_BYTES - 1, too_big),
            (PAGE_BYTES, too_big),
            (2 * PAGE_BYTES, too_big),
        ] {
            let mut page = page()?;
            // SAFETY: A page of memory of our own.
            let answered = unsafe { emit::<_, Bytes>(&bytes, page.as_mut_ptr().cast()) };

            assert_eq!(answered, answer);
            // Where sysfs wants its zero.
            assert_eq!(page.last().copied(), Some(UNTOUCHED));
        }
        Ok(())
    }

    #[test]
    fn what_is_not_shown_says_why() -> Result {
        let mut page = page()?;
        // SAFETY: As above.
        let answered = unsafe { emit::<_, Refusal>(&(), page.as_mut_ptr().cast()) };

        assert_eq!(answered, EINVAL.to_errno() as isize);
        Ok(())
    }
}
