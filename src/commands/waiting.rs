//! Functions about how fresh a view is: refresh it if it is too old, wait until it is fresh.

use crate::capture::{Frontier, Pending};
use crate::catalog::{dependency, stream_table, version};
use crate::error::error;
use crate::observe::functions::may_be_behind;
use crate::pg::names::RangeVar;
use crate::pg::shared;
use crate::pg::snapshot::{self, WaveSnapshot};
use crate::pg::stack;
use crate::pg::{clock, execute, process};
use crate::registration::named::stream_table_named;
use crate::schedule::{SECOND, Time};
use crate::wakeup;
use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};
use std::time::Duration;

/// Whether the view was older than that, with something to bring in, and has been refreshed.
#[pg_extern]
fn refresh_if_older(name: &str, seconds: f64) -> bool {
    version::check();
    let name = RangeVar::parse(name);
    let view = stream_table_named(name);
    let since = stream_table::get(view).and_then(|row| row.data_timestamp);
    let old = since.is_none_or(|since| (clock::now() - since) as f64 > seconds * SECOND as f64);
    let stale = old && may_be_behind(view);
    if stale {
        execute::refresh_view(name);
    }
    stale
}

/// Whether the view contains, within so many seconds, everything that was committed before the call.
#[pg_extern]
fn wait_until_fresh_for(name: &str, seconds: f64) -> bool {
    version::check();
    let view = stream_table_named(RangeVar::parse(name));
    if wakeup::has_changes() {
        error(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "cannot wait for changes that are not committed",
        )
        .detail("This transaction has changed tables that stream tables read.")
        .hint("Commit first, or refresh the stream table in this transaction.")
        .raise()
    }
    let deadline = clock::now().saturating_add((seconds.max(0.0) * SECOND as f64) as Time);
    snapshot::with_latest(|snapshot| wait(view, snapshot, deadline))
}

/// Views refreshed by a session are not announced: look from time to time.
const LOOK: Time = SECOND / 10;

fn wait(view: pg_sys::Oid, snapshot: WaveSnapshot, deadline: Time) -> bool {
    let goal = Frontier::now(snapshot).without_own();
    let place = shared::area().and_then(wakeup::own);
    loop {
        if contains(view, &goal, snapshot) {
            place.inspect(|place| place.stop_waiting());
            return true;
        }
        let left = deadline - clock::now();
        if left <= 0 {
            place.inspect(|place| place.stop_waiting());
            return false;
        }
        let step = left.min(LOOK);
        match place {
            Some(place) => place.wait(step / 1000 + 1),
            None => process::pause(Duration::from_micros(step as u64), c"PgTrickleRefresh"),
        }
    }
}

/// The view, with the stream tables it reads, holds everything that `goal` does: it was refreshed at a snapshot that sees
/// that, or nothing of it is pending.
fn contains(view: pg_sys::Oid, goal: &Frontier, snapshot: WaveSnapshot) -> bool {
    stack::check();
    let Some(row) = stream_table::get(view) else { return false };
    let Some(frontier) = row.frontier.as_deref().and_then(Frontier::readable) else { return false };
    if goal.precedes(&frontier) {
        return true;
    }
    if !row.captured || stream_table::reinit(view).is_some() {
        return false;
    }
    dependency::sources_of(view).into_iter().filter(|dependency| dependency.capturable).all(|dependency| {
        let source = dependency.source;
        match stream_table::exists(source) {
            true => contains(source, goal, snapshot) && Pending::now(source, &frontier).is_empty(),
            false => Pending::count(source, &frontier, snapshot.as_ptr(), 0).is_empty(),
        }
    })
}
