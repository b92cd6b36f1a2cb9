//! Whether the changes of a source are captured as the catalog says.
//!
//! Everything in the server that is about triggers keeps ours in order. What does not: pg_upgrade, which leaves internal
//! triggers behind; DDL in a server that was started without the library; and changes to pg_trigger by hand. So each
//! backend looks at a source before it first relies on its buffer, and again after any invalidation of the source or one
//! of its members, which everything but the last of the three sends. The scheduler looks at every source by itself.

use super::triggers::{self, State};
use super::{ddl, family};
use crate::catalog::source::{self, Source};
use crate::pg::names;
use crate::pg::relation::Relation;
use hashbrown::{HashMap, HashSet};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};

/// A source that was found complete.
struct Found {
    /// Whose invalidation calls for another look at the whole source.
    whole: Vec<pg_sys::Oid>,
    members: HashSet<pg_sys::Oid>,
    /// Members that were invalidated since.
    suspects: HashSet<pg_sys::Oid>,
    /// DDL has changed it that capture has not followed yet.
    altered: bool,
}

thread_local! {
    static COMPLETE: RefCell<HashMap<pg_sys::Oid, Found>> = RefCell::default();
    /// Invalidations so far.
    static INVALIDATIONS: Cell<u64> = const { Cell::new(0) };
}

/// DDL that commits between two of our catalog look-ups makes them disagree, once.
const ATTEMPTS: usize = 3;

/// Every change of `relid`, which is locked with its members, goes to its buffer. One look-up in a hash table, unless
/// something has happened to them.
pub fn is_complete(relid: pg_sys::Oid) -> bool {
    let known = COMPLETE.with_borrow(|complete| complete.get(&relid).map(|found| found.suspects.is_empty()));
    known == Some(true) || look_at_suspects(relid) || look(relid)
}

/// A source that was found complete, but that DDL in a server without the library has changed: its contents may be others, or constraints
/// new that do not hold for pending changes (fingerprint.rs).
pub fn is_altered(relid: pg_sys::Oid) -> bool {
    is_complete(relid) && COMPLETE.with_borrow(|complete| complete.get(&relid).is_some_and(|found| found.altered))
}

/// Most invalidations come from VACUUM and ANALYZE of one partition of many. False: more than that may have happened.
fn look_at_suspects(relid: pg_sys::Oid) -> bool {
    // It is not there if this ends with an error.
    let Some(mut found) = COMPLETE.with_borrow_mut(|complete| complete.remove(&relid)) else { return false };
    let before = INVALIDATIONS.get();
    let complete = found.suspects.drain().all(|member| is_still_complete(member, relid));
    let unchanged = complete && INVALIDATIONS.get() == before;
    if unchanged {
        COMPLETE.with_borrow_mut(|complete| complete.insert(relid, found));
    }
    unchanged
}

/// A member below which there is nothing, and which is a member still: nothing else of the source has changed with it.
fn is_still_complete(member: pg_sys::Oid, source: pg_sys::Oid) -> bool {
    let leaf = Relation::try_open(member, pg_sys::AccessShareLock).is_some_and(|table| !table.form().relhassubclass);
    leaf && family::ancestors(member).contains(&source) && triggers::state(member) != State::Incomplete
}

fn look(relid: pg_sys::Oid) -> bool {
    listen();
    let before = INVALIDATIONS.get();
    let Some(source) = source::get(relid) else { return false };
    if examine(relid) == State::Incomplete {
        return false;
    }
    // What arrived meanwhile may be about the source.
    if INVALIDATIONS.get() == before {
        let whole = source.segments.into_iter().chain([relid]).collect();
        let (members, suspects) = (source.members.into_iter().collect(), HashSet::new());
        let found = Found { whole, members, suspects, altered: ddl::has_other_fingerprints(relid) };
        COMPLETE.with_borrow_mut(|complete| complete.insert(relid, found));
    }
    true
}

/// The triggers on all members of a source, as pg_trigger and pg_inherits have them now.
pub fn examine(relid: pg_sys::Oid) -> State {
    let mut state = State::Incomplete;
    for _ in 0..ATTEMPTS {
        state = source::get(relid).map_or(State::Incomplete, |source| state_of(&source));
        if state != State::Incomplete {
            break;
        }
    }
    state
}

fn state_of(source: &Source) -> State {
    if names::kind(source.relid).is_none() {
        // It is being dropped, with all that reads it.
        return State::Complete;
    }
    let members = family::members(source.relid, pg_sys::AccessShareLock);
    let moved = members != source.members || family::level(&members) != source.level;
    // Rows of a partition that is being detached count for nothing any more, but it is a member until that ends.
    if moved && !family::is_detaching(source.relid) {
        return State::Incomplete;
    }
    members.into_iter().map(triggers::state).max().unwrap_or(State::Complete)
}

/// The sources of which `repair` would change something, and tables that have triggers without being part of any.
pub fn faulty() -> Vec<pg_sys::Oid> {
    let sources = source::all();
    let members: HashSet<pg_sys::Oid> = sources.iter().flat_map(|source| source.members.iter().copied()).collect();
    let strays = triggers::tables().into_iter().filter(|table| !members.contains(table));
    let wrong = |relid: &pg_sys::Oid| examine(*relid) != State::Complete || ddl::is_outdated(*relid);
    let mut faulty: Vec<_> = sources.iter().map(|source| source.relid).filter(wrong).chain(strays).collect();
    faulty.sort_unstable_by_key(|relid| relid.to_u32());
    faulty
}

/// Registers for invalidations, once per backend.
fn listen() {
    thread_local!(static LISTENING: Cell<bool> = const { Cell::new(false) });
    if !LISTENING.replace(true) {
        // SAFETY: the callback lives as long as the library.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(invalidate), pg_sys::Datum::from(0usize)) };
    }
}

#[pgrx::pg_guard]
extern "C-unwind" fn invalidate(_arg: pg_sys::Datum, relid: pg_sys::Oid) {
    let all = relid == pg_sys::InvalidOid;
    INVALIDATIONS.set(INVALIDATIONS.get() + 1);
    COMPLETE.with_borrow_mut(|complete| {
        complete.retain(|_, found| !all && !found.whole.contains(&relid));
        complete.values_mut().filter(|found| found.members.contains(&relid)).for_each(|found| {
            found.suspects.insert(relid);
        });
    });
}
