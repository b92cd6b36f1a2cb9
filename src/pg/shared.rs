//! What our processes and all backends share: one fixed area of shared memory, all atomics, zero at start.
//!
//! Writers touch it once per transaction that changed something captured: a bit per source and, if the bit was clear, the
//! latch of the database's scheduler. Only who takes a place in one of the two tables, or leaves it, takes the lock.

use super::notes::{Note, PLACES};
use super::progress::Progress;
use super::{clock, process, server};
use pgrx::pg_sys;
use std::cell::UnsafeCell;
use std::mem::{align_of, size_of};
use std::ptr::null_mut;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst,
};

const NAME: &std::ffi::CStr = c"pg_trickle";

/// Sources share bits when there are more than these: that costs a look, no more.
pub const WORDS: usize = 128;
pub const BITS: u32 = WORDS as u32 * u64::BITS;

/// Views of one wave.
pub const WAVE: usize = 4096;

/// Databases with stream tables. A server has a process for each, so it cannot have many more than this by default.
const DATABASES: usize = 128;

/// In place of a database.
pub const FREE: u32 = 0;

/// A process that can be woken.
#[repr(C)]
pub struct Process {
    pid: AtomicI32,
    latch: AtomicPtr<pg_sys::Latch>,
}

#[repr(C)]
pub struct Database {
    /// Or FREE.
    pub oid: AtomicU32,
    /// A scheduler should look whether the extension is there, or is known to be needed.
    pub wanted: AtomicBool,
    /// Sessions that need the database without our processes.
    pub holds: AtomicU32,
    pub scheduler: Process,
    /// Grows with every change of what stream tables there are, or of their settings.
    pub generation: AtomicU64,
    /// Anything may have changed.
    pub everything: AtomicBool,
    /// Relations that changed, by a hash.
    pub dirty: [AtomicU64; WORDS],
    /// For each word of `dirty`, when the first of the bits was set that the scheduler has not looked at yet: the moment of
    /// that commit. 0: there is none.
    noted: [AtomicI64; WORDS],
    /// Since when the view is due that waits for longest for a worker; 0: none does.
    overdue: AtomicI64,
    /// The scheduler's part in the rotation.
    pub turn: Turn,
    /// Signalled when views were refreshed. The server changes it, in any process, under a lock inside it; no reference to
    /// what is in the cell is ever made.
    refreshed: UnsafeCell<pg_sys::ConditionVariable>,
}

/// A database's part in the rotation of schedulers, which there is when processes run out.
#[repr(C)]
pub struct Turn {
    /// When its scheduler came.
    came: AtomicI64,
    /// Since when it has had none for want of a process; 0: it has one, or needs none.
    waiting: AtomicI64,
    /// When there is something to do, as its last scheduler has said; i64::MAX: when something changes.
    resume: AtomicI64,
    /// What that one knew of the catalog (`generation`).
    known: AtomicU64,
    /// The scheduler has nothing to do now.
    pub idle: AtomicBool,
    /// When the launcher asked it to go; 0: it did not.
    asked: AtomicI64,
    /// It did, and said when it would have something to do.
    gone: AtomicBool,
}

/// State of a refresh worker's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Free,
    /// Asked for, not there yet.
    Starting,
    Idle,
    /// Refreshing the wave.
    Running,
    /// The result can be read.
    Done,
    /// Gone, while it was idle or with its wave unfinished.
    Gone,
}

/// How a wave ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Result {
    Refreshed,
    /// What was to be refreshed is not what it was: look again.
    Outdated,
    Failed,
}

#[repr(C)]
pub struct Worker {
    pub database: AtomicU32,
    pub process: Process,
    state: AtomicU8,
    result: AtomicU8,
    /// Of a failed wave: the view, and the class of failure.
    pub failed: AtomicU32,
    pub class: AtomicU8,
    /// Of a wave that was refreshed: when its snapshot was taken.
    pub taken: AtomicI64,
    count: AtomicU32,
    views: [AtomicU32; WAVE],
    /// Of each view: the first commit it does not show, 0 if unknown.
    unseen: [AtomicI64; WAVE],
    /// Of each view of a wave that was refreshed: what was done, in the worker's own code.
    work: [AtomicI64; WAVE],
}

/// A view of a wave, and when the first change was committed that it does not show, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    pub view: u32,
    pub unseen: Option<pg_sys::TimestampTz>,
}

#[repr(C)]
struct Header {
    launcher: Process,
    /// Databases came or went.
    databases_changed: AtomicBool,
    /// The server's configuration says that nothing is refreshed by schedule.
    disabled: AtomicBool,
    /// A worker could not be started.
    starved: AtomicBool,
    /// How many schedulers there may be, of how many that are wanted; 0: there is room for all.
    places: AtomicU32,
    sharing: AtomicU32,
    lock: AtomicPtr<pg_sys::LWLock>,
    workers: u32,
    processes: u32,
}

/// The area, in a server that preloaded the library.
#[derive(Clone, Copy)]
pub struct Shared {
    header: &'static Header,
    pub databases: &'static [Database],
    /// By database and view.
    pub notes: &'static [Note],
    pub workers: &'static [Worker],
    /// By number of the process.
    pub progress: &'static [Progress],
}

static AREA: AtomicPtr<Header> = AtomicPtr::new(null_mut());

// The parts of the area follow one another without gaps.
const _: () = {
    let alignment = align_of::<Header>();
    assert!(align_of::<Database>() <= alignment && size_of::<Database>().is_multiple_of(alignment));
    assert!(align_of::<Note>() <= alignment && size_of::<Note>().is_multiple_of(alignment));
    assert!(align_of::<Worker>() <= alignment && size_of::<Worker>().is_multiple_of(alignment));
    assert!(align_of::<Progress>() <= alignment);
};

/// None before the server has started up.
pub fn area() -> Option<Shared> {
    let area = AREA.load(SeqCst);
    if area.is_null() {
        return None;
    }
    // SAFETY: set by `start` to an area of `size` bytes laid out so, initialised before any other process began, and mapped
    // until this one ends. What changes after `start` is atomic or in a cell, so shared references to it are right.
    unsafe {
        let databases: *const Database = area.add(1).cast();
        let notes: *const Note = databases.add(DATABASES).cast();
        let workers: *const Worker = notes.add(PLACES).cast();
        let progress: *const Progress = workers.add((*area).workers as usize).cast();
        Some(Shared {
            header: &*area,
            databases: std::slice::from_raw_parts(databases, DATABASES),
            notes: std::slice::from_raw_parts(notes, PLACES),
            workers: std::slice::from_raw_parts(workers, (*area).workers as usize),
            progress: std::slice::from_raw_parts(progress, (*area).processes as usize),
        })
    }
}

fn workers() -> usize {
    // SAFETY: a setting that does not change once the postmaster has read it.
    unsafe { pg_sys::max_worker_processes as usize }
}

/// Processes that can run statements.
fn processes() -> usize {
    // SAFETY: computed by the postmaster before it asks for shared memory.
    unsafe { pg_sys::MaxBackends as usize }
}

fn size() -> usize {
    size_of::<Header>()
        + DATABASES * size_of::<Database>()
        + PLACES * size_of::<Note>()
        + workers() * size_of::<Worker>()
        + processes() * size_of::<Progress>()
}

static mut NEXT_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut NEXT_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// Asks for the area; called once, in the postmaster.
pub fn register() {
    // SAFETY: single-threaded start-up.
    unsafe {
        NEXT_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        NEXT_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(start);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: what such a hook may do.
    unsafe {
        if let Some(next) = NEXT_REQUEST {
            next();
        }
        pg_sys::RequestAddinShmemSpace(size());
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn start() {
    // SAFETY: runs in the postmaster, after a crash again; the area is ours alone until processes are started.
    unsafe {
        if let Some(next) = NEXT_STARTUP {
            next();
        }
        let mut found = false;
        let area: *mut Header = pg_sys::ShmemInitStruct(NAME.as_ptr(), size(), &mut found).cast();
        if !found {
            area.cast::<u8>().write_bytes(0, size());
            (*area).workers = workers() as u32;
            (*area).processes = processes() as u32;
            (*area).lock.store(&raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock, SeqCst);
        }
        AREA.store(area, SeqCst);
        area_of_conditions();
    }
}

/// Zero is no valid condition variable.
fn area_of_conditions() {
    let databases = area().map_or(&[][..], |shared| shared.databases);
    for database in databases {
        // SAFETY: nobody waits yet.
        unsafe { pg_sys::ConditionVariableInit(database.condition()) };
    }
}

impl Shared {
    pub fn launcher(&self) -> &'static Process {
        &self.header.launcher
    }

    pub fn databases_changed(&self) -> &'static AtomicBool {
        &self.header.databases_changed
    }

    pub fn disabled(&self) -> bool {
        self.header.disabled.load(SeqCst)
    }

    /// Whether that is news.
    pub fn set_disabled(&self, disabled: bool) -> bool {
        self.header.disabled.swap(disabled, SeqCst) != disabled
    }

    /// A worker could not be started for want of a process.
    pub fn starved(&self) -> &'static AtomicBool {
        &self.header.starved
    }

    /// How many databases share how many places for schedulers. None: there is room for all.
    pub fn rotation(&self) -> Option<(u32, u32)> {
        let places = self.header.places.load(SeqCst);
        (places > 0).then(|| (self.header.sharing.load(SeqCst), places))
    }

    pub fn set_rotation(&self, databases: usize, places: Option<usize>) {
        self.header.sharing.store(databases as u32, SeqCst);
        self.header.places.store(places.unwrap_or(0) as u32, SeqCst);
    }

    /// Runs `work` while no other process takes or leaves a place. `work` must not raise. Raises nothing itself: it runs in
    /// the middle of a commit.
    pub fn locked<R>(&self, work: impl FnOnce() -> R) -> R {
        let lock = self.header.lock.load(SeqCst);
        // SAFETY: a lock of our tranche, which stays as long as the server. The one error of LWLockAcquire is that 200 are held
        // already, that of LWLockRelease that this one is not; neither can be. So the raw calls do not jump.
        unsafe {
            server::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
            let result = work();
            server::LWLockRelease(lock);
            result
        }
    }
}

impl Process {
    /// This process, from now on.
    pub fn register(&self) {
        self.latch.store(process::own_latch(), SeqCst);
        self.pid.store(process::own_pid(), SeqCst);
    }

    pub fn leave(&self) {
        self.pid.store(0, SeqCst);
        self.latch.store(null_mut(), SeqCst);
    }

    pub fn pid(&self) -> Option<i32> {
        Some(self.pid.load(SeqCst)).filter(|pid| *pid != 0)
    }

    /// Sets its latch. Latches are never freed; waking the wrong process costs it a look.
    pub fn wake(&self) {
        let latch = self.latch.load(SeqCst);
        if !latch.is_null() {
            // SAFETY: a process registered its own latch, which lies in the server's shared memory.
            unsafe { process::set_latch(latch) };
        }
    }
}

impl Database {
    fn condition(&self) -> *mut pg_sys::ConditionVariable {
        self.refreshed.get()
    }

    /// Sets bits of a word of `dirty`; whether any of them was clear.
    ///
    /// The moment is noted after the bit is set, and the caller wakes the scheduler after that: so what is noted here is
    /// taken by a look that comes after, and never mistaken for a later commit's.
    pub fn mark(&self, word: usize, bits: u64) -> bool {
        // Looking first spares the cache line of a table that is written all the time.
        let missing = bits & !self.dirty[word].load(SeqCst);
        let news = missing != 0 && self.dirty[word].fetch_or(missing, SeqCst) & missing != missing;
        if news && self.noted[word].load(SeqCst) == 0 {
            // Another session's commit came before: that one counts.
            let _ = self.noted[word].compare_exchange(0, clock::now(), SeqCst, SeqCst);
        }
        news
    }

    /// When the bits of the word were set that no look has found yet. None: just now.
    pub fn take_noted(&self, word: usize) -> Option<pg_sys::TimestampTz> {
        // Looking first, as above.
        let noted = if self.noted[word].load(SeqCst) == 0 { 0 } else { self.noted[word].swap(0, SeqCst) };
        (noted != 0).then_some(noted)
    }

    /// As `take_noted`, which is still to come.
    pub fn noted(&self, word: usize) -> Option<pg_sys::TimestampTz> {
        Some(self.noted[word].load(SeqCst)).filter(|noted| *noted != 0)
    }

    /// Its scheduler is there.
    pub fn begin_turn(&self) {
        let turn = &self.turn;
        turn.came.store(clock::now(), SeqCst);
        turn.waiting.store(0, SeqCst);
        turn.idle.store(false, SeqCst);
        turn.asked.store(0, SeqCst);
        turn.gone.store(false, SeqCst);
    }

    /// Its scheduler gives way. It knows the catalog of that generation, and will have something to do then.
    pub fn end_turn(&self, known: Option<u64>, resume: pg_sys::TimestampTz) {
        self.turn.known.store(known.unwrap_or(u64::MAX), SeqCst);
        self.turn.resume.store(resume, SeqCst);
        self.turn.gone.store(true, SeqCst);
    }

    /// Asks its scheduler to give way.
    pub fn ask(&self, now: pg_sys::TimestampTz) {
        self.turn.asked.store(now, SeqCst);
        self.scheduler.wake();
    }

    pub fn asked(&self) -> Option<pg_sys::TimestampTz> {
        Some(self.turn.asked.load(SeqCst)).filter(|at| *at != 0)
    }

    pub fn came(&self) -> pg_sys::TimestampTz {
        self.turn.came.load(SeqCst)
    }

    /// When it needs a scheduler that has none: a time that has passed if there is something to do, or nobody knows.
    pub fn resumes(&self) -> pg_sys::TimestampTz {
        let noted = || self.noted.iter().any(|noted| noted.load(SeqCst) != 0);
        let news =
            self.turn.known.load(SeqCst) != self.generation.load(SeqCst) || self.everything.load(SeqCst) || noted();
        if news || !self.turn.gone.load(SeqCst) { 0 } else { self.turn.resume.load(SeqCst) }
    }

    /// Since when it has had no scheduler for want of a process.
    pub fn waiting(&self) -> Option<pg_sys::TimestampTz> {
        Some(self.turn.waiting.load(SeqCst)).filter(|since| *since != 0)
    }

    /// The first time counts.
    pub fn set_waiting(&self, since: Option<pg_sys::TimestampTz>) {
        match since {
            None => self.turn.waiting.store(0, SeqCst),
            Some(since) => drop(self.turn.waiting.compare_exchange(0, since, SeqCst, SeqCst)),
        }
    }

    /// A scheduler is there, or will be.
    pub fn is_scheduled(&self) -> bool {
        self.scheduler.pid().is_some() || self.wanted.load(SeqCst)
    }

    pub fn set_overdue(&self, since: Option<pg_sys::TimestampTz>) {
        self.overdue.store(since.unwrap_or(0), SeqCst);
    }

    pub fn overdue(&self) -> Option<pg_sys::TimestampTz> {
        Some(self.overdue.load(SeqCst)).filter(|since| *since != 0)
    }

    /// Tells those who wait for a refresh that there was one.
    pub fn announce(&self) {
        // SAFETY: initialised at start.
        unsafe { pg_sys::ConditionVariableBroadcast(self.condition()) };
    }

    /// Waits for an announcement, at most so long. To be followed by `stop_waiting` in the end.
    pub fn wait(&self, milliseconds: i64) {
        let event = process::wait_event(c"PgTrickleRefresh");
        // SAFETY: initialised at start; an error ends the wait.
        unsafe { pg_sys::ConditionVariableTimedSleep(self.condition(), milliseconds, event) };
    }

    pub fn stop_waiting(&self) {
        // SAFETY: does nothing when not waiting.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }
}

impl Worker {
    pub fn state(&self) -> State {
        match self.state.load(SeqCst) {
            0 => State::Free,
            1 => State::Starting,
            2 => State::Idle,
            3 => State::Running,
            4 => State::Done,
            _ => State::Gone,
        }
    }

    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, SeqCst);
    }

    /// False when it was in another state.
    pub fn change_state(&self, from: State, to: State) -> bool {
        self.state.compare_exchange(from as u8, to as u8, SeqCst, SeqCst).is_ok()
    }

    /// The wave to refresh. To be set while the worker is idle.
    pub fn assign(&self, wave: &[Assigned]) {
        assert!(wave.len() <= WAVE);
        for (n, assigned) in wave.iter().enumerate() {
            self.views[n].store(assigned.view, SeqCst);
            self.unseen[n].store(assigned.unseen.unwrap_or(0), SeqCst);
        }
        self.count.store(wave.len() as u32, SeqCst);
    }

    pub fn assigned(&self) -> Vec<Assigned> {
        let count = self.count.load(SeqCst) as usize;
        let places = self.views[..count].iter().zip(&self.unseen);
        let read = |(view, unseen): (&AtomicU32, &AtomicI64)| {
            let unseen = unseen.load(SeqCst);
            Assigned { view: view.load(SeqCst), unseen: (unseen != 0).then_some(unseen) }
        };
        places.map(read).collect()
    }

    /// What was done to each view, in their order. To be set before the result.
    pub fn set_work(&self, work: impl Iterator<Item = i64>) {
        self.work.iter().zip(work).for_each(|(place, work)| place.store(work, SeqCst));
    }

    pub fn work(&self) -> Vec<i64> {
        let count = self.count.load(SeqCst) as usize;
        self.work[..count].iter().map(|work| work.load(SeqCst)).collect()
    }

    pub fn set_result(&self, result: Result) {
        self.result.store(result as u8, SeqCst);
    }

    pub fn result(&self) -> Result {
        match self.result.load(SeqCst) {
            0 => Result::Refreshed,
            1 => Result::Outdated,
            _ => Result::Failed,
        }
    }
}
