//! Memory that Envoy leaves its answers in.
//!
//! It asks this module for a place for each answer, several times for each request. One place of a fixed
//! size is kept and given again: an allocator's work would cost about as much as reading the answer.
#![allow(unsafe_code, reason = "memory changes hands with the host")]

use std::{
    alloc::{Layout, alloc, dealloc},
    cell::Cell,
    ops::Deref,
    ptr::{NonNull, null_mut},
    slice,
};

/// Bytes of a place; only longer answers have one of their own.
const PLACE: usize = 4_096;

thread_local! {
    /// The place that nobody uses now, if there is one.
    static SPARE: Cell<Option<NonNull<u8>>> = const { Cell::new(None) };
}

/// Of the memory that an answer of so many bytes lies in. None for one that no memory can hold.
fn layout(size: usize) -> Option<Layout> {
    Layout::array::<u8>(size.max(PLACE)).ok()
}

/// A place for an answer; null when there is no memory. Envoy knows it as `malloc`, which elsewhere is
/// somebody else's name.
#[cfg_attr(target_arch = "wasm32", unsafe(export_name = "malloc"))]
#[cfg_attr(not(target_arch = "wasm32"), unsafe(no_mangle))]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let spare = match size <= PLACE {
        true => SPARE.take(),
        false => None,
    };
    match (spare, layout(size)) {
        (Some(spare), _) => spare.as_ptr(),
        // SAFETY: the layout is of at least `PLACE` bytes, so never of none.
        (None, Some(layout)) => unsafe { alloc(layout) },
        (None, None) => null_mut(),
    }
}

/// An answer of the host.
#[derive(Debug)]
pub struct Bytes {
    /// From [`proxy_on_memory_allocate`], asked for `size` bytes; none for no answer.
    data: Option<NonNull<u8>>,
    size: usize,
}

impl Bytes {
    /// No bytes.
    pub const NONE: Self = Self {
        data: None,
        size: 0,
    };

    /// Takes what the host left.
    ///
    /// # Safety
    /// `data` is null, or came from [`proxy_on_memory_allocate`] for exactly `size` bytes, all of them written, and nobody
    /// else uses it. The ABI promises this for the outputs of its calls.
    pub unsafe fn taken(data: *mut u8, size: usize) -> Self {
        match NonNull::new(data) {
            Some(data) => Self {
                data: Some(data),
                size,
            },
            None => Self::NONE,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self.data {
            // SAFETY: the promise of `taken`.
            Some(data) => unsafe { slice::from_raw_parts(data.as_ptr(), self.size) },
            None => &[],
        }
    }
}

impl Drop for Bytes {
    #[inline]
    fn drop(&mut self) {
        let Some(data) = self.data else {
            return;
        };
        let kept = match self.size <= PLACE {
            true => SPARE.replace(Some(data)),
            false => Some(data),
        };
        if let (Some(old), Some(layout)) = (kept, layout(self.size)) {
            // SAFETY: both kinds of place came from `alloc` with the layout of their size, and one that
            // was spare is nobody's.
            unsafe { dealloc(old.as_ptr(), layout) };
        }
    }
}
