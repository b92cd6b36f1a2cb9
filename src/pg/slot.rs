//! Tuple table slots: rows on their way through a plan.
//!
//! Storing a row and deforming a stored one happen several times per row, so they go unguarded: what the server would
//! raise an error for is looked at before.

use super::image::Row;
use super::server;
use pgrx::pg_sys::{self, Datum};

/// A live slot; whoever made it drops it.
#[derive(Clone, Copy)]
pub struct Slot(*mut pg_sys::TupleTableSlot);

impl Slot {
    /// # Safety
    /// `slot` outlives this handle and its copies.
    pub unsafe fn new(slot: *mut pg_sys::TupleTableSlot) -> Self {
        Self(slot)
    }

    /// A slot of its own, dropped by `drop`.
    ///
    /// # Safety
    /// The descriptor outlives the slot.
    pub unsafe fn make(desc: pg_sys::TupleDesc, ops: *const pg_sys::TupleTableSlotOps) -> Self {
        // SAFETY: the slot pins a counted descriptor; others live as long as the query.
        Self(unsafe { pg_sys::MakeSingleTupleTableSlot(desc, ops) })
    }

    pub fn as_ptr(self) -> *mut pg_sys::TupleTableSlot {
        self.0
    }

    /// The first `columns` values. They stay valid until the slot changes, which nobody does while the row is in use.
    pub fn row(&self, columns: usize) -> Row<'_> {
        // SAFETY: after deforming both arrays hold that many valid elements. They are the slot's and live as long as it.
        unsafe {
            if ((*self.0).tts_nvalid as usize) < columns {
                self.deform(columns);
            }
            Row {
                values: std::slice::from_raw_parts((*self.0).tts_values, columns),
                nulls: std::slice::from_raw_parts((*self.0).tts_isnull, columns),
            }
        }
    }

    #[inline]
    unsafe fn deform(&self, columns: usize) {
        // SAFETY: slot_getsomeattrs_int raises for columns beyond the descriptor and for virtual slots, and reads the tuple of
        // a slot that holds one. With these cases excluded it only computes, so the raw call does not jump.
        unsafe {
            let slot = &*self.0;
            let is_stored = slot.tts_flags & pg_sys::TTS_FLAG_EMPTY as u16 == 0
                && !std::ptr::eq(slot.tts_ops, &raw const pg_sys::TTSOpsVirtual);
            assert!(is_stored && columns <= (*slot.tts_tupleDescriptor).natts as usize, "a row lacks columns");
            server::slot_getsomeattrs_int(self.0, columns as i32);
        }
    }

    /// Makes a virtual slot hold the given values, borrowed, followed by `more`.
    pub fn store(self, row: Row, more: &[Datum]) {
        let n = row.values.len();
        // SAFETY: a virtual slot has room for its descriptor's columns, which are at least these.
        unsafe {
            (*(*self.0).tts_ops).clear.expect("every kind of slot can be cleared")(self.0);
            debug_assert!(n + more.len() <= (*(*self.0).tts_tupleDescriptor).natts as usize);
            std::ptr::copy_nonoverlapping(row.values.as_ptr(), (*self.0).tts_values, n);
            std::ptr::copy_nonoverlapping(row.nulls.as_ptr(), (*self.0).tts_isnull, n);
            for (i, &value) in more.iter().enumerate() {
                *(*self.0).tts_values.add(n + i) = value;
                *(*self.0).tts_isnull.add(n + i) = false;
            }
            server::ExecStoreVirtualTuple(self.0);
        }
    }

    /// Makes a minimal-tuple slot hold a borrowed tuple. It may have more columns than the slot's descriptor.
    ///
    /// # Safety
    /// The slot is of the minimal kind; the tuple outlives its stay in the slot.
    pub unsafe fn store_minimal(self, tuple: pg_sys::MinimalTuple) {
        // SAFETY: a slot of the minimal kind stores the pointer, for which the caller keeps the tuple, and raises nothing.
        unsafe { server::ExecStoreMinimalTuple(tuple, self.0, false) };
    }

    pub fn clear(self) {
        // SAFETY: a live slot.
        unsafe { pg_sys::ExecClearTuple(self.0) };
    }

    /// Ends a slot made by `make`.
    pub fn drop(self) {
        // SAFETY: made by MakeSingleTupleTableSlot, dropped once.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.0) };
    }
}
