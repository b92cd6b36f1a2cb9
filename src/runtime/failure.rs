//! What becomes of a refresh that failed: written down in a transaction of its own, told to those who listen.

use super::alert::{self, Value};
use crate::catalog::history::{self, Refresh};
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::stream_table::{self, Status};
use crate::pg::xact::{self, Failure};
use crate::pg::{clock, names};
use crate::refresh::Initiator;
use crate::schedule::Time;
use crate::schedule::retry::{self, Class, Verdict};
use crate::settings;
use pgrx::pg_sys;

/// Says what kind of failure it was. A lock that somebody else holds is none of the view's, and not written down.
pub fn handle(view: pg_sys::Oid, failure: &Failure, began: Time) -> Class {
    let sqlstate = retry::unpack(failure.code);
    let class = retry::classify(&sqlstate);
    if class == Class::Busy || view == pg_sys::InvalidOid {
        return class;
    }
    failure.log();
    match xact::run(|| write_down(view, failure, &sqlstate, began)) {
        Ok(()) => class,
        Err(second) => {
            // The view is being altered or dropped. The next failure, if any, is written down.
            second.log();
            Class::Busy
        }
    }
}

fn write_down(view: pg_sys::Oid, failure: &Failure, sqlstate: &str, began: Time) {
    names::lock(view, pg_sys::RowExclusiveLock);
    let Some(row) = stream_table::get(view) else { return };
    let text = failure.text();
    let failures = stream_table::record_error(view, &text) as u32;
    let class = retry::classify(sqlstate);
    let verdict = retry::verdict(class, failures, settings::max_consecutive_errors());
    match verdict {
        Verdict::Retry => (),
        Verdict::Error => stream_table::set_status(view, Status::Error),
        Verdict::Suspend => stream_table::set_status(view, Status::Suspended),
    }
    if class == Class::Permanent {
        recompute_next(view);
    }
    history::record(&Refresh {
        view,
        data_timestamp: None,
        started: began,
        ended: clock::now(),
        commit_to_visible: None,
        action: &row.effective_mode,
        status: "FAILED",
        initiated_by: Initiator::Scheduler.as_str(),
        inserted: 0,
        updated: 0,
        deleted: 0,
        error: Some(&text),
        sqlstate: Some(sqlstate),
        reason: None,
    });
    // Anybody may listen. The message may quote data, so it is only in the history.
    alert::send("refresh_failed", view, &[("sqlstate", Value::Text(sqlstate))]);
    if verdict == Verdict::Suspend {
        alert::send("auto_suspended", view, &[("consecutive_errors", Value::Number(failures.into()))]);
    }
}

/// What failed may be the delta of a row that came and went, while the query itself can be computed: so the next attempt
/// does that. One attempt; if it fails as well, the marker is there already, and only another change makes for a third.
fn recompute_next(view: pg_sys::Oid) {
    if stream_table::reinit(view).is_none() {
        stream_table::set_reinit(view, RecomputeReason::RefreshFailed);
    }
}
