//! Whether scheduled refreshes are paused in this database.

use super::PAUSED;
use crate::pg::catalog_table::value;
use crate::pg::clock;
use crate::wakeup;
use pgrx::pg_sys;

pub fn paused() -> bool {
    !PAUSED.open_for_read().is_empty()
}

/// Since when they are.
pub fn paused_since() -> Option<pg_sys::TimestampTz> {
    PAUSED.open_for_read().all().first().map(|row| row.must(SINCE))
}

/// Column of table paused.
const SINCE: i16 = 1;

/// A row says so, with the time.
pub fn set_paused(paused: bool) {
    wakeup::graph_changed();
    let table = PAUSED.open_for_write();
    let rows = table.all();
    match (paused, rows.is_empty()) {
        (true, true) => table.insert(&[value(clock::now())]),
        (false, false) => rows.iter().for_each(|row| table.delete(row)),
        _ => (),
    }
}
