//! First population: rows are appended in batches to a view nobody can see yet.

use super::runs::weighted;
use super::writer::Writer;
use crate::error;
use crate::exec::node::Child;
use crate::pg::image::Row;
use crate::pg::slot::Slot;
use crate::pg::{interrupt, progress};
use pgrx::{PgMemoryContexts, pg_sys};

/// Rows and bytes per batch, as COPY has them.
const BATCH_ROWS: usize = 1000;
const BATCH_BYTES: u32 = 65535;

/// Rows on their way into the view.
struct Batch {
    desc: pg_sys::TupleDesc,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    filled: usize,
    bytes: u32,
    /// Holds the batch's tuples.
    context: PgMemoryContexts,
}

/// Writes all rows of `child`, each as often as its weight says.
///
/// The child's rows have the view's columns followed by a weight.
///
/// # Safety
/// The view's descriptor is that of the rows, so that they can be copied by it.
pub unsafe fn populate(writer: &mut Writer, child: Child) {
    let mut batch = Batch::new(writer.desc());
    let mut shown = progress::Rows::default();
    // SAFETY: the view is open.
    let columns = unsafe { (*writer.desc()).natts } as usize;
    while let Some(slot) = child.next() {
        let (row, weight) = weighted(&slot, columns);
        if weight < 0 {
            error::cannot_happen("a first population removes rows");
        }
        for _ in 0..weight {
            interrupt::check();
            batch.add(row);
            if batch.full() {
                batch.flush(writer);
            }
        }
        shown.add(1);
    }
    batch.flush(writer);
    batch.end();
    writer.finish_append();
}

impl Batch {
    fn new(desc: pg_sys::TupleDesc) -> Self {
        Self { desc, slots: Vec::new(), filled: 0, bytes: 0, context: PgMemoryContexts::new("TrickleApply batch") }
    }

    fn add(&mut self, row: Row) {
        if self.filled == self.slots.len() {
            // SAFETY: the view is open until the slot is dropped.
            self.slots.push(unsafe { Slot::make(self.desc, &raw const pg_sys::TTSOpsHeapTuple) }.as_ptr());
        }
        // SAFETY: the row has the descriptor's columns; the tuple lives until the batch is flushed.
        unsafe {
            let (desc, slot) = (self.desc, self.slots[self.filled]);
            let tuple =
                self.context.switch_to(|_| pg_sys::heap_form_tuple(desc, row.values.as_ptr(), row.nulls.as_ptr()));
            pg_sys::ExecStoreHeapTuple(tuple, slot, false);
            self.bytes += (*tuple).t_len;
        }
        self.filled += 1;
    }

    fn full(&self) -> bool {
        self.filled == BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    fn flush(&mut self, writer: &mut Writer) {
        if self.filled > 0 {
            let slots = &mut self.slots[..self.filled];
            // SAFETY: the slots hold rows of the view.
            unsafe {
                writer.append(slots);
                slots.iter().for_each(|&slot| Slot::new(slot).clear());
                self.context.reset();
            }
            (self.filled, self.bytes) = (0, 0);
        }
    }

    fn end(self) {
        // SAFETY: made by `add`.
        self.slots.into_iter().for_each(|slot| unsafe { Slot::new(slot) }.drop());
    }
}
