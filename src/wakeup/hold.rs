//! Statements that need a database without sessions (DROP, RENAME, SET TABLESPACE, CREATE .. TEMPLATE) ask our processes
//! to leave it, wait until they have, and let them back in when the transaction ends.

use super::{databases_changed, with_place};
use crate::pg::process;
use crate::pg::shared::{self, Database, Shared, State};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

thread_local!(static HELD: RefCell<Vec<&'static Database>> = const { RefCell::new(Vec::new()) });

const STEP: Duration = Duration::from_millis(5);

/// Our processes have left the database and stay away until this transaction ends.
pub fn hold(database: pg_sys::Oid) {
    databases_changed();
    let Some(shared) = shared::area() else { return };
    // Without a free place no scheduler can be there either.
    let held = with_place(shared, database, |place| {
        place.holds.fetch_add(1, SeqCst);
        place
    });
    let Some(place) = held else { return };
    HELD.with_borrow_mut(|held| held.push(place));
    while occupied(shared, place) {
        process::pause(STEP, c"PgTrickleLeave");
    }
}

/// Wakes those who are still there. A refresh under way is given up: it loses nothing.
fn occupied(shared: Shared, place: &Database) -> bool {
    let oid = place.oid.load(SeqCst);
    let workers = shared.workers.iter().filter(|worker| worker.database.load(SeqCst) == oid);
    let mut occupied = place.scheduler.pid().is_some();
    place.scheduler.wake();
    for worker in workers {
        if let Some(pid) = worker.process.pid() {
            occupied = true;
            match worker.state() {
                State::Running => process::terminate(pid),
                _ => worker.process.wake(),
            }
        }
    }
    occupied
}

/// At the end of the transaction.
pub fn release() {
    let held = HELD.with_borrow_mut(std::mem::take);
    if held.is_empty() {
        return;
    }
    for place in held {
        place.holds.fetch_sub(1, SeqCst);
    }
    if let Some(shared) = shared::area() {
        shared.databases_changed().store(true, SeqCst);
        shared.launcher().wake();
    }
}
