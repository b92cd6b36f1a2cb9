//! What this backend knows about a view, made as its owner.

use crate::catalog::state::{self, Part};
use crate::circuit;
use crate::circuit::Block;
use crate::exec::apply;
use crate::identity::{AsOwner, as_owner};
use crate::pg::relation::Relation;
use crate::plan::cache::{self, Entry};
use crate::plan::target::{Target, Targets};
use crate::registration;
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
    if apply::ensure_index(view, entry.circuit.key.as_deref()) == entry.targets.view().index {
        return entry.clone();
    }
    cache::forget(view);
    cache::entry(view, || build(view, owner))
}

fn build(view: pg_sys::Oid, owner: &AsOwner) -> (circuit::Circuit, Targets) {
    let circuit = circuit::build(view, owner);
    // Without the tables that are missing, or are not what they were made as, the view is recomputed, and they are made anew.
    let kept = state::of(view);
    let layouts = if kept.is_empty() { vec![] } else { registration::layouts(&circuit, owner) };
    let find = |number: usize, part: Part| {
        let (_, _, layout) = layouts.iter().find(|(of, kind, _)| of.index() == number && *kind == part)?;
        let kept = kept.iter().find(|kept| kept.is(number, part))?;
        kept.looks_like(layout).then_some(kept.relid)
    };
    let hidden = |(number, block): (usize, &Block)| {
        let output = find(number, Part::Output);
        let index = |relation| apply::index::find(relation, block.output.key.as_deref());
        Target {
            relation: output.unwrap_or(pg_sys::InvalidOid),
            index: output.map_or(apply::ApplyIndex::None, index),
            state: find(number, Part::State),
        }
    };
    let below = circuit.blocks.len().saturating_sub(1);
    let mut targets: Vec<Target> = circuit.blocks[..below].iter().enumerate().map(hidden).collect();
    let index = apply::index::find(view, circuit.key.as_deref());
    targets.push(Target { relation: view, index, state: find(below, Part::State) });
    (circuit, Targets::new(targets))
}

/// A relation's own name, for messages.
pub fn name(relid: pg_sys::Oid) -> String {
    Relation::open(relid, pg_sys::NoLock).name()
}
