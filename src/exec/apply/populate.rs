//! First population: rows are appended in batches to a view nobody can see yet.

use crate::error;
use crate::exec::node::Child;
use crate::exec::store::{Batch, Store};
use crate::exec::weighted::Layout;
use crate::pg::slot::Slot;
use crate::pg::{interrupt, progress};

/// Writes all rows of `child`, each as often as its weight says.
///
/// # Safety
/// The child's rows are the view's, weighted and of this layout, so that they can be copied by the view's descriptor.
pub unsafe fn populate(writer: &mut Store, child: Child, layout: Layout) {
    if writer.is_internal() {
        // What empties a hidden relation gives it a new file. Its indexes are there already, without entries.
        writer.expect_all();
        // SAFETY: live rows that begin with the relation's columns.
        return each_copy(child, layout, |slot| unsafe { writer.insert(slot) });
    }
    let mut batch = Batch::new(writer.desc());
    each_copy(child, layout, |slot| {
        // SAFETY: a live row of the view's descriptor.
        unsafe { batch.form(slot.row(layout.columns())) };
        batch.keep();
        if batch.is_full() {
            flush(&mut batch, writer);
        }
    });
    flush(&mut batch, writer);
    batch.end();
    writer.finish_append();
}

/// Each row of the child as often as its weight says.
fn each_copy(child: Child, layout: Layout, mut take: impl FnMut(Slot)) {
    let mut shown = progress::Rows::default();
    while let Some(slot) = child.next() {
        let (_, weight) = layout.split(&slot);
        if weight < 0 {
            error::cannot_happen("a first population removes rows");
        }
        for _ in 0..weight {
            interrupt::check();
            take(slot);
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
