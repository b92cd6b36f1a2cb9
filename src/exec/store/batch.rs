//! Rows on their way into a table together: the server stores many rows of a page at once, with one WAL record.

use crate::pg::image::Row;
use crate::pg::memory;
use crate::pg::slot::Slot;
use pgrx::pg_sys;

/// Rows and bytes per batch, as COPY has them.
const BATCH_ROWS: usize = 1000;
const BATCH_BYTES: usize = 65535;

/// Rows of one descriptor, formed into tuples.
pub struct Batch {
    desc: pg_sys::TupleDesc,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    filled: usize,
    /// What the rows take on a page.
    bytes: usize,
    /// Holds the batch's tuples and their slots. After an error it goes with the context current at `new`.
    context: pg_sys::MemoryContext,
}

impl Batch {
    /// The descriptor and the current memory context live until `end`; any context may be the current one meanwhile.
    pub fn new(desc: pg_sys::TupleDesc) -> Self {
        // SAFETY: as the caller promises.
        let context = unsafe { memory::create(pg_sys::CurrentMemoryContext, c"pg_trickle batch") };
        Self { desc, slots: Vec::new(), filled: 0, bytes: 0, context }
    }

    /// Copies a row into the next slot; `keep` makes it part of the batch, `forget` frees it. Tuples are in a context of their
    /// own so that freeing them leaves no holes elsewhere.
    ///
    /// # Safety
    /// `row` is a live row of the descriptor.
    pub unsafe fn form(&mut self, row: Row) -> Slot {
        if self.filled == self.slots.len() {
            // SAFETY: descriptor and context live until the slot is dropped.
            let slot =
                unsafe { memory::within(self.context, || Slot::make(self.desc, &raw const pg_sys::TTSOpsHeapTuple)) };
            self.slots.push(slot.as_ptr());
        }
        // SAFETY: the row has the descriptor's columns; the slot owns the tuple.
        unsafe {
            let (desc, slot) = (self.desc, self.slots[self.filled]);
            let tuple =
                memory::within(self.context, || pg_sys::heap_form_tuple(desc, row.values.as_ptr(), row.nulls.as_ptr()));
            // A slot that owns its tuple is not made to copy it when the tuple is stored.
            pg_sys::ExecStoreHeapTuple(tuple, slot, true);
            Slot::new(slot)
        }
    }

    /// The row just formed is one of the batch.
    pub fn keep(&mut self) {
        self.bytes += on_page(self.formed_length());
        self.filled += 1;
    }

    /// The row just formed is not needed any more.
    pub fn forget(&mut self) {
        // SAFETY: made by `form`; the slot frees its tuple.
        unsafe { Slot::new(self.slots[self.filled]) }.clear();
    }

    /// Bytes of the tuple just formed.
    pub fn formed_length(&self) -> usize {
        // SAFETY: a slot that holds a heap tuple.
        unsafe { (*(*self.slots[self.filled].cast::<pg_sys::HeapTupleTableSlot>()).tuple).t_len as usize }
    }

    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_full(&self) -> bool {
        self.filled == BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// The batch's rows.
    pub fn rows(&mut self) -> &mut [*mut pg_sys::TupleTableSlot] {
        &mut self.slots[..self.filled]
    }

    /// Empties the batch.
    pub fn clear(&mut self) {
        // SAFETY: made by `form`; each slot frees its tuple.
        self.slots[..self.filled].iter().for_each(|&slot| unsafe { Slot::new(slot) }.clear());
        (self.filled, self.bytes) = (0, 0);
    }

    pub fn end(&mut self) {
        self.clear();
        // SAFETY: made by `form`.
        self.slots.drain(..).for_each(|slot| unsafe { Slot::new(slot) }.drop());
        // SAFETY: made by `new`; no tuple of it is in use.
        unsafe { pg_sys::MemoryContextDelete(self.context) };
    }
}

/// What a tuple of this length takes on a page, with its line pointer.
pub fn on_page(length: usize) -> usize {
    length.next_multiple_of(pg_sys::MAXIMUM_ALIGNOF as usize) + size_of::<pg_sys::ItemIdData>()
}
