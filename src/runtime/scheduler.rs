//! One per database: learns what changed, decides what is due, hands waves to workers. Sleeps while there is nothing to
//! do, without a transaction and without looking at a clock.

use super::caretaker::Caretaker;
use super::catalog::{self, Picture};
use super::pool::{self, Ending, Pool};
use super::views::Views;
use super::watch::{self, Watch};
use crate::catalog::version::Mismatch;
use crate::pg::notes;
use crate::pg::process;
use crate::pg::shared::{self, BITS, Database, Shared, WAVE, WORDS};
use crate::pg::{clock, xact};
use crate::schedule::queue::Wave;
use crate::schedule::retry::Class;
use crate::schedule::{SECOND, Time};
use crate::{settings, wakeup};
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

background_process!(pgtrickle_scheduler, main);

/// For locks on our own catalogs: whoever alters the extension is waited for, but not for ever.
const LOCK_TIMEOUT: &std::ffi::CStr = c"1s";
/// Waves that are expected to recompute for so long do not take all workers.
const LONG: i64 = SECOND;
/// After reading the catalog failed.
const AGAIN: i64 = SECOND;

thread_local! {
    static PLACE: Cell<Option<&'static Database>> = const { Cell::new(None) };
    /// The extension is not here: nobody need look again.
    static NEEDLESS: Cell<bool> = const { Cell::new(false) };
}

fn main(database: u32) {
    let Some(shared) = shared::area() else { return };
    process::begin(leave);
    let oid = pg_sys::Oid::from(database);
    let place = match wakeup::with_place(shared, oid, occupy) {
        None => return process::warn_full(shared.databases.len()),
        Some(None) => return,
        Some(Some(place)) => place,
    };
    if place.holds.load(SeqCst) > 0 {
        return;
    }
    process::connect(Some(oid));
    process::set(c"application_name", c"pg_trickle scheduler");
    process::set(c"lock_timeout", LOCK_TIMEOUT);
    place.wanted.store(false, SeqCst);
    // For this database or for the role of our processes: a statement that changes it lets another scheduler look.
    if !settings::enabled() && !shared.disabled() {
        NEEDLESS.set(true);
        return;
    }
    let Some(scheduler) = Scheduler::new(shared, place, database) else {
        NEEDLESS.set(true);
        return;
    };
    place.wanted.store(true, SeqCst);
    // It starts so many at a time: this one has started.
    shared.launcher().wake();
    scheduler.run();
}

/// None when another scheduler is there.
fn occupy(place: &'static Database) -> Option<&'static Database> {
    let free = place.scheduler.pid().is_none();
    if free {
        place.begin_turn();
        place.scheduler.register();
        PLACE.set(Some(place));
    }
    free.then_some(place)
}

/// However this process ends.
fn leave() {
    let (Some(place), Some(shared)) = (PLACE.take(), shared::area()) else { return };
    if !NEEDLESS.get() {
        place.wanted.store(true, SeqCst);
    } else {
        // Its place is free for another database.
        shared.databases_changed().store(true, SeqCst);
    }
    place.set_overdue(None);
    let oid = place.oid.load(SeqCst);
    shared.locked(|| {
        place.scheduler.leave();
        pool::abandon(shared, oid);
    });
    let ours = shared.workers.iter().filter(|worker| worker.database.load(SeqCst) == oid);
    ours.for_each(|worker| worker.process.wake());
    shared.launcher().wake();
}

struct Scheduler {
    shared: Shared,
    place: &'static Database,
    pool: Pool,
    views: Views,
    watch: Watch,
    caretaker: Caretaker,
    /// The SQL objects do not fit, as has been told.
    mismatch: Option<Mismatch>,
    /// Of the catalog as `views` has it; None: to be read again in any case.
    generation: Option<u64>,
    read_again: Time,
    /// Bits that were found set and have not been cleared since.
    seen: [u64; WORDS],
}

impl Scheduler {
    /// None: the extension is not there.
    fn new(shared: Shared, place: &'static Database, database: u32) -> Option<Self> {
        let generation = place.generation.load(SeqCst);
        let (picture, recomputes) =
            xact::run(|| catalog::read().map(|picture| (catalog::recomputes(&picture), picture)))
                .unwrap_or_else(|failure| failure.raise())
                .map(|(recomputes, picture)| (picture, recomputes))?;
        watch::versions(None, picture.mismatch);
        let mismatch = picture.mismatch;
        let mut views = Views::new(picture, clock::now());
        views.remember(&recomputes);
        let pool = Pool::new(shared, database);
        Some(Self {
            shared,
            place,
            pool,
            views,
            watch: Watch::new(),
            caretaker: Caretaker::new(),
            mismatch,
            generation: Some(generation),
            read_again: Time::MIN,
            seen: [0; WORDS],
        })
    }

    fn run(mut self) {
        while self.place.holds.load(SeqCst) == 0 && settings::enabled() && !self.shared.disabled() {
            let now = clock::now();
            self.collect(now);
            if !self.follow(now) {
                NEEDLESS.set(true);
                break;
            }
            self.listen(now);
            let look = self.caretaker.work(now, LOCK_TIMEOUT);
            let next = self.work(now).into_iter().chain(look).min();
            if self.gives_way(next) {
                break;
            }
            let pause = next.map(|at| Duration::from_micros((at - clock::now()).max(0) as u64));
            process::wait(pause, c"PgTrickleScheduler");
        }
        self.pool.dismiss();
    }

    /// Whether it leaves its place to another database, as the launcher has asked: what is under way is finished first. `next`
    /// is when there is something to do.
    fn gives_way(&self, next: Option<Time>) -> bool {
        let leaves = self.place.asked().is_some() && self.pool.is_quiet();
        if leaves {
            let next = if self.place.turn.idle.load(SeqCst) { next.unwrap_or(Time::MAX) } else { Time::MIN };
            self.place.end_turn(self.generation, next);
        }
        leaves
    }

    /// What workers report.
    fn collect(&mut self, now: Time) {
        for (task, ending) in self.pool.collect() {
            self.views.end(&task.wave);
            match ending {
                Ending::Refreshed(taken, work) => self.views.refreshed(&task.wave, &work, task.began, taken, now),
                Ending::Outdated => {
                    self.generation = None;
                    self.views.not_refreshed(&task.wave, task.began);
                }
                Ending::Failed(view, class) if task.wave.iter().any(|member| member.view == view) => {
                    let (failed, rest): (Vec<_>, Vec<_>) = task.wave.iter().partition(|member| member.view == view);
                    self.views.not_refreshed(&rest, task.began);
                    match class {
                        // Of itself, nothing but another change helps.
                        Class::Permanent => self.views.failed(&failed),
                        Class::Transient | Class::Busy => self.views.not_refreshed(&failed, task.began),
                    }
                    // How long to wait is in the catalog, except for a lock.
                    match class {
                        Class::Busy => self.views.postpone(&failed, now),
                        Class::Transient | Class::Permanent => self.generation = None,
                    }
                }
                // Nobody knows which of them it was.
                Ending::Lost | Ending::Failed(..) => {
                    self.views.not_refreshed(&task.wave, task.began);
                    self.views.postpone(&task.wave, now);
                }
            }
        }
    }

    /// Keeps up with the catalog; false: the extension is gone.
    fn follow(&mut self, now: Time) -> bool {
        let generation = self.place.generation.load(SeqCst);
        if self.generation == Some(generation) || self.read_again > now {
            return true;
        }
        match read() {
            Ok(None) => return false,
            Ok(Some(picture)) => {
                watch::versions(self.mismatch, picture.mismatch);
                self.mismatch = picture.mismatch;
                let views = self.views.follow(picture, now);
                watch::resumed(&self.views.resumed(&views));
                self.views = views;
                self.forget();
                self.generation = Some(generation);
                self.caretaker.look_soon();
            }
            Err(failure) => {
                failure.warn();
                self.generation = None;
                self.read_again = now + AGAIN;
            }
        }
        true
    }

    /// Frees what shared memory says of views that are gone.
    fn forget(&self) {
        let own = self.place.oid.load(SeqCst);
        let graph = &self.views.graph;
        notes::sweep(self.shared, |database, view| database != own || graph.number(view).is_some());
    }

    /// What writers have marked.
    fn listen(&mut self, now: Time) {
        if self.place.everything.swap(false, SeqCst) {
            self.views.mark_all(now);
        }
        for word in 0..WORDS {
            let noted = self.place.take_noted(word).unwrap_or(now);
            let new = self.place.dirty[word].load(SeqCst) & !self.seen[word];
            self.seen[word] |= new;
            (0..u64::BITS)
                .filter(|bit| new >> bit & 1 == 1)
                .for_each(|bit| self.views.mark(word as u32 * u64::BITS + bit, noted));
        }
    }

    /// Starts what is due; until when there is nothing else to do, unless somebody calls.
    fn work(&mut self, now: Time) -> Option<Time> {
        let agenda = self.views.agenda(now);
        let mut waiting = 0;
        let idle = agenda.waves.is_empty() && self.pool.is_quiet();
        if self.place.turn.idle.swap(idle, SeqCst) != idle && idle && self.shared.rotation().is_some() {
            // Another may be waiting for the place.
            self.shared.launcher().wake();
        }
        let leaving = self.place.asked().is_some();
        for wave in agenda.waves.iter().filter(|_| !leaving) {
            let long = wave.cost >= LONG;
            // One worker is left for what writers change; `collect` comes by when a long wave ends.
            if long && self.pool.long_tasks() + 1 >= settings::max_parallel_refreshes().max(2) {
                continue;
            }
            if waiting > 0 || !self.start(wave, long, now) {
                waiting += 1;
            }
        }
        self.place.set_overdue(self.views.overdue(&agenda));
        self.publish();
        let alert = self.watch.work(&mut self.views, now);
        let grow = self.pool.grow(waiting, now);
        let read = self.generation.is_none().then_some(self.read_again).filter(|at| *at > now);
        agenda.next.into_iter().chain(grow).chain(read).chain(alert).min()
    }

    /// Since when each view is behind, for those who look.
    fn publish(&mut self) {
        let database = self.place.oid.load(SeqCst);
        self.views.publish(|view, behind| {
            if let Some(note) = notes::place(self.shared, database, view) {
                note.set_behind(behind);
            }
        });
    }

    fn start(&mut self, wave: &Wave, long: bool, now: Time) -> bool {
        if !self.pool.has_idle() {
            return false;
        }
        // More than fit go by the next wave.
        let mut members = wave.members.clone();
        wave.members.iter_ones().skip(WAVE).for_each(|n| members.set(n, false));
        // Before the wave takes its snapshot: what is marked from now on may be beyond it.
        self.clear(&self.views.bits_of(&members), now);
        let assigned = self.pool.assign(self.views.assigned(&members), long, now);
        if assigned {
            self.views.begin(&members, now);
        }
        assigned
    }

    /// Lets writers mark these again. What they had marked is noted for all who read it.
    fn clear(&mut self, bits: &[u32], now: Time) {
        for &bit in bits {
            debug_assert!(bit < BITS);
            let (word, mask) = ((bit / u64::BITS) as usize, 1 << (bit % u64::BITS));
            if self.place.dirty[word].fetch_and(!mask, SeqCst) & mask != 0 {
                self.views.mark(bit, self.place.noted(word).unwrap_or(now));
            }
            self.seen[word] &= !mask;
        }
    }
}

fn read() -> Result<Option<Picture>, xact::Failure> {
    xact::run(catalog::read)
}
