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
    privilege::require_writable(COMMAND);
    let Some(view) = lock_stream_table(statement) else { return Verdict::Pass };
    if statement.no_data() {
        return Verdict::Core(None, Box::new(move |_| unpopulate(view)));
    }
    if statement.concurrently() && !names::is_populated(view) {
        options::unsupported("CONCURRENTLY cannot be used when the materialized view is not populated").raise()
    }
    let outcome = run(view);
    let rows = outcome.inserted + outcome.updated + outcome.deleted;
    call.complete(pg_sys::CommandTag::CMDTAG_REFRESH_MATERIALIZED_VIEW, rows);
    Verdict::Done
}

/// Locks the view as the statement requires; None when it is not a stream table and the server's to refresh. While we
/// waited the view may have been adopted or released: the server's refresh would replace rows behind a frontier, ours
/// would go by one that is gone. So it is decided under the lock.
fn lock_stream_table(statement: Refresh) -> Option<pg_sys::Oid> {
    let name = statement.relation();
    loop {
        let expected = requirement(statement, name.find()?);
        let view = name.lock(expected.mode, Permission::Maintain);
        if requirement(statement, view) == expected {
            return expected.ours.then_some(view);
        }
        names::unlock(view, expected.mode);
    }
}

/// What a REFRESH of a view needs.
#[derive(PartialEq, Eq)]
struct Requirement {
    ours: bool,
    mode: u32,
}

/// As the server's REFRESH, but ours lets readers go on. Nobody can read a view that is not populated, so populating it
/// may exclude everybody.
fn requirement(statement: Refresh, view: pg_sys::Oid) -> Requirement {
    let ours = stream_table::exists(view);
    let mode = match ours {
        true if names::is_populated(view) && !statement.no_data() => pg_sys::RowExclusiveLock,
        false if statement.concurrently() => pg_sys::ExclusiveLock,
        _ => pg_sys::AccessExclusiveLock,
    };
    Requirement { ours, mode }
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
