//! What is known of a view of this database in shared memory only (`../pg/notes.rs`).

use super::{bit, own};
use crate::pg::notes::{self, Note};
use crate::pg::process;
use crate::pg::shared;
use pgrx::pg_sys;

fn note(view: pg_sys::Oid) -> Option<&'static Note> {
    notes::find(shared::area()?, process::own_database().to_u32(), view.to_u32())
}

/// A refresh of the view had nothing to do.
pub fn count_noop(view: pg_sys::Oid) {
    let Some(shared) = shared::area() else { return };
    if let Some(note) = notes::place(shared, process::own_database().to_u32(), view.to_u32()) {
        note.count_noop();
    }
}

/// How many there were.
pub fn noops(view: pg_sys::Oid) -> u64 {
    note(view).map_or(0, Note::noops)
}

/// Counting begins anew.
pub fn reset(view: pg_sys::Oid) {
    note(view).into_iter().for_each(Note::reset);
}

/// The first commit that the view may not show, as the scheduler knows.
pub fn behind(view: pg_sys::Oid) -> Option<pg_sys::TimestampTz> {
    note(view)?.behind()
}

/// The first change of one of these relations, or of others with the same bits, that the scheduler has not looked at yet.
pub fn noted(relations: impl Iterator<Item = u32>) -> Option<pg_sys::TimestampTz> {
    let database = own(shared::area()?)?;
    relations.filter_map(|relation| database.noted((bit(relation) / u64::BITS) as usize)).min()
}
