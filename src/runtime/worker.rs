//! Refreshes one wave after the other, as the scheduler hands them out; keeps its plans; leaves when nothing has come for
//! a while, when the scheduler is gone, or when the database is wanted without it.

use super::alert::{self, Value};
use super::{failure, pool};
use crate::pg::process;
use crate::pg::shared::{self, Assigned, Database, Shared, State, Worker};
use crate::pg::{clock, facts, names, xact};
use crate::refresh::{self, Action, Due, Step, progress};
use crate::registration::options::Stored;
use crate::schedule::recompute::Work;
use crate::schedule::retry::Class;
use crate::schedule::{SECOND, Time};
use crate::{settings, wakeup};
use hashbrown::HashMap;
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

background_process!(pgtrickle_worker, main);

/// Nothing came for so long.
const IDLE: i64 = 60 * SECOND;

/// The same where databases take turns.
const IDLE_IN_TURN: i64 = SECOND;

/// A refresh that does not get a lock is tried later: in the queue for it, it would hold up those behind.
const LOCK_TIMEOUT: &std::ffi::CStr = c"100ms";

thread_local!(static PLACE: Cell<Option<(Shared, &'static Worker)>> = const { Cell::new(None) });

fn main(place: u32) {
    let Some(shared) = shared::area() else { return };
    process::begin(leave);
    let Some(worker) = shared.locked(|| claim(shared, place)) else { return };
    let database = pg_sys::Oid::from(worker.database.load(SeqCst));
    let Some(home) = wakeup::find(shared, database.to_u32()) else { return };
    if home.holds.load(SeqCst) > 0 {
        return;
    }
    process::connect(Some(database));
    set_up();
    if worker.change_state(State::Starting, State::Idle) {
        home.scheduler.wake();
        serve(worker, home);
    }
}

fn set_up() {
    process::set(c"application_name", c"pg_trickle worker");
    // Losing a refresh means doing it again: data and frontier go together.
    process::set(c"synchronous_commit", c"off");
    process::set(c"lock_timeout", LOCK_TIMEOUT);
    wakeup::refreshes_are_scheduled();
}

/// None when nobody waits for a worker in this place any more, or another one came first: a scheduler that ends leaves behind
/// workers that have been asked for, and another scheduler may have asked for one in the same place since. Which of them
/// serves there is all the same.
fn claim(shared: Shared, place: u32) -> Option<&'static Worker> {
    let worker = &shared.workers[place as usize];
    let wanted = worker.state() == State::Starting && worker.process.pid().is_none();
    if wanted {
        worker.process.register();
        PLACE.set(Some((shared, worker)));
    }
    wanted.then_some(worker)
}

/// However this process ends.
fn leave() {
    let Some((shared, worker)) = PLACE.take() else { return };
    let scheduler = shared.locked(|| {
        worker.process.leave();
        let home = wakeup::find(shared, worker.database.load(SeqCst));
        let scheduler = home.map(|home| &home.scheduler).filter(|scheduler| scheduler.pid().is_some());
        // Who would free it otherwise?
        worker.set_state(if scheduler.is_some() { State::Gone } else { State::Free });
        scheduler
    });
    if let Some(scheduler) = scheduler {
        scheduler.wake();
    }
}

fn serve(worker: &Worker, home: &Database) {
    let (mut since, mut flushed) = (clock::now(), false);
    loop {
        if worker.state() == State::Running {
            run(worker, home);
            (since, flushed) = (clock::now(), false);
            continue;
        }
        let wanted = home.holds.load(SeqCst) == 0 && home.scheduler.pid().is_some() && settings::enabled();
        let idle = if shared::area().is_some_and(|shared| shared.rotation().is_some()) { IDLE_IN_TURN } else { IDLE };
        let left = since + idle - clock::now();
        if (!wanted || left <= 0) && (worker.change_state(State::Idle, State::Gone) || home.scheduler.pid().is_none()) {
            return;
        }
        // Statistics that were held back go out before a long sleep.
        let step = if flushed { left } else { left.min(SECOND) };
        process::wait(Some(Duration::from_micros(step.max(SECOND / 100) as u64)), c"PgTrickleWorker");
        if !flushed && worker.state() == State::Idle && clock::now() >= since + SECOND {
            process::flush_statistics();
            flushed = true;
        }
    }
}

fn run(worker: &Worker, home: &Database) {
    let (result, failed, class) = refresh(worker);
    worker.failed.store(failed.to_u32(), SeqCst);
    worker.class.store(class as u8, SeqCst);
    worker.set_result(result);
    worker.set_state(State::Done);
    home.scheduler.wake();
    if result == shared::Result::Refreshed {
        home.announce();
    }
    process::report_idle();
}

fn refresh(worker: &Worker) -> (shared::Result, pg_sys::Oid, Class) {
    let due = |assigned: Assigned| Due { view: pg_sys::Oid::from(assigned.view), unseen: assigned.unseen };
    let wave: Vec<Due> = worker.assigned().into_iter().map(due).collect();
    let began: Time = clock::now();
    progress::forget();
    let done = xact::run(|| {
        report(&wave);
        let refreshed = refresh::scheduled(&wave);
        refreshed.iter().flat_map(|refreshed| &refreshed.steps).for_each(tell);
        refreshed
    });
    match done {
        Ok(Some(refreshed)) => {
            worker.taken.store(refreshed.taken, SeqCst);
            let steps: HashMap<_, _> = refreshed.steps.iter().map(|step| (step.view, step.work())).collect();
            worker
                .set_work(wave.iter().map(|due| pool::encode(steps.get(&due.view).copied().unwrap_or(Work::Nothing))));
            (shared::Result::Refreshed, pg_sys::InvalidOid, Class::Busy)
        }
        Ok(None) => (shared::Result::Outdated, pg_sys::InvalidOid, Class::Busy),
        Err(failure) => {
            let view = progress::current();
            (shared::Result::Failed, view, failure::handle(view, &failure, began))
        }
    }
}

/// Tells those who listen, if there is anything to tell.
fn tell(step: &Step) {
    if step.outcome.action == Action::Reinitialize
        && let Some(reason) = &step.outcome.reason
    {
        alert::send("reinitialize_needed", step.view, &[("reason", Value::Text(reason))]);
    }
    if step.outcome.rows() > 0 && Stored::read(step.view).options().notify {
        alert::refreshed(step);
    }
}

fn report(wave: &[Due]) {
    match wave {
        [Due { view, .. }] if names::kind(*view).is_some() => {
            process::report_running(&format!("refreshing {}", facts::relation_name(*view)))
        }
        _ => process::report_running(&format!("refreshing {} views", wave.len())),
    }
}
