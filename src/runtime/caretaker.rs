//! Looks after capture: finds sources whose triggers are not all there, repairs them, tells their readers, and has every
//! view recomputed in a server that pg_upgrade made.
//!
//! It looks when the scheduler starts, and soon after the catalog has changed, which is also what a refresh says that has
//! found capture incomplete. Beyond that it looks now and then when the scheduler is awake anyway, but does not wake it.

use super::alert::{self, Value};
use crate::capture::repair;
use crate::catalog::dependency;
use crate::error::error;
use crate::pg::{facts, process, xact};
use crate::schedule::retry::{self, Class};
use crate::schedule::{SECOND, Time};
use pgrx::{PgSqlErrorCode, pg_sys};

/// Looks that follow changes of the catalog are at least so far apart,
const SOONEST: i64 = 5 * SECOND;
/// and others as far as this.
const SELDOM: i64 = 60 * SECOND;
/// A repair that does not get its locks at once is tried again: in the queue for them, it holds up writers.
const LOCK_TIMEOUT: &std::ffi::CStr = c"100ms";

pub struct Caretaker {
    looked: Time,
    due: Option<Time>,
    /// Looks in a row after which something was left to do.
    failures: u32,
}

impl Caretaker {
    /// Looks at once.
    pub fn new() -> Self {
        Self { looked: Time::MIN, due: Some(Time::MIN), failures: 0 }
    }

    /// The catalog has changed.
    pub fn look_soon(&mut self) {
        let soon = self.looked.saturating_add(SOONEST);
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Looks if it is time to. When to call again, if nothing else happens. The scheduler's lock timeout is in force again
    /// afterwards.
    pub fn work(&mut self, now: Time, lock_timeout: &std::ffi::CStr) -> Option<Time> {
        let due = self.due.unwrap_or(self.looked.saturating_add(SELDOM));
        if due > now {
            return self.due;
        }
        self.looked = now;
        process::set(c"lock_timeout", LOCK_TIMEOUT);
        let done = look();
        process::set(c"lock_timeout", lock_timeout);
        self.failures = if done { 0 } else { self.failures + 1 };
        self.due = (!done).then(|| now + retry::pause(Class::Transient, self.failures));
        self.due
    }
}

/// False when something is left to do.
fn look() -> bool {
    let faulty = match xact::run(repair::faulty) {
        Ok(faulty) => faulty,
        Err(failure) => return failed(&failure),
    };
    let left = faulty.into_iter().filter(|source| !one(*source)).count();
    let confirmed = xact::run(repair::confirm_server).map_err(|failure| failed(&failure)).is_ok();
    left == 0 && confirmed
}

fn one(source: pg_sys::Oid) -> bool {
    let repaired = xact::run(|| {
        if repair::repair(source) {
            tell(source);
        }
    });
    repaired.map_err(|failure| failed(&failure)).is_ok()
}

fn tell(source: pg_sys::Oid) {
    let Some(name) = facts::try_relation_name(source) else { return };
    error(PgSqlErrorCode::ERRCODE_WARNING, format!("capture of \"{name}\" was incomplete and has been repaired"))
        .detail("Changes may not have been captured. What reads the table is recomputed.")
        .warn();
    for reader in dependency::readers_of(source) {
        alert::send("capture_repaired", reader, &[("source_table", Value::Text(&name))]);
    }
}

fn failed(failure: &xact::Failure) -> bool {
    match retry::classify(&retry::unpack(failure.code)) {
        Class::Busy => failure.debug(),
        Class::Transient | Class::Permanent => failure.warn(),
    }
    false
}
