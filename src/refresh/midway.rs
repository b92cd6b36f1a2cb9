//! A REFRESH from inside a statement that is changing what it would read: a trigger of an application that refreshed the view
//! before it was a stream table, a function called by an UPDATE, a deferred trigger at COMMIT.
//!
//! The rows are there and their change is not captured yet, so a refresh now would be wrong. Nor is it needed: what is captured
//! when the statement ends wakes the scheduler at commit. So nothing is done, and a session is told once for each view.

use super::entrance;
use super::entry::name;
use crate::capture;
use crate::catalog::control;
use crate::catalog::stream_table::{self, Status, StreamTable};
use crate::error::error;
use crate::pg::shared;
use crate::{registration, settings, wakeup};
use hashbrown::HashSet;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::RefCell;

/// Views a session has been told of that it remembers.
const TOLD: usize = 1000;

thread_local!(static SAID: RefCell<HashSet<u32>> = RefCell::new(HashSet::new()));

/// Whether there is nothing to be done now by a REFRESH of `view`. A view without rows is not refreshed by schedule, and who
/// wants to populate it gets an error.
pub fn passes_over(view: pg_sys::Oid) -> bool {
    let Some(row) = stream_table::get(view).filter(|row| row.frontier.is_some()) else { return false };
    if entrance::is_under_way() {
        return false;
    }
    let changing = registration::sources_of_company(view).into_iter().find(|source| capture::in_use(*source));
    if let Some(source) = changing {
        say(view, source, &row);
    }
    changing.is_some()
}

fn say(view: pg_sys::Oid, source: pg_sys::Oid, row: &StreamTable) {
    let new = SAID.with_borrow_mut(|said| {
        if said.len() >= TOLD {
            said.clear();
        }
        said.insert(view.to_u32())
    });
    if !new {
        return;
    }
    let (view, source) = (name(view), name(source));
    let message = format!(
        "materialized view \"{view}\" is not refreshed while a statement of this session is changing \"{source}\""
    );
    let report = error(PgSqlErrorCode::ERRCODE_WARNING, message);
    match obstacle(row) {
        None => report.detail("The change is brought in by the view's schedule, after it has been committed."),
        Some((obstacle, hint)) => report.detail(format!("It will not be refreshed by itself: {obstacle}.")).hint(hint),
    }
    .notice()
}

/// Why no scheduler brings the change in, and what to do.
fn obstacle(row: &StreamTable) -> Option<(&'static str, &'static str)> {
    const AFTERWARDS: &str = "REFRESH it after the statement.";
    let place = shared::area().and_then(wakeup::own);
    let scheduled = place.is_some_and(|place| place.is_scheduled());
    match () {
        _ if row.status == Status::Suspended => {
            Some(("it is suspended", "Use pgtrickle.resume_stream_table(), or REFRESH it after the statement."))
        }
        _ if control::paused() => {
            Some(("scheduled refreshes are paused", "Use pgtrickle.resume_all(), or REFRESH it after the statement."))
        }
        _ if !settings::enabled() || shared::area().is_none_or(|shared| shared.disabled()) => {
            Some(("pg_trickle.enabled is off", AFTERWARDS))
        }
        _ if !scheduled => Some(("no scheduler runs in this database", AFTERWARDS)),
        _ => None,
    }
}
