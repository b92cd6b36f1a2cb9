//! What a backend remembers about the views it refreshes: circuit and plans, until anything they rest on changes.
//!
//! Validity follows the server's own plan cache: relation invalidations of every relation mentioned, and any change
//! of functions, types, operators, access methods or roles. (The plan cache itself cannot hold these plans: it would
//! rewrite the already rewritten terms again, adding row security twice, and delta plans do not mention the base
//! tables whose changes must invalidate them.)
//!
//! What is kept is bounded twice. A view has a few delta plans, the last ones used: one for each vector of magnitudes would be
//! thousands for a join of four tables. And all views together have [`ROOM`]: beyond it the views that were used least recently
//! are forgotten, except those of the refresh under way. A simple view with its plans takes some 100 kB, a join of four tables
//! 400 kB, so that there is room for the views that one process takes turns with, and backends stay within what the server's own caches take.
//! Every plan has a memory context of its own, which goes with the last reference to the plan, be it that of a running refresh.

use super::build::Plan;
use super::magnitude::Magnitudes;
use super::target::Targets;
use crate::circuit::{BlockId, Circuit};
use crate::pg::invalidation;
use crate::pg::memory::Owned;
use crate::pg::tree::Tree;
use crate::pg::{list, server};
use hashbrown::HashMap;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Delta plans that are kept of each block.
const PLANS: usize = 8;

/// Bytes of memory for all that is kept.
const ROOM: usize = 32 << 20;

/// A view as this backend knows it.
pub struct Entry {
    pub circuit: Circuit,
    pub targets: Targets,
    /// What the view reads, directly or through plain views, with partitions and children; the view; and what keeps its blocks. A
    /// change of any invalidates the entry. Ascending: they are locked in this order.
    relations: Vec<pg_sys::Oid>,
    valid: Cell<bool>,
    /// Something changed under it while it was made.
    overtaken: bool,
    /// When it was last asked for, in look-ups of this backend.
    used: Cell<u64>,
    /// The one used last comes last.
    deltas: RefCell<Vec<(BlockId, Magnitudes, Rc<Plan>)>>,
    /// The recompute of each block, and of the view where it has none.
    full: RefCell<Vec<Option<Rc<Plan>>>>,
    /// Where the circuit lives: dropped after it.
    _memory: Owned,
}

thread_local! {
    static ENTRIES: RefCell<HashMap<pg_sys::Oid, Rc<Entry>>> = RefCell::new(HashMap::new());
    static LOOKUPS: Cell<u64> = const { Cell::new(0) };
    /// The parent of every memory context here.
    static MEMORY: Cell<pg_sys::MemoryContext> = const { Cell::new(std::ptr::null_mut()) };
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

/// The valid entry of `view`, made by `build` if there is none. One that something has changed under while it was made is
/// invalid from the start, but not twice in a row: who asks again has locked what it reads meanwhile, and with
/// debug_discard_caches something changes all the time.
pub fn entry(view: pg_sys::Oid, build: impl FnOnce() -> (Circuit, Targets)) -> Rc<Entry> {
    let known = ENTRIES.with_borrow(|entries| entries.get(&view).filter(|e| e.valid.get()).cloned());
    let entry = known.unwrap_or_else(|| {
        let old = ENTRIES.with_borrow_mut(|entries| entries.remove(&view));
        let patient = !old.is_some_and(|old| old.overtaken);
        sweep();
        let entry = Rc::new(make_entry(build, patient));
        ENTRIES.with_borrow_mut(|entries| entries.insert(view, entry.clone()));
        make_room();
        entry
    });
    LOOKUPS.set(LOOKUPS.get() + 1);
    entry.used.set(LOOKUPS.get());
    entry
}

/// Drops what is known about `view`.
pub fn forget(view: pg_sys::Oid) {
    let old = ENTRIES.with_borrow_mut(|entries| entries.remove(&view));
    drop(old);
}

/// Forgets what is invalid: nobody may ever ask for it again, if the view is gone, or never came to be because its creation
/// failed.
fn sweep() {
    let is_of_use = |entry: &Rc<Entry>| entry.valid.get() || Rc::strong_count(entry) > 1;
    let useless: Vec<_> = ENTRIES.with_borrow_mut(|entries| entries.extract_if(|_, entry| !is_of_use(entry)).collect());
    drop(useless);
}

/// Forgets what was used least recently. Who holds an entry relies on its being marked when it becomes invalid, so that one
/// stays.
fn make_room() {
    // SAFETY: counts the memory of a live context and its children.
    while unsafe { pg_sys::MemoryContextMemAllocated(memory(), true) } > ROOM {
        let oldest = ENTRIES.with_borrow(|entries| {
            let unused = entries.iter().filter(|(_, entry)| Rc::strong_count(entry) == 1);
            unused.min_by_key(|(_, entry)| entry.used.get()).map(|(view, _)| *view)
        });
        match oldest {
            Some(view) => forget(view),
            None => return,
        }
    }
}

fn memory() -> pg_sys::MemoryContext {
    if MEMORY.get().is_null() {
        // SAFETY: CacheMemoryContext is never deleted, nor is this child of it.
        MEMORY.set(unsafe { crate::pg::memory::create(pg_sys::CacheMemoryContext, c"pg_trickle views") });
    }
    MEMORY.get()
}

fn make_entry(build: impl FnOnce() -> (Circuit, Targets), patient: bool) -> Entry {
    let watch = invalidation::watch();
    // SAFETY: the parent is never deleted.
    let memory = unsafe { Owned::make(memory(), c"pg_trickle view") };
    let (circuit, targets) = memory.run(build);
    let mut relations: Vec<pg_sys::Oid> =
        mentioned(&circuit).chain(targets.relations()).chain([circuit.view]).collect();
    relations.sort_unstable_by_key(|relid| relid.to_u32());
    relations.dedup();
    let mut entry = Entry {
        circuit,
        targets,
        relations,
        valid: Cell::new(true),
        overtaken: false,
        used: Cell::new(0),
        deltas: RefCell::default(),
        full: RefCell::default(),
        _memory: memory,
    };
    entry.overtaken = patient && watch.saw(|relid| entry.reads(relid));
    entry.valid.set(!entry.overtaken);
    entry
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

impl Entry {
    /// Locks what plans read, as any query over it would. The entry may turn out invalid afterwards.
    pub fn lock_relations(&self) {
        for &relid in &self.relations {
            // SAFETY: waits for concurrent DDL and then sees its invalidations.
            unsafe { pg_sys::LockRelationOid(relid, pg_sys::AccessShareLock as i32) };
        }
    }

    /// What the view reads.
    pub fn relations(&self) -> impl Iterator<Item = pg_sys::Oid> {
        self.relations.iter().copied().filter(|&relid| relid != self.circuit.view)
    }

    pub fn is_valid(&self) -> bool {
        self.valid.get()
    }

    /// The view's query mentions the relation, or one that it is a partition or child of.
    pub fn reads(&self, relid: pg_sys::Oid) -> bool {
        self.relations.binary_search_by_key(&relid.to_u32(), |relid| relid.to_u32()).is_ok()
    }

    /// The delta plan of a block for these magnitudes, made by `plan` if there is none.
    pub fn delta(&self, block: BlockId, magnitudes: &Magnitudes, plan: impl FnOnce(&Entry) -> Plan) -> Rc<Plan> {
        let known = {
            let mut deltas = self.deltas.borrow_mut();
            let at = deltas.iter().position(|(of, others, _)| *of == block && others == magnitudes);
            at.map(|at| {
                deltas[at..].rotate_left(1);
                deltas[deltas.len() - 1].2.clone()
            })
        };
        known.unwrap_or_else(|| {
            let made = Rc::new(keep(plan(self)));
            let mut deltas = self.deltas.borrow_mut();
            deltas.push((block, magnitudes.clone(), made.clone()));
            let most = PLANS * self.circuit.blocks.len().max(1);
            let oldest = (deltas.len() > most).then(|| deltas.remove(0));
            drop((deltas, oldest));
            make_room();
            made
        })
    }

    /// The plan that recomputes a block and compares; that of the view where it has no blocks.
    pub fn full(&self, block: Option<BlockId>, plan: impl FnOnce(&Entry) -> Plan) -> Rc<Plan> {
        let index = block.map_or(0, BlockId::index);
        if let Some(found) = self.full.borrow().get(index).and_then(Option::as_ref) {
            return found.clone();
        }
        let made = Rc::new(keep(plan(self)));
        let mut full = self.full.borrow_mut();
        if full.len() <= index {
            full.resize(index + 1, None);
        }
        full[index] = Some(made.clone());
        drop(full);
        make_room();
        made
    }
}

/// A copy, in a memory context of its own, of a plan made in the current (short-lived) one.
fn keep(made: Plan) -> Plan {
    // SAFETY: the parent is never deleted.
    let memory = unsafe { Owned::make(memory(), c"pg_trickle plan") };
    let stmt = memory.run(|| made.stmt.copy());
    // SAFETY: the copy lives as long as its context, which the plan holds.
    Plan { stmt: unsafe { Tree::new(stmt) }, memory: Some(memory), ..made }
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relid: pg_sys::Oid) {
    invalidation::note(relid);
    invalidate(|entry| relid == pg_sys::InvalidOid || entry.reads(relid));
}

#[pg_guard]
unsafe extern "C-unwind" fn object_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    invalidation::note(pg_sys::InvalidOid);
    invalidate(|_| true);
}

/// Marks entries; they are dropped when one is next made, since a refresh may be using them right now.
fn invalidate(hit: impl Fn(&Entry) -> bool) {
    ENTRIES.with_borrow(|entries| entries.values().filter(|e| hit(e)).for_each(|e| e.valid.set(false)));
}
