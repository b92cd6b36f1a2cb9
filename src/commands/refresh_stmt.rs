//! REFRESH MATERIALIZED VIEW [CONCURRENTLY] of a stream table, and EXPLAIN of it.
//!
//! Permissions and errors are those of the server. No refresh of ours blocks readers, so CONCURRENTLY changes nothing.

use crate::catalog::{stream_table, version};
use crate::pg::names::{self, Permission};
use crate::pg::privilege;
use crate::pg::statement::{ExplainRefresh, Refresh};
use crate::pg::utility::{Call, Verdict};
use crate::refresh::{self, Initiator, Outcome, lock_level};
use crate::registration::{self, options};
use pgrx::pg_sys;

const COMMAND: &str = "REFRESH MATERIALIZED VIEW";

pub fn before(call: &Call) -> Verdict {
    let Some(statement) = Refresh::of(call) else { return Verdict::Pass };
    privilege::require_writable(COMMAND);
    let Some(view) = lock(statement) else { return Verdict::Pass };
    if statement.no_data() {
        return Verdict::Core(None, Box::new(move |_| unpopulate(view)));
    }
    // Inside a statement that is changing what it would read there is nothing to be done.
    let passes_over = call.is_nested() && refresh::passes_over(view);
    let work = || if passes_over { Outcome::nothing() } else { refresh(&statement, view) };
    let outcome = call.with_events(view, work);
    call.complete(pg_sys::CommandTag::CMDTAG_REFRESH_MATERIALIZED_VIEW, outcome.rows());
    Verdict::Done
}

/// Locks the view a statement names as it requires; None when it is not a stream table but the server's to refresh.
/// While we waited it may have been adopted or released: the server's refresh would replace rows behind a frontier,
/// ours would go by one that is gone. So what counts is what the view is under the lock.
fn lock(statement: Refresh) -> Option<pg_sys::Oid> {
    let name = statement.relation();
    loop {
        let expected = requirement(statement, name.find()?);
        if expected.ours {
            version::require();
        }
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

fn requirement(statement: Refresh, view: pg_sys::Oid) -> Requirement {
    let ours = stream_table::exists(view);
    let mode = match ours {
        true if !statement.no_data() => lock_level(view),
        false if statement.concurrently() => pg_sys::ExclusiveLock,
        _ => pg_sys::AccessExclusiveLock,
    };
    Requirement { ours, mode }
}

fn refresh(statement: &Refresh, view: pg_sys::Oid) -> Outcome {
    if statement.concurrently() && !names::is_populated(view) {
        options::unsupported("CONCURRENTLY cannot be used when the materialized view is not populated").raise()
    }
    refresh::prepare(view);
    refresh::refresh(view, Initiator::Manual)
}

fn unpopulate(view: pg_sys::Oid) {
    stream_table::clear_frontier(view);
    registration::detach(view);
}

pub fn before_explain(call: &Call) -> Verdict {
    let Some(explain) = ExplainRefresh::of(call) else { return Verdict::Pass };
    let ours = |relid: &pg_sys::Oid| stream_table::exists(*relid) && !explain.refresh.no_data();
    let Some(view) = explain.refresh.relation().find().filter(ours) else { return Verdict::Pass };
    version::require();
    let relation = explain.refresh.relation();
    let view = if explain.analyzes() {
        privilege::require_writable("EXPLAIN ANALYZE REFRESH MATERIALIZED VIEW");
        let view = relation.lock(lock_level(view), Permission::Maintain);
        refresh::prepare(view);
        view
    } else {
        relation.lock(pg_sys::AccessShareLock, Permission::Maintain)
    };
    explain.answer(|to| {
        refresh::explain(view, to);
    });
    Verdict::Done
}
