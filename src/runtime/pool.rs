//! A scheduler's refresh workers: started when there is work for more of them, kept while there is any, in places of
//! shared memory that outlive both sides.
//!
//! ```text
//! Free --(asked for)--> Starting --> Idle --(wave)--> Running --> Done --(result read)--> Idle
//!   ^                                  |                 |
//!   +----------(place freed)--------- Gone <-(ended)-----+
//! ```

use crate::pg::process::{self, Description, Handle, Progress};
use crate::pg::shared::{Assigned, Result, Shared, State, Worker};
use crate::schedule::recompute::Work;
use crate::schedule::retry::Class;
use crate::schedule::rotation::LOWER;
use crate::schedule::{SECOND, Time};
use crate::settings;
use hashbrown::HashMap;
use std::sync::atomic::Ordering::SeqCst;

/// A wave handed out.
pub struct Task {
    pub wave: Vec<Assigned>,
    pub began: Time,
    /// It is expected to take long.
    pub long: bool,
}

/// How a task ended.
pub enum Ending {
    /// At a snapshot of this time; what was done to each view of the wave.
    Refreshed(Time, Vec<Work>),
    Outdated,
    /// This view failed.
    Failed(u32, Class),
    /// The worker is gone.
    Lost,
}

const EXHAUSTED: i64 = 5 * SECOND;
/// The same where others make room.
const SOON: i64 = SECOND / 5;

pub struct Pool {
    shared: Shared,
    database: u32,
    tasks: HashMap<usize, Task>,
    handles: HashMap<usize, Handle>,
    exhausted: Option<Time>,
    /// Since when no worker could be started.
    starved: Option<Time>,
}

impl Pool {
    pub fn new(shared: Shared, database: u32) -> Self {
        Self { shared, database, tasks: HashMap::new(), handles: HashMap::new(), exhausted: None, starved: None }
    }

    fn workers(&self) -> impl Iterator<Item = (usize, &'static Worker)> + use<> {
        let database = self.database;
        let ours = move |worker: &Worker| worker.database.load(SeqCst) == database && worker.state() != State::Free;
        self.shared.workers.iter().enumerate().filter(move |(_, worker)| ours(worker))
    }

    /// What ended since the last call.
    pub fn collect(&mut self) -> Vec<(Task, Ending)> {
        let mut endings = Vec::new();
        for (place, worker) in self.workers() {
            let ending = match worker.state() {
                State::Done => {
                    let ending = ending(worker);
                    worker.change_state(State::Done, State::Idle);
                    ending
                }
                State::Gone => {
                    self.handles.remove(&place);
                    worker.set_state(State::Free);
                    Ending::Lost
                }
                State::Starting => {
                    // It may be there without being the one that was asked for: see `worker::claim`.
                    if self.handles.get(&place).is_none_or(|handle| handle.progress() == Progress::Ended)
                        && self.shared.locked(|| give_up(worker))
                    {
                        self.handles.remove(&place);
                    }
                    continue;
                }
                _ => continue,
            };
            endings.extend(self.tasks.remove(&place).map(|task| (task, ending)));
        }
        endings
    }

    /// Hands a wave to an idle worker; false when there is none.
    pub fn assign(&mut self, wave: Vec<Assigned>, long: bool, now: Time) -> bool {
        for (place, worker) in self.workers().filter(|(_, worker)| worker.state() == State::Idle) {
            worker.assign(&wave);
            // It may have left just now.
            if worker.change_state(State::Idle, State::Running) {
                worker.process.wake();
                self.tasks.insert(place, Task { wave, began: now, long });
                return true;
            }
        }
        false
    }

    /// How many workers have a task that is expected to take long.
    pub fn long_tasks(&self) -> usize {
        self.tasks.values().filter(|task| task.long).count()
    }

    /// No worker has a task.
    pub fn is_quiet(&self) -> bool {
        self.tasks.is_empty()
    }

    pub fn has_idle(&self) -> bool {
        self.workers().any(|(_, worker)| worker.state() == State::Idle)
    }

    /// Asks for as many workers as there are waves waiting, within limits. When to ask again, if there was no place.
    pub fn grow(&mut self, waiting: usize, now: Time) -> Option<Time> {
        let starting = self.workers().filter(|(_, worker)| worker.state() == State::Starting).count();
        // Where databases take turns, each gets along with one.
        let most = if self.shared.rotation().is_some() { 1 } else { settings::max_parallel_refreshes() };
        let room = most.saturating_sub(self.workers().count());
        let wanted = waiting.saturating_sub(starting).min(room);
        if wanted == 0 || self.exhausted.is_some_and(|at| at > now) {
            return self.exhausted.filter(|_| wanted > 0);
        }
        for _ in 0..wanted {
            if !self.start() {
                // Once, until it works again.
                if self.exhausted.is_none() {
                    process::warn_exhausted("pg_trickle refresh worker");
                }
                let pause = self.starved(now);
                self.exhausted = Some(now + pause);
                return self.exhausted;
            }
            (self.exhausted, self.starved) = (None, None);
        }
        None
    }

    /// No worker could be started. Tells the launcher, so that some scheduler makes room; where some do already, what ended a
    /// moment ago may still take a place. How long to wait.
    fn starved(&mut self, now: Time) -> i64 {
        let since = *self.starved.get_or_insert(now);
        let in_turns = self.shared.rotation().is_some();
        if !in_turns || now - since >= LOWER {
            self.shared.starved().store(true, SeqCst);
            self.shared.launcher().wake();
        }
        if in_turns { SOON } else { EXHAUSTED }
    }

    fn start(&mut self) -> bool {
        let Some(place) = self.reserve() else { return false };
        let name = format!("pg_trickle worker for database {}", self.database);
        let handle = process::start(&Description {
            name: &name,
            kind: "pg_trickle worker",
            main: c"pgtrickle_worker",
            argument: place as u32,
        });
        let started = handle.is_some();
        match handle {
            Some(handle) => drop(self.handles.insert(place, handle)),
            None => self.shared.workers[place].set_state(State::Free),
        }
        started
    }

    fn reserve(&self) -> Option<usize> {
        self.shared.locked(|| {
            let place = self.shared.workers.iter().position(|worker| worker.state() == State::Free)?;
            self.shared.workers[place].database.store(self.database, SeqCst);
            self.shared.workers[place].set_state(State::Starting);
            Some(place)
        })
    }

    /// Tells idle workers that their scheduler leaves.
    pub fn dismiss(&self) {
        self.workers().for_each(|(_, worker)| worker.process.wake());
    }
}

/// The scheduler of this database leaves: what only it would free is free. Under the lock.
pub fn abandon(shared: Shared, database: u32) {
    for worker in shared.workers.iter().filter(|worker| worker.database.load(SeqCst) == database) {
        if worker.state() == State::Gone {
            worker.set_state(State::Free);
        }
        give_up(worker);
    }
}

/// Frees the place of a worker that has not come, if so. Under the lock: it may just be coming.
fn give_up(worker: &Worker) -> bool {
    let missing = worker.state() == State::Starting && worker.process.pid().is_none();
    if missing {
        worker.set_state(State::Free);
    }
    missing
}

/// Work as a worker tells it to its scheduler.
pub fn encode(work: Work) -> i64 {
    match work {
        Work::Nothing => 0,
        Work::Delta => -1,
        Work::Recompute(took) => took,
    }
}

fn decode(work: i64) -> Work {
    match work {
        0 => Work::Nothing,
        -1 => Work::Delta,
        took => Work::Recompute(took),
    }
}

fn ending(worker: &Worker) -> Ending {
    match worker.result() {
        Result::Refreshed => {
            let work = worker.work().into_iter().map(decode).collect();
            Ending::Refreshed(worker.taken.load(SeqCst), work)
        }
        Result::Outdated => Ending::Outdated,
        Result::Failed => {
            let class = match worker.class.load(SeqCst) {
                0 => Class::Busy,
                1 => Class::Transient,
                _ => Class::Permanent,
            };
            Ending::Failed(worker.failed.load(SeqCst), class)
        }
    }
}
