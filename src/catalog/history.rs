//! pgtrickle_internal.refresh_history: one row per refresh that did something. View pgtrickle.pgt_refresh_history shows them.

use super::{HISTORY, HISTORY_ID, HISTORY_KEY, HISTORY_KEY_OF_0_1_0, HISTORY_OF_0_1_0};
use crate::pg::catalog_table::{CatalogTable, Row, Rows, value};
use crate::pg::{clock, facts, sequence};
use crate::settings;
use pgrx::pg_sys;

/// A refresh, ended.
pub struct Refresh<'a> {
    pub view: pg_sys::Oid,
    /// Of the snapshot; None when it failed before it had one.
    pub data_timestamp: Option<pg_sys::TimestampTz>,
    pub started: pg_sys::TimestampTz,
    pub ended: pg_sys::TimestampTz,
    /// Milliseconds from the first commit that it brought to light to its own, as far as known.
    pub commit_to_visible: Option<f64>,
    /// FULL, DIFFERENTIAL, REINITIALIZE, ...
    pub action: &'a str,
    /// COMPLETED, FAILED or SKIPPED.
    pub status: &'a str,
    /// SCHEDULER, MANUAL or INITIAL.
    pub initiated_by: &'a str,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    pub error: Option<&'a str>,
    pub sqlstate: Option<&'a str>,
    /// `CODE: sentence`: of a REINITIALIZE, and of another refresh which rows came or went with whole tables.
    pub reason: Option<&'a str>,
}

mod column {
    pub const RELID: i16 = 1;
    pub const START_TIME: i16 = 4;
    pub const END_TIME: i16 = 5;
    pub const ACTION: i16 = 6;
    pub const STATUS: i16 = 7;
    pub const INITIATED_BY: i16 = 8;
}

/// With about every sixteenth row expired ones are removed: more than that, so that a shortened retention catches up.
const REMOVED_AT_ONCE: usize = 64;

/// Views that are refreshed together take turns with ids, so their remainders would not do.
fn removes_expired(id: i64) -> bool {
    facts::hash(&id.to_ne_bytes(), 0).is_multiple_of(16)
}

const MICROSECONDS_PER_MINUTE: i64 = 60_000_000;

/// Adds a row for a refresh, and removes some that are older than `pg_trickle.history_retention`.
pub fn record(refresh: &Refresh) {
    let table = HISTORY.open_for_write();
    let id = sequence::next(HISTORY_ID.oid());
    table.insert(&[
        value(refresh.view),
        value(id),
        refresh.data_timestamp.and_then(value),
        value(refresh.started),
        value(refresh.ended),
        value(refresh.action),
        value(refresh.status),
        value(refresh.initiated_by),
        value(refresh.inserted as i64),
        value(refresh.updated as i64),
        value(refresh.deleted as i64),
        value(clock::milliseconds(refresh.started, refresh.ended)),
        refresh.error.and_then(value),
        refresh.commit_to_visible.and_then(value),
        refresh.reason.and_then(value),
        refresh.sqlstate.and_then(value),
    ]);
    if removes_expired(id) {
        remove_expired(&table, refresh.view, refresh.ended);
    }
}

/// Rows of a view come in the order of their ids, so the oldest first.
fn remove_expired(table: &CatalogTable, view: pg_sys::Oid, now: pg_sys::TimestampTz) {
    let Some(minutes) = settings::history_retention() else { return };
    let horizon = now - i64::from(minutes) * MICROSECONDS_PER_MINUTE;
    for row in table.find_first(HISTORY_KEY.oid(), column::RELID, view, REMOVED_AT_ONCE) {
        if row.must::<i64>(column::END_TIME) < horizon {
            table.delete(&row);
        }
    }
}

/// A refresh by the scheduler that succeeded.
pub struct Scheduled {
    pub action: String,
    pub started: pg_sys::TimestampTz,
    pub ended: pg_sys::TimestampTz,
}

/// So many rows are looked at.
const REMEMBERED: usize = 16;

/// Those among the view's last refreshes, the latest first.
pub fn last_scheduled(view: pg_sys::Oid) -> Vec<Scheduled> {
    let rows = HISTORY.open_for_read().find_last(HISTORY_KEY.oid(), column::RELID, view, REMEMBERED);
    let text = |row: &Row, column| row.must::<String>(column);
    let scheduled =
        |row: &&Row| text(row, column::STATUS) == "COMPLETED" && text(row, column::INITIATED_BY) == "SCHEDULER";
    let read = |row: &Row| Scheduled {
        action: text(row, column::ACTION),
        started: row.must(column::START_TIME),
        ended: row.must(column::END_TIME),
    };
    rows.iter().filter(scheduled).map(read).collect()
}

/// Forgets a view that is gone. Views are also dropped before the extension is updated: then the table is that of 0.1.0.
pub fn delete(view: pg_sys::Oid) {
    let (table, key) = match HISTORY.find() {
        Some(_) => (&HISTORY, &HISTORY_KEY),
        None => (&HISTORY_OF_0_1_0, &HISTORY_KEY_OF_0_1_0),
    };
    let table = table.open_for_write();
    for row in table.find(key.oid(), column::RELID, view, Rows::Latest) {
        table.delete(&row);
    }
}
