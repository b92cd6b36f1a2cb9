//! Keeps a scheduler running in every database that has the extension.
//!
//! Which databases those are only a process inside can tell. So each is looked at once by a scheduler, which ends at once
//! where there is nothing to do; later the commit of a CREATE EXTENSION says so in shared memory. The launcher itself
//! is connected to no database and stands in nobody's way.
//!
//! ```text
//! database:  unknown --(a scheduler looks)--> without extension --(CREATE EXTENSION commits: wanted)--+
//!                         |                                                                          v
//!                         +--> scheduler runs <-----------(ended, wanted, not held, enabled)----- scheduler starts
//! ```

use crate::pg;
use crate::pg::process::{self, Description, Handle, Progress};
use crate::pg::shared::{self, Database, Shared};
use crate::pg::{clock, database, xact};
use crate::schedule::{SECOND, Time};
use crate::{settings, wakeup};
use hashbrown::HashMap;
use pgrx::pg_sys;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

background_process!(pgtrickle_launcher, main);

pub fn register() {
    // pg_upgrade wants the server for itself.
    if pg::upgrading() {
        return;
    }
    process::register_static(&Description {
        name: "pg_trickle launcher",
        kind: "pg_trickle launcher",
        main: c"pgtrickle_launcher",
        argument: 0,
    });
}

/// Databases looked at side by side: each takes a process for a moment.
const AT_ONCE: usize = 2;
/// A scheduler that has ended so often in a row within so short a time waits that long before it is started again.
const QUICK: u32 = 3;
const RESTART: i64 = SECOND;
const EXHAUSTED: i64 = 5 * SECOND;

struct Launcher {
    shared: Shared,
    known: Vec<u32>,
    unknown: VecDeque<u32>,
    /// Schedulers started from here that have not ended.
    handles: HashMap<u32, Handle>,
    /// When a scheduler was started last, and how often in quick succession.
    started: HashMap<u32, (Time, u32)>,
    /// There was no place for a process; nothing is tried before.
    exhausted: Option<Time>,
}

fn main(_: u32) {
    let Some(shared) = shared::area() else { return };
    process::begin(|| {
        if let Some(shared) = shared::area() {
            shared.launcher().leave();
        }
    });
    shared.launcher().register();
    process::connect(None);
    process::set(c"application_name", c"pg_trickle launcher");
    let mut launcher = Launcher {
        shared,
        known: Vec::new(),
        unknown: VecDeque::new(),
        handles: HashMap::new(),
        started: HashMap::new(),
        exhausted: None,
    };
    shared.databases_changed().store(true, SeqCst);
    loop {
        // What counts for the whole server, which a setting of a database does not override.
        let enabled = settings::enabled();
        if shared.set_disabled(!enabled) {
            shared.databases.iter().for_each(|place| place.scheduler.wake());
            // Some may have been looked at by a scheduler that saw it off.
            launcher.known.clear();
            shared.databases_changed().store(true, SeqCst);
        }
        let pause = if enabled { launcher.work() } else { None };
        process::wait(pause, c"PgTrickleLauncher");
    }
}

impl Launcher {
    /// Does what there is to do; after how long there is more, if nobody calls before.
    fn work(&mut self) -> Option<Duration> {
        if self.shared.databases_changed().swap(false, SeqCst) {
            self.look_around();
        }
        self.handles.retain(|_, handle| handle.progress() != Progress::Ended);
        let now = clock::now();
        let mut later = Vec::new();
        for place in self.shared.databases {
            let oid = place.oid.load(SeqCst);
            if oid == 0 || !missing(place) || self.handles.contains_key(&oid) {
                continue;
            }
            let quick = self.started.get(&oid).filter(|(_, times)| *times >= QUICK);
            match quick.map(|(at, _)| at + RESTART).filter(|at| *at > now) {
                Some(at) => later.push(at),
                None => self.start(oid, now),
            }
        }
        while self.handles_starting() < AT_ONCE && self.exhausted.is_none_or(|at| at <= now) {
            let Some(oid) = self.unknown.pop_front() else { break };
            self.start(oid, now);
        }
        later.extend(self.exhausted.filter(|at| *at > now));
        later.into_iter().min().map(|at| Duration::from_micros((at - now).max(0) as u64))
    }

    /// Reads pg_database. Those not seen before are to be looked at.
    fn look_around(&mut self) {
        let found = match xact::run(database::all) {
            Ok(found) => found,
            // Ends this process, which the postmaster starts again.
            Err(failure) => failure.raise(),
        };
        let found: Vec<u32> = found.into_iter().map(pg_sys::Oid::to_u32).collect();
        let new = found.iter().filter(|oid| !self.known.contains(oid));
        self.unknown.extend(new);
        self.unknown.retain(|oid| found.contains(oid));
        wakeup::sweep(self.shared, |oid| found.contains(&oid));
        self.started.retain(|oid, _| found.contains(oid));
        self.known = found;
    }

    fn handles_starting(&self) -> usize {
        let runs = |oid: &u32| {
            let place = self.shared.databases.iter().find(|place| place.oid.load(SeqCst) == *oid);
            place.is_some_and(|place| place.wanted.load(SeqCst) && place.scheduler.pid().is_some())
        };
        self.handles.keys().filter(|oid| !runs(oid)).count()
    }

    fn start(&mut self, oid: u32, now: Time) {
        if self.exhausted.is_some_and(|at| at > now) {
            return self.later(oid);
        }
        let name = format!("pg_trickle scheduler for database {oid}");
        let started = process::start(&Description {
            name: &name,
            kind: "pg_trickle scheduler",
            main: c"pgtrickle_scheduler",
            argument: oid,
        });
        match started {
            Some(handle) => {
                self.handles.insert(oid, handle);
                let before = self.started.get(&oid).filter(|(at, _)| at + RESTART > now);
                let times = before.map_or(1, |(_, times)| times + 1);
                self.started.insert(oid, (now, times));
                self.exhausted = None;
            }
            None => {
                // Once, until it works again.
                if self.exhausted.is_none() {
                    process::warn_exhausted(&name);
                }
                self.exhausted = Some(now + EXHAUSTED);
                self.later(oid);
            }
        }
    }

    fn later(&mut self, oid: u32) {
        if !self.unknown.contains(&oid) {
            self.unknown.push_back(oid);
        }
    }
}

/// A scheduler should be there and is not.
fn missing(place: &Database) -> bool {
    place.wanted.load(SeqCst) && place.holds.load(SeqCst) == 0 && place.scheduler.pid().is_none()
}
