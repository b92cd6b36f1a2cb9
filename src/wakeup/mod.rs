//! How a transaction's changes reach the scheduler of its database: at commit, through shared memory and a latch.
//!
//! While it runs, a transaction notes here what it changed; what a rolled back savepoint had noted stays noted, which
//! costs a look. When the commit is visible to others and its locks are gone, the notes become bits in shared memory, and the scheduler is woken
//! if any of them was clear. The scheduler clears a bit when it begins to refresh what reads the relation, so a writer
//! that changes the same table again and again usually finds its bit set and does nothing more.
//!
//! | note | by |
//! |---|---|
//! | a captured relation was written to | capture triggers, refreshes by hand |
//! | a view must be recomputed | whatever orders that |
//! | stream tables came, went or were set otherwise | the catalog |
//! | anything | COMMIT PREPARED: the notes went with the session that prepared |
//! | an extension, a database came or went | the utility hook |

pub mod hold;
pub mod view;

use crate::pg::notes;
use crate::pg::process;
use crate::pg::shared::{self, BITS, Database, FREE, Shared, WORDS};
use crate::pg::xact::{self, End, Listener};
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;

mod note {
    pub const RELATIONS: u8 = 1;
    pub const GRAPH: u8 = 2;
    pub const EVERYTHING: u8 = 4;
    pub const EXTENSION: u8 = 8;
    pub const DATABASES: u8 = 16;
}

thread_local! {
    static NOTES: Cell<u8> = const { Cell::new(0) };
    static CHANGED: [Cell<u64>; WORDS] = const { [const { Cell::new(0) }; WORDS] };
    /// The words of it that are not zero: one bit each.
    static TOUCHED: Cell<u128> = const { Cell::new(0) };
    /// Where this database was found last.
    static PLACE: Cell<usize> = const { Cell::new(0) };
    /// The scheduler knows of its own refreshes.
    static SCHEDULED: Cell<bool> = const { Cell::new(false) };
    static LOGICAL: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Called once, when the server preloads the library.
pub fn register() {
    shared::register();
    xact::listen::<Notes>();
}

/// This transaction changed a relation that views read, or what a view is computed from.
pub fn touch(relation: pg_sys::Oid) {
    let bit = bit(relation.to_u32());
    CHANGED.with(|words| {
        let at = bit / u64::BITS;
        let word = &words[at as usize];
        word.set(word.get() | 1 << (bit % u64::BITS));
        TOUCHED.set(TOUCHED.get() | 1 << at);
    });
    add(note::RELATIONS);
}

/// This transaction refreshed a view that others read.
pub fn touch_refreshed(view: pg_sys::Oid) {
    if !SCHEDULED.get() {
        touch(view);
    }
}

/// This process refreshes what the scheduler tells it to, and its refreshes are no news.
pub fn refreshes_are_scheduled() {
    SCHEDULED.set(true);
}

/// This transaction changed what stream tables there are, what they read or how they are set.
pub fn graph_changed() {
    add(note::GRAPH);
}

/// Nobody knows what this transaction brings to light.
pub fn everything_changed() {
    add(note::EVERYTHING);
}

/// This transaction created an extension, perhaps ours.
pub fn extension_created() {
    add(note::EXTENSION);
}

/// This transaction created, renamed or dropped a database.
pub fn databases_changed() {
    add(note::DATABASES);
}

/// Something captured was changed and is not committed yet.
pub fn has_changes() -> bool {
    NOTES.get() & note::RELATIONS != 0
}

/// The words of CHANGED that are not zero.
fn touched() -> impl Iterator<Item = usize> {
    let mut left = TOUCHED.get();
    std::iter::from_fn(move || {
        let at = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (at < u128::BITS).then_some(at as usize)
    })
}
const _: () = assert!(WORDS == u128::BITS as usize);

fn add(note: u8) {
    NOTES.set(NOTES.get() | note);
}

/// The bit of a relation.
pub fn bit(relation: u32) -> u32 {
    // Fibonacci hashing: oids of one application lie close together.
    relation.wrapping_mul(0x9e37_79b1) >> (u32::BITS - BITS.ilog2())
}

struct Notes;

impl Listener for Notes {
    fn ended(end: End) {
        match end {
            // An apply worker commits prepared transactions without a statement.
            End::Commit if NOTES.get() == 0 && is_logical_worker() => everything_changed(),
            End::Commit => (),
            // COMMIT PREPARED brings everything to light.
            End::Prepare | End::Abort => forget(),
        }
        hold::release();
    }

    fn settled() {
        let notes = NOTES.get();
        if notes != 0 {
            deliver(notes);
            forget();
        }
    }
}

fn is_logical_worker() -> bool {
    LOGICAL.get().unwrap_or_else(|| {
        let is = xact::is_logical_worker() && xact::may_be_prepared();
        LOGICAL.set(Some(is));
        is
    })
}

fn forget() {
    NOTES.set(0);
    CHANGED.with(|words| touched().for_each(|at| words[at].set(0)));
    TOUCHED.set(0);
}

fn deliver(notes: u8) {
    let Some(shared) = shared::area() else { return };
    if notes & note::DATABASES != 0 {
        shared.databases_changed().store(true, SeqCst);
        shared.launcher().wake();
    }
    if notes & note::EXTENSION != 0 {
        with_place(shared, process::own_database(), |place| place.wanted.store(true, SeqCst));
        shared.launcher().wake();
    }
    // A database without a place has no scheduler, and one that begins looks at everything.
    if let Some(database) = own(shared)
        && mark(database, notes)
    {
        match database.scheduler.pid() {
            Some(_) => database.scheduler.wake(),
            // It may have given way to another database's.
            None => shared.launcher().wake(),
        }
    }
}

/// Whether there is anything new in it.
fn mark(database: &Database, notes: u8) -> bool {
    let mut news = false;
    if notes & note::GRAPH != 0 {
        database.generation.fetch_add(1, SeqCst);
        news = true;
    }
    if notes & note::EVERYTHING != 0 {
        news |= !database.everything.swap(true, SeqCst);
    }
    if notes & note::RELATIONS != 0 {
        CHANGED.with(|words| {
            for at in touched() {
                news |= database.mark(at, words[at].get());
            }
        });
    }
    news
}

/// The place of this session's database.
pub fn own(shared: Shared) -> Option<&'static Database> {
    let oid = process::own_database().to_u32();
    let cached = &shared.databases[PLACE.get()];
    if cached.oid.load(SeqCst) == oid {
        return Some(cached);
    }
    let place = shared.databases.iter().position(|database| database.oid.load(SeqCst) == oid)?;
    PLACE.set(place);
    Some(&shared.databases[place])
}

/// The place of a database that has one.
pub fn find(shared: Shared, oid: u32) -> Option<&'static Database> {
    shared.databases.iter().find(|place| place.oid.load(SeqCst) == oid)
}

/// Does something with the place of a database, which gets one if need be, while nobody takes it away. None when all are
/// taken. `work` must not raise.
pub fn with_place<R>(shared: Shared, database: pg_sys::Oid, work: impl FnOnce(&'static Database) -> R) -> Option<R> {
    let oid = database.to_u32();
    shared.locked(|| {
        let place = find(shared, oid).or_else(|| find(shared, FREE))?;
        place.oid.store(oid, SeqCst);
        Some(work(place))
    })
}

/// A scheduler should look whether there is work for one.
pub fn scheduler_wanted(database: pg_sys::Oid) {
    if let Some(shared) = shared::area() {
        with_place(shared, database, |place| place.wanted.store(true, SeqCst));
    }
}

/// Frees the places of databases that are gone or need nobody.
pub fn sweep(shared: Shared, exists: impl Fn(u32) -> bool) {
    shared.locked(|| {
        for place in shared.databases {
            let oid = place.oid.load(SeqCst);
            let idle = place.holds.load(SeqCst) == 0 && place.scheduler.pid().is_none();
            if oid != FREE && idle && (!place.wanted.load(SeqCst) || !exists(oid)) {
                place.wanted.store(false, SeqCst);
                place.everything.store(false, SeqCst);
                place.dirty.iter().for_each(|word| word.store(0, SeqCst));
                place.oid.store(FREE, SeqCst);
            }
        }
    });
    notes::sweep(shared, |database, _| exists(database));
}

/// A scheduler works in this database.
pub fn scheduler_running() -> bool {
    shared::area().and_then(own).is_some_and(|database| database.scheduler.pid().is_some())
}
