//! How far refreshes are, for everybody to see: a place per process in shared memory.
//!
//! The server's own progress view has no command for extensions. So this is made in its manner: the process that works
//! writes its place without locks, others read it. What belongs together is written between two steps of a counter, and
//! read again when the counter moved meanwhile; the count of rows is a store by itself, every so many rows.
//!
//! A place is cleared by whoever filled it ([`Shown`]), also when an error unwinds, and at the end of the process. A crash
//! clears all shared memory.

use super::shared;
use super::{clock, interrupt, process};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_int;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst};

/// What a refresh is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// For other refreshes of these views, or for DDL.
    Locks,
    /// What is pending, and the plan for it.
    Planning,
    /// Rows come out of the plan.
    Computing,
    /// Stored rows are read, to be compared with those.
    Comparing,
    /// Changed rows are written.
    Writing,
    /// The index by which rows are found, after the first population.
    Indexing,
}

const PHASES: [Phase; 6] =
    [Phase::Locks, Phase::Planning, Phase::Computing, Phase::Comparing, Phase::Writing, Phase::Indexing];

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Locks => "waiting for locks",
            Phase::Planning => "planning",
            Phase::Computing => "computing rows",
            Phase::Comparing => "comparing rows",
            Phase::Writing => "writing rows",
            Phase::Indexing => "building index",
        }
    }
}

/// The place of a process.
#[repr(C)]
pub struct Progress {
    /// Odd while the rest is being written.
    version: AtomicU32,
    /// 0: nothing is being refreshed.
    pid: AtomicI32,
    database: AtomicU32,
    view: AtomicU32,
    initiator: AtomicU8,
    phase: AtomicU8,
    views_done: AtomicU32,
    views_total: AtomicU32,
    rows_done: AtomicU64,
    /// Of this phase; 0: nobody knows.
    rows_expected: AtomicU64,
    since: AtomicI64,
}

/// What a place says.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pid: i32,
    database: u32,
    view: u32,
    initiator: u8,
    phase: Phase,
    views_done: u32,
    views_total: u32,
    rows_done: u64,
    rows_expected: u64,
    since: pg_sys::TimestampTz,
}

impl State {
    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn database(&self) -> pg_sys::Oid {
        self.database.into()
    }

    /// The view at hand.
    pub fn view(&self) -> pg_sys::Oid {
        self.view.into()
    }

    /// As `begin` was told.
    pub fn initiator(&self) -> u8 {
        self.initiator
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn views_done(&self) -> u32 {
        self.views_done
    }

    /// None before it is known who takes part.
    pub fn views_total(&self) -> Option<u32> {
        Some(self.views_total).filter(|total| *total != 0)
    }

    pub fn rows_done(&self) -> u64 {
        self.rows_done
    }

    pub fn rows_expected(&self) -> Option<u64> {
        Some(self.rows_expected).filter(|rows| *rows != 0)
    }

    /// When the refresh began.
    pub fn since(&self) -> pg_sys::TimestampTz {
        self.since
    }
}

impl Progress {
    /// Only by the process whose place it is.
    fn write(&self, write: impl FnOnce(&Self)) {
        self.version.fetch_add(1, SeqCst);
        write(self);
        self.version.fetch_add(1, SeqCst);
    }

    fn set(&self, state: State) {
        self.write(|place| {
            place.pid.store(state.pid, SeqCst);
            place.database.store(state.database, SeqCst);
            place.view.store(state.view, SeqCst);
            place.initiator.store(state.initiator, SeqCst);
            place.phase.store(state.phase as u8, SeqCst);
            place.views_done.store(state.views_done, SeqCst);
            place.views_total.store(state.views_total, SeqCst);
            place.rows_done.store(state.rows_done, SeqCst);
            place.rows_expected.store(state.rows_expected, SeqCst);
            place.since.store(state.since, SeqCst);
        });
    }

    fn read(&self) -> State {
        loop {
            let version = self.version.load(SeqCst);
            let state = State {
                pid: self.pid.load(SeqCst),
                database: self.database.load(SeqCst),
                view: self.view.load(SeqCst),
                initiator: self.initiator.load(SeqCst),
                phase: PHASES[usize::from(self.phase.load(SeqCst))],
                views_done: self.views_done.load(SeqCst),
                views_total: self.views_total.load(SeqCst),
                rows_done: self.rows_done.load(SeqCst),
                rows_expected: self.rows_expected.load(SeqCst),
                since: self.since.load(SeqCst),
            };
            if version.is_multiple_of(2) && self.version.load(SeqCst) == version {
                return state;
            }
            interrupt::check();
            spin_loop();
        }
    }
}

/// Every refresh that is under way in this server.
pub fn all() -> Vec<State> {
    let Some(shared) = shared::area() else { return Vec::new() };
    shared.progress.iter().map(Progress::read).filter(|state| state.pid != 0).collect()
}

thread_local! {
    /// Of this process, while it refreshes.
    static OWN: Cell<Option<&'static Progress>> = const { Cell::new(None) };
    static CLEARS_AT_EXIT: Cell<bool> = const { Cell::new(false) };
}

/// A refresh is shown until this is dropped; then what was shown before, which is nothing but for a refresh that runs
/// inside another one.
#[must_use = "a refresh is shown as long as this lives"]
pub struct Shown {
    place: Option<(&'static Progress, State)>,
    outer: Option<&'static Progress>,
}

/// Shows that this process begins to refresh, by waiting for its locks.
pub fn begin(initiator: u8) -> Shown {
    let outer = OWN.get();
    // SAFETY: set at the start of the process.
    let number = unsafe { pg_sys::MyProcNumber };
    let place = shared::area().and_then(|shared| shared.progress.get(number as usize));
    let Some(place) = place else { return Shown { place: None, outer } };
    clear_at_exit();
    let before = place.read();
    place.set(State {
        pid: process::own_pid(),
        database: process::own_database().to_u32(),
        view: 0,
        initiator,
        phase: Phase::Locks,
        views_done: 0,
        views_total: 0,
        rows_done: 0,
        rows_expected: 0,
        since: clock::now(),
    });
    OWN.set(Some(place));
    Shown { place: Some((place, before)), outer }
}

impl Drop for Shown {
    /// Also while an error unwinds: calls nothing of the server.
    fn drop(&mut self) {
        if let Some((place, before)) = self.place {
            place.set(before);
        }
        OWN.set(self.outer);
    }
}

/// A process that is told to end does not unwind.
fn clear_at_exit() {
    if !CLEARS_AT_EXIT.replace(true) {
        // SAFETY: once per process; the callback lives as long as the library.
        unsafe { pg_sys::before_shmem_exit(Some(exiting), pg_sys::Datum::from(0usize)) };
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn exiting(_code: c_int, _argument: pg_sys::Datum) {
    if let Some(place) = OWN.take() {
        place.write(|place| place.pid.store(0, SeqCst));
    }
}

/// Of so many views.
pub fn members(views: usize) {
    if let Some(place) = OWN.get() {
        place.views_total.store(views as u32, SeqCst);
    }
}

/// Work on this view begins.
pub fn view(view: pg_sys::Oid) {
    if let Some(place) = OWN.get() {
        place.write(|place| place.view.store(view.to_u32(), SeqCst));
    }
}

/// Another view is done.
pub fn view_done() {
    if let Some(place) = OWN.get() {
        place.views_done.fetch_add(1, SeqCst);
    }
}

/// A phase begins, of so many rows, if that is known.
pub fn phase(phase: Phase, rows_expected: Option<u64>) {
    if let Some(place) = OWN.get() {
        place.write(|place| {
            place.phase.store(phase as u8, SeqCst);
            place.rows_done.store(0, SeqCst);
            place.rows_expected.store(rows_expected.unwrap_or(0), SeqCst);
        });
    }
}

/// Counts the rows of a phase, and shows the count every so many rows.
#[derive(Default)]
pub struct Rows(u64);

/// A power of two.
const SHOWN_EVERY: u64 = 1024;

impl Rows {
    #[inline]
    pub fn add(&mut self, rows: u64) {
        let before = self.0;
        self.0 += rows;
        if before / SHOWN_EVERY != self.0 / SHOWN_EVERY {
            show(self.0);
        }
    }
}

#[cold]
fn show(rows: u64) {
    if let Some(place) = OWN.get() {
        place.rows_done.store(rows, SeqCst);
    }
}
