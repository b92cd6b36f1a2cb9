//! What must be so before a user's refresh begins.

use crate::catalog::stream_table;
use crate::pg::names;
use crate::registration;
use pgrx::pg_sys;

/// The lock a refresh takes on its view. Nobody can read a view that is not populated, so populating it may exclude
/// everybody.
pub fn lock_level(view: pg_sys::Oid) -> u32 {
    if names::is_populated(view) { pg_sys::RowExclusiveLock } else { pg_sys::AccessExclusiveLock }
}

/// Starts the capture for a view that is about to be populated.
pub fn prepare(view: pg_sys::Oid) {
    if stream_table::get(view).is_some_and(|row| row.frontier.is_none()) {
        registration::attach(view);
    }
}
