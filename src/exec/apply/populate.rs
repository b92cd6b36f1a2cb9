//! First population: rows are appended in batches to a view nobody can see yet.

use crate::error;
use crate::exec::node::Child;
use crate::exec::store::{Batch, Store};
use crate::exec::weighted::Layout;
use crate::pg::{interrupt, progress};

/// Writes all rows of `child`, each as often as its weight says.
///
/// # Safety
/// The child's rows are the view's, weighted and of this layout, so that they can be copied by the view's descriptor.
pub unsafe fn populate(writer: &mut Store, child: Child, layout: Layout) {
    if writer.is_internal() {
        // SAFETY: as the caller says; what empties the table gives it a new file.
        return unsafe { fill(writer, child, layout) };
    }
    let mut batch = Batch::new(writer.desc());
    let mut shown = progress::Rows::default();
    while let Some(slot) = child.next() {
        let (row, weight) = layout.split(&slot);
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

/// The same for a hidden relation, whose indexes are there already, without entries.
///
/// # Safety
/// As `populate`; the relation's file was made by this transaction.
unsafe fn fill(writer: &mut Store, child: Child, layout: Layout) {
    writer.expect_all();
    let mut shown = progress::Rows::default();
    while let Some(slot) = child.next() {
        let (_, weight) = layout.split(&slot);
        if weight < 0 {
            error::cannot_happen("a first population removes rows");
        }
        for _ in 0..weight {
            interrupt::check();
            // SAFETY: a live row that begins with the relation's columns.
            unsafe { writer.insert(slot) };
        }
        shown.add(1);
    }
}

fn flush(batch: &mut Batch, writer: &mut Store) {
    if !batch.is_empty() {
        // SAFETY: the slots hold rows of the view.
        unsafe { writer.populate(batch.rows()) };
        batch.clear();
    }
}
