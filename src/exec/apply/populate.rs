//! First population: rows are appended in batches to a view nobody can see yet.

use super::runs::weighted;
use crate::error;
use crate::exec::node::Child;
use crate::exec::store::{Batch, Store};
use crate::pg::{interrupt, progress};

/// Writes all rows of `child`, each as often as its weight says.
///
/// The child's rows have the view's columns followed by a weight.
///
/// # Safety
/// The view's descriptor is that of the rows, so that they can be copied by it.
pub unsafe fn populate(writer: &mut Store, child: Child) {
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
            // SAFETY: a live row of the view's descriptor.
            unsafe { batch.form(row) };
            batch.keep();
            if batch.is_full() {
                flush(&mut batch, writer);
            }
        }
        shown.add(1);
    }
    flush(&mut batch, writer);
    batch.end();
    writer.finish_append();
}

fn flush(batch: &mut Batch, writer: &mut Store) {
    if !batch.is_empty() {
        // SAFETY: the slots hold rows of the view.
        unsafe { writer.populate(batch.rows()) };
        batch.clear();
    }
}
