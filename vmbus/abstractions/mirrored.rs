// SPDX-License-Identifier: GPL-2.0

//! Structures that C declares, and Rust once more.

/// Asserts the layout of a structure: its bytes; then offset and bytes of each field.
///
/// C asserts the same numbers (`mirrored.h`), so a change on one side alone does not compile.
///
/// # Examples
///
/// ```ignore
/// #[repr(C)]
/// struct Range {
///     first: u64,
///     count: u32,
/// }
///
/// vmbus::mirrored! {
///     Range, 16;
///     first: 0, 8;
///     count: 8, 4;
/// }
/// ```
#[macro_export]
macro_rules! mirrored {
    ($type:ty, $bytes:literal; $($field:ident: $offset:literal, $len:literal;)*) => {
        const _: () = {
            const fn len<S, F>(_: fn(&S) -> &F) -> usize {
                ::core::mem::size_of::<F>()
            }

            assert!(
                ::core::mem::size_of::<$type>() == $bytes,
                concat!("another number of bytes: ", stringify!($type))
            );
            $(assert!(
                ::core::mem::offset_of!($type, $field) == $offset
                    && len(|whole: &$type| &whole.$field) == $len,
                concat!("elsewhere or longer: ", stringify!($type), ".", stringify!($field))
            );)*
        };
    };
}
