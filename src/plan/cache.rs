//! What a backend remembers about the views it refreshes: circuit and plans, until anything they rest on changes.
//!
//! Validity follows the server's own plan cache: relation invalidations of every relation mentioned, and any change
//! of functions, types, operators, access methods or roles. (The plan cache itself cannot hold these plans: it would
//! rewrite the already rewritten terms again, adding row security twice, and delta plans do not mention the base
//! tables whose changes must invalidate them.)

use super::build::{Plan, Target};
use super::magnitude::Magnitudes;
use crate::circuit::Circuit;
use crate::pg::{list, server};
use hashbrown::{HashMap, HashSet};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A view as this backend knows it.
pub struct Entry {
    pub circuit: Circuit,
    pub target: Target,
    /// What the view reads, directly or through plain views, with partitions and children; and the view. A change of any
    /// invalidates the entry.
    relations: HashSet<pg_sys::Oid>,
    valid: Cell<bool>,
    deltas: RefCell<HashMap<Magnitudes, Rc<Plan>>>,
    full: RefCell<Option<Rc<Plan>>>,
    context: pg_sys::MemoryContext,
}

thread_local! {
    static ENTRIES: RefCell<HashMap<pg_sys::Oid, Rc<Entry>>> = RefCell::new(HashMap::new());
}

/// Registers the invalidation callbacks, once per process.
pub fn register() {
    let none = pg_sys::Datum::from(0);
    // SAFETY: callbacks of static lifetime.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
        for cache in [
            pg_sys::SysCacheIdentifier::PROCOID,
            pg_sys::SysCacheIdentifier::TYPEOID,
            pg_sys::SysCacheIdentifier::OPEROID,
            pg_sys::SysCacheIdentifier::AMOPOPID,
            pg_sys::SysCacheIdentifier::AUTHOID,
            pg_sys::SysCacheIdentifier::AUTHMEMMEMROLE,
        ] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(object_changed), none);
        }
    }
}

/// The valid entry of `view`, made by `build` if there is none.
pub fn entry(view: pg_sys::Oid, build: impl FnOnce() -> (Circuit, Target)) -> Rc<Entry> {
    if let Some(entry) = ENTRIES.with_borrow(|entries| entries.get(&view).filter(|e| e.valid.get()).cloned()) {
        return entry;
    }
    forget(view);
    let entry = Rc::new(make_entry(build));
    ENTRIES.with_borrow_mut(|entries| entries.insert(view, entry.clone()));
    entry
}

/// Drops what is known about `view`.
pub fn forget(view: pg_sys::Oid) {
    let old = ENTRIES.with_borrow_mut(|entries| entries.remove(&view));
    drop(old);
}

fn make_entry(build: impl FnOnce() -> (Circuit, Target)) -> Entry {
    // SAFETY: a child of CacheMemoryContext owned by the entry; deleted by its drop.
    let context = unsafe {
        pg_sys::AllocSetContextCreateExtended(
            pg_sys::CacheMemoryContext,
            c"pg_trickle view".as_ptr(),
            pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
            pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    };
    let guard = Context(context);
    let (circuit, target) = within(context, build);
    std::mem::forget(guard);
    let relations = mentioned(&circuit).chain([circuit.view]).collect();
    Entry {
        circuit,
        target,
        relations,
        valid: Cell::new(true),
        deltas: RefCell::default(),
        full: RefCell::default(),
        context,
    }
}

/// Every relation of the rewritten query, plain views that were expanded included.
fn mentioned(circuit: &Circuit) -> impl Iterator<Item = pg_sys::Oid> {
    let (mut relations, mut items, mut row_security) = (std::ptr::null_mut(), std::ptr::null_mut(), false);
    // SAFETY: walks the tree without changing it; the list lives until we have read it.
    unsafe {
        let query = circuit.query.as_ptr().cast();
        pg_sys::extract_query_dependencies(query, &raw mut relations, &raw mut items, &raw mut row_security);
        list::oids(relations).flat_map(family)
    }
}

/// A relation with its partitions or children, if it has any.
fn family(relid: pg_sys::Oid) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: look-ups; the list lives until we have read it.
    let members = unsafe {
        server::guarded(|| {
            let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
            if server::has_subclass(relid) {
                server::find_all_inheritors(relid, lock, std::ptr::null_mut())
            } else {
                std::ptr::null_mut()
            }
        })
    };
    // SAFETY: an OID list or NIL.
    unsafe { list::oids(members) }.chain([relid])
}

/// Deletes the context when building fails half-way.
struct Context(pg_sys::MemoryContext);

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the context any more.
        unsafe { pg_sys::MemoryContextDelete(self.0) };
    }
}

/// The context is not the current one any more when this ends, be it by an error: it can be deleted then.
fn within<R>(context: pg_sys::MemoryContext, work: impl FnOnce() -> R) -> R {
    // SAFETY: the context is alive, and so is the old one.
    let _back = Back(unsafe { pg_sys::MemoryContextSwitchTo(context) });
    work()
}

/// Goes back to a memory context.
struct Back(pg_sys::MemoryContext);

impl Drop for Back {
    fn drop(&mut self) {
        // SAFETY: the context was the current one before.
        unsafe { pg_sys::MemoryContextSwitchTo(self.0) };
    }
}

impl Entry {
    /// Locks what plans read, as any query over it would. The entry may turn out invalid afterwards.
    pub fn lock_relations(&self) {
        for &relid in &self.relations {
            // SAFETY: waits for concurrent DDL and then sees its invalidations.
            unsafe { pg_sys::LockRelationOid(relid, pg_sys::AccessShareLock as i32) };
        }
    }

    pub fn is_valid(&self) -> bool {
        self.valid.get()
    }

    /// The delta plan for these magnitudes, made by `plan` if there is none.
    pub fn delta(&self, magnitudes: &Magnitudes, plan: impl FnOnce(&Entry) -> Plan) -> Rc<Plan> {
        if let Some(found) = self.deltas.borrow().get(magnitudes) {
            return found.clone();
        }
        let made = Rc::new(self.keep(|| plan(self)));
        self.deltas.borrow_mut().insert(magnitudes.clone(), made.clone());
        made
    }

    /// The plan that recomputes the view and compares.
    pub fn full(&self, plan: impl FnOnce(&Entry) -> Plan) -> Rc<Plan> {
        if let Some(found) = self.full.borrow().as_ref() {
            return found.clone();
        }
        let made = Rc::new(self.keep(|| plan(self)));
        *self.full.borrow_mut() = Some(made.clone());
        made
    }

    /// Plans in the current (short-lived) context and copies the result into the entry's.
    fn keep(&self, plan: impl FnOnce() -> Plan) -> Plan {
        let made = plan();
        let stmt = within(self.context, || made.stmt.copy());
        // SAFETY: the copy lives as long as the entry's context.
        Plan { stmt: unsafe { crate::pg::tree::Tree::new(stmt) }, ..made }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        drop(Context(self.context));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relid: pg_sys::Oid) {
    invalidate(|entry| relid == pg_sys::InvalidOid || entry.relations.contains(&relid));
}

#[pg_guard]
unsafe extern "C-unwind" fn object_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    invalidate(|_| true);
}

/// Marks entries; they are dropped when next asked for, since a refresh may be using them right now.
fn invalidate(hit: impl Fn(&Entry) -> bool) {
    ENTRIES.with_borrow(|entries| entries.values().filter(|e| hit(e)).for_each(|e| e.valid.set(false)));
}
