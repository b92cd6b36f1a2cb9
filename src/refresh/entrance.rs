//! What must be so before a refresh begins.

use super::entry::name;
use crate::capture;
use crate::capture::frontier::Frontier;
use crate::catalog::stream_table::{self, StreamTable};
use crate::error::error;
use crate::pg::{names, snapshot};
use crate::plan::cache::Entry;
use crate::registration;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::Cell;

thread_local!(static UNDER_WAY: Cell<bool> = const { Cell::new(false) });

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

/// In REPEATABLE READ the transaction's snapshot may be older than what the view already contains, or than the commit of
/// what was computed at an older one still: then the rows to continue are not seen.
pub fn check_order(view: pg_sys::Oid, row: &StreamTable, new: &Frontier) {
    let old = row.frontier.as_deref().map(Frontier::stored);
    if old.as_ref().is_some_and(Frontier::is_of_the_future) {
        ids_set_back(view)
    }
    if old.is_some_and(|old| !old.precedes(new)) || snapshot::is_kept() && !stream_table::is_seen(view) {
        error(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            format!("could not refresh materialized view \"{}\" due to a concurrent refresh", name(view)),
        )
        .detail("The view already contains what this transaction's snapshot does not see.")
        .hint("Retry the transaction.")
        .raise()
    }
}

/// What the buffers have of the transactions before cannot be told from what is to come.
fn ids_set_back(view: pg_sys::Oid) -> ! {
    error(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("cannot refresh materialized view \"{}\" after transaction ids have been set back", name(view)),
    )
    .detail("The view contains transactions that this server has yet to begin. pg_resetwal may do that.")
    .hint("Set pg_trickle.incremental to false for all stream tables of this database, and to true again.")
    .raise()
}

/// At a snapshot older than the file that a table has now, the table is empty, or has rows that are not there yet.
pub fn refuse_rewritten(entry: &Entry) {
    let rewritten = || entry.relations().find(|&relid| capture::is_rewritten(relid));
    if let Some(table) = snapshot::is_kept().then(rewritten).flatten() {
        error(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            format!("could not refresh materialized view \"{}\" due to a concurrent change", name(entry.circuit.view)),
        )
        .detail(format!(
            "\"{}\" was truncated or rewritten after the snapshot of this transaction was taken.",
            name(table)
        ))
        .hint("Retry the transaction.")
        .raise()
    }
}

/// Changes of a statement still running are in its table but not yet captured.
pub fn refuse_if_in_use(entry: &Entry) {
    for source in entry.circuit.sources.iter().filter(|source| source.capturable) {
        if capture::in_use(source.relid) {
            error(
                PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
                format!("cannot refresh while a statement of this session is changing \"{}\"", name(source.relid)),
            )
            .hint("Call the refresh after the statement, not from within it.")
            .raise()
        }
    }
}

/// While it lives, this session refreshes.
pub struct Turn(());

pub fn is_under_way() -> bool {
    UNDER_WAY.get()
}

/// A function in a view's query may call for a refresh while one is under way, of the same view perhaps, whose
/// contents would be computed twice. Refused.
pub fn take_turn() -> Turn {
    if UNDER_WAY.replace(true) {
        error(PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, "cannot refresh while a refresh of this session is under way")
            .detail("A function called by the query of a stream table has called for another refresh.")
            .hint("Take the call out of the function.")
            .raise()
    }
    Turn(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        UNDER_WAY.set(false);
    }
}
