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
use hashbrown::{HashMap, HashSet};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};

thread_local! {
    /// Sources found complete, with the relations whose invalidation calls for another look.
    static COMPLETE: RefCell<HashMap<pg_sys::Oid, Vec<pg_sys::Oid>>> = RefCell::default();
    /// Invalidations so far.
    static INVALIDATIONS: Cell<u64> = const { Cell::new(0) };
}

/// DDL that commits between two of our catalog look-ups makes them disagree, once.
const ATTEMPTS: usize = 3;

/// Every change of `relid`, which is locked with its members, goes to its buffer. One look-up in a hash table, unless
/// something has happened to it.
pub fn is_complete(relid: pg_sys::Oid) -> bool {
    if COMPLETE.with_borrow(|complete| complete.contains_key(&relid)) {
        return true;
    }
    listen();
    let before = INVALIDATIONS.get();
    let Some(source) = source::get(relid) else { return false };
    if examine(relid) == State::Incomplete {
        return false;
    }
    // What arrived meanwhile may be about the source.
    if INVALIDATIONS.get() == before {
        let watched = source.members.iter().chain(&source.segments).copied().chain([relid]).collect();
        COMPLETE.with_borrow_mut(|complete| complete.insert(relid, watched));
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
    COMPLETE.with_borrow_mut(|complete| complete.retain(|_, watched| !all && !watched.contains(&relid)));
}
