//! What this backend knows about a view, made as its owner.

use crate::circuit;
use crate::exec::apply;
use crate::identity::{AsOwner, as_owner};
use crate::pg::relation::Relation;
use crate::plan::build::Target;
use crate::plan::cache::{self, Entry};
use pgrx::pg_sys;
use std::rc::Rc;

/// The entry of `view`, built under its owner's identity and settings if need be. It is the same for all who refresh
/// the view: a change of the owner or of the pinned settings changes the row of the view, which makes the entry invalid.
pub fn of(view: pg_sys::Oid) -> Rc<Entry> {
    cache::entry(view, || as_owner(view, |owner| build(view, owner)))
}

/// The entry of `view`, with locks on what it reads: nobody can make it invalid any more.
pub fn locked(view: pg_sys::Oid) -> Rc<Entry> {
    loop {
        let entry = of(view);
        entry.lock_relations();
        if entry.is_valid() {
            return entry;
        }
    }
}

/// The entry of the same view, with the index that finds stored rows: it may have been dropped, or never made.
pub fn with_index(entry: &Rc<Entry>, owner: &AsOwner) -> Rc<Entry> {
    let view = entry.circuit.view;
    if apply::ensure_index(view, entry.circuit.key.as_deref()) == entry.target.index {
        return entry.clone();
    }
    cache::forget(view);
    cache::entry(view, || build(view, owner))
}

fn build(view: pg_sys::Oid, owner: &AsOwner) -> (circuit::Circuit, Target) {
    let circuit = circuit::build(view, owner);
    let index = apply::index::find(view, circuit.key.as_deref());
    let state = crate::catalog::state::get(view, 0);
    (circuit, Target { view, index, state })
}

/// A relation's own name, for messages.
pub fn name(relid: pg_sys::Oid) -> String {
    Relation::open(relid, pg_sys::NoLock).name()
}
