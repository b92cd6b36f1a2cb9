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
use crate::pg::shared::{self, Database, Shared, Worker};
use crate::pg::{clock, database, xact};
use crate::schedule::rotation::{self, Place, Room, State};
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
const EXHAUSTED: i64 = SECOND / 5;

struct Launcher {
    shared: Shared,
    known: Vec<u32>,
    unknown: VecDeque<u32>,
    /// Schedulers started from here that have not ended.
    handles: HashMap<u32, Handle>,
    /// When a scheduler was started last, and how often in quick succession.
    started: HashMap<u32, (Time, u32)>,
    room: Room,
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
        room: Room::default(),
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
        let pause = if enabled {
            launcher.work()
        } else {
            shared.set_rotation(0, None);
            None
        };
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
        if self.shared.starved().swap(false, SeqCst) {
            self.room.starved(self.ours(), now);
        }
        let (places, mut later) = self.places(now);
        later.extend(self.room.look(places.len(), now));
        let plan = rotation::plan(&places, self.room.limit(), now);
        plan.give_way.iter().filter_map(|oid| wakeup::find(self.shared, *oid)).for_each(|place| place.ask(now));
        for oid in plan.start {
            let looked_at = self.unknown.contains(&oid);
            if looked_at && self.handles_starting() >= AT_ONCE {
                continue;
            }
            if self.exhausted.is_none_or(|at| at <= now) && self.start(oid, now) {
                self.unknown.retain(|unknown| *unknown != oid);
            }
        }
        self.tell(&places, now);
        later.extend(plan.next);
        later.extend(self.exhausted.filter(|at| *at > now));
        later.into_iter().min().map(|at| Duration::from_micros((at - now).max(0) as u64))
    }

    /// The databases that have a scheduler, want one or have not been looked at, and when there may be more.
    fn places(&self, now: Time) -> (Vec<Place>, Vec<Time>) {
        let (mut places, mut later) = (Vec::new(), Vec::new());
        for place in self.shared.databases {
            let database = place.oid.load(SeqCst);
            if database == 0 || self.unknown.contains(&database) {
                continue;
            }
            if self.handles.contains_key(&database) || place.scheduler.pid().is_some() {
                let (idle, asked) = (place.turn.idle.load(SeqCst), place.asked());
                // One that has been started may not have come yet.
                let since = if place.scheduler.pid().is_some() { place.came() } else { now };
                places.push(Place { database, state: State::Running { since, idle, asked } });
                continue;
            }
            if !missing(place) {
                continue;
            }
            let quick = self.started.get(&database).filter(|(_, times)| *times >= QUICK);
            if let Some(at) = quick.map(|(at, _)| at + RESTART).filter(|at| *at > now) {
                later.push(at);
                continue;
            }
            let resumes = place.resumes();
            later.extend(Some(resumes).filter(|at| *at > now && *at < Time::MAX));
            let since = place.waiting().unwrap_or(now);
            places.push(Place { database, state: State::Waiting { since, needed: resumes <= now } });
        }
        let unknown = self.unknown.iter().filter(|oid| !self.handles.contains_key(*oid));
        places.extend(unknown.map(|oid| Place { database: *oid, state: State::Waiting { since: 0, needed: true } }));
        (places, later)
    }

    /// Notes for everybody who waits, and how many share how many places.
    fn tell(&self, places: &[Place], now: Time) {
        for Place { database, state } in places {
            let Some(place) = wakeup::find(self.shared, *database) else { continue };
            let waits = matches!(state, State::Waiting { needed: true, .. }) && !self.handles.contains_key(database);
            place.set_waiting(waits.then_some(now));
        }
        // Where all fit below the limit, only workers are short.
        self.shared.set_rotation(places.len(), self.room.limit().filter(|limit| *limit < places.len()));
    }

    /// How many processes we have.
    fn ours(&self) -> usize {
        let workers = self.shared.workers.iter().map(Worker::state).filter(|state| *state != shared::State::Free);
        let schedulers = self.shared.databases.iter().filter(|place| place.scheduler.pid().is_some());
        schedulers.count() + workers.count()
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

    /// False when there was no place for a process.
    fn start(&mut self, oid: u32, now: Time) -> bool {
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
                self.room.started();
                true
            }
            None => {
                // Once, until there is room for all.
                if self.room.limit().is_none() {
                    process::warn_exhausted(&name);
                }
                self.room.exhausted(self.ours(), now);
                self.exhausted = Some(now + EXHAUSTED);
                false
            }
        }
    }
}

/// A scheduler should be there and is not.
fn missing(place: &Database) -> bool {
    place.wanted.load(SeqCst) && place.holds.load(SeqCst) == 0 && place.scheduler.pid().is_none()
}
