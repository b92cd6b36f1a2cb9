//! Notes of rows that reached the change buffer of a source with a whole partition, child or table instead of a statement on rows.
//!
//! A note is a row of its own, as the marker of a recompute is: inserted with the change and deleted by the first refresh whose
//! snapshot sees it.

use super::recompute_reason::RecomputeReason;
use super::{MOVED, MOVED_VIEW, stream_table};
use crate::pg::catalog_table::{CatalogTable, Row, Rows, value};
use crate::wakeup;
use pgrx::pg_sys;

/// Column numbers.
mod column {
    pub const VIEW: i16 = 1;
    pub const REASON: i16 = 2;
    pub const ROWS: i16 = 3;
}

/// Notes so many rows for a view, `how` being what would have been the reason of a recompute. SQL objects of an older version
/// have no place for the note, and the recompute is ordered.
pub fn note(view: pg_sys::Oid, how: RecomputeReason, rows: u64) {
    if MOVED.find().is_none() {
        return stream_table::set_reinit(view, how);
    }
    MOVED.open_for_write().insert(&[value(view), value(how.to_string()), value(rows as i64)]);
    wakeup::touch(view);
}

/// What the notes say that the active snapshot sees: one sentence for each kind, with the number of rows.
pub fn seen(view: pg_sys::Oid) -> Option<String> {
    MOVED.find()?;
    let mut sums: Vec<(String, i64)> = Vec::new();
    for note in find(&MOVED.open_for_read(), view, Rows::Active) {
        let (how, rows): (String, i64) = (note.must(column::REASON), note.must(column::ROWS));
        match sums.iter_mut().find(|(known, _)| *known == how) {
            Some((_, sum)) => *sum += rows,
            None => sums.push((how, rows)),
        }
    }
    let texts: Vec<String> = sums.into_iter().map(|(how, rows)| format!("{how} Rows: {rows}.")).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// A refresh at the active snapshot has read the rows of the notes that it sees.
pub fn clear(view: pg_sys::Oid) {
    delete(view, Rows::Active);
}

/// The view is gone, or empty.
pub fn forget(view: pg_sys::Oid) {
    if MOVED.find().is_some() {
        delete(view, Rows::Latest);
    }
}

fn delete(view: pg_sys::Oid, rows: Rows) {
    let notes = MOVED.open_for_write();
    find(&notes, view, rows).iter().for_each(|note| notes.delete(note));
}

fn find(notes: &CatalogTable, view: pg_sys::Oid, rows: Rows) -> Vec<Row> {
    notes.find(MOVED_VIEW.oid(), column::VIEW, view, rows)
}
