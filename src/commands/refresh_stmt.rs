//! REFRESH MATERIALIZED VIEW [CONCURRENTLY] of a stream table, and EXPLAIN of it.
//!
//! Permissions and errors are those of the server. No refresh of ours blocks readers, so CONCURRENTLY changes nothing.

use super::{options, registration};
use crate::catalog::stream_table;
use crate::pg::names::{self, Permission};
use crate::pg::privilege;
use crate::pg::statement::{ExplainRefresh, Refresh};
use crate::pg::utility::{Call, Verdict};
use crate::refresh::{self, Initiator, Outcome};
use pgrx::pg_sys;

const COMMAND: &str = "REFRESH MATERIALIZED VIEW";

pub fn before(call: &Call) -> Verdict {
    let Some(statement) = Refresh::of(call) else { return Verdict::Pass };
    let Some(view) = statement.relation().find().filter(|relid| stream_table::exists(*relid)) else {
        return Verdict::Pass;
    };
    if statement.no_data() {
        return Verdict::Core(None, Box::new(move |_| unpopulate(view)));
    }
    privilege::require_writable(COMMAND);
    let view = statement.relation().lock(lock_level(view), Permission::Maintain);
    if statement.concurrently() && !names::is_populated(view) {
        options::unsupported("CONCURRENTLY cannot be used when the materialized view is not populated").raise()
    }
    let outcome = run(view);
    let rows = outcome.inserted + outcome.updated + outcome.deleted;
    call.complete(pg_sys::CommandTag::CMDTAG_REFRESH_MATERIALIZED_VIEW, rows);
    Verdict::Done
}

/// Nobody can read a view that is not populated, so populating it may exclude everybody.
fn lock_level(view: pg_sys::Oid) -> u32 {
    if names::is_populated(view) { pg_sys::RowExclusiveLock } else { pg_sys::AccessExclusiveLock }
}

pub fn before_explain(call: &Call) -> Verdict {
    let Some(explain) = ExplainRefresh::of(call) else { return Verdict::Pass };
    let relation = explain.refresh.relation();
    if !relation.find().is_some_and(stream_table::exists) {
        return Verdict::Pass;
    }
    let view = relation.lock(pg_sys::AccessShareLock, Permission::Maintain);
    explain.answer(view, refresh::explain::explain);
    Verdict::Done
}

/// Refreshes a stream table on which the caller holds a lock, for a user who may.
pub fn run(view: pg_sys::Oid) -> Outcome {
    if stream_table::get(view).is_some_and(|st| st.frontier.is_none()) {
        registration::attach(view);
    }
    refresh::refresh(view, Initiator::Manual)
}

fn unpopulate(view: pg_sys::Oid) {
    stream_table::clear_frontier(view);
    registration::detach(view);
}
