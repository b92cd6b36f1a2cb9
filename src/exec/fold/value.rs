//! Nullable values and their images.

use crate::pg::image::{self, Layout};
use crate::pg::memory::within;
use crate::pg::server::{self, guarded};
use pgrx::pg_sys::{self, Datum, NullableDatum};

pub const NULL: NullableDatum = NullableDatum { value: Datum::null(), isnull: true };

pub fn not_null(value: impl Into<Datum>) -> NullableDatum {
    NullableDatum { value: value.into(), isnull: false }
}

/// A boolean that is true, neither false nor NULL.
pub fn is_true(value: NullableDatum) -> bool {
    !value.isnull && value.value.value() & 0xff != 0
}

/// How to compare, hash and copy the values of a column by image.
#[derive(Clone, Copy)]
pub struct Image(Layout);

impl Image {
    /// Of a 1-based column.
    ///
    /// # Safety
    /// The column is in the live descriptor.
    pub unsafe fn of(desc: pg_sys::TupleDesc, column: usize) -> Self {
        // SAFETY: by contract.
        Self(unsafe { image::layout_at(desc, column as i32 - 1) })
    }

    pub fn equal(self, a: NullableDatum, b: NullableDatum) -> bool {
        // SAFETY: live values of this layout: rows, states and copies of them.
        if a.isnull || b.isnull { a.isnull == b.isnull } else { unsafe { self.0.equal(a.value, b.value) } }
    }

    pub fn hash(self, value: NullableDatum) -> u64 {
        // SAFETY: as in `equal`.
        if value.isnull { 1 } else { unsafe { self.0.hash(value.value) } }
    }

    /// # Safety
    /// `memory` is alive.
    pub unsafe fn copy(self, value: NullableDatum, memory: pg_sys::MemoryContext) -> NullableDatum {
        if value.isnull || self.0.is_by_value() {
            return value;
        }
        let length = self.0.length().into();
        // SAFETY: as in `equal`; the context is alive by contract; the closure holds nothing to drop.
        let copy = unsafe { within(memory, || guarded(|| server::datumCopy(value.value, false, length))) };
        not_null(copy)
    }

    /// Bytes behind the datum.
    pub fn size(self, value: NullableDatum) -> usize {
        match self.0.length() {
            _ if value.isnull || self.0.is_by_value() => 0,
            // SAFETY: a live varlena.
            -1 => unsafe { pgrx::varlena::varsize_any(value.value.cast_mut_ptr()) },
            length => length.max(0) as usize,
        }
    }
}
