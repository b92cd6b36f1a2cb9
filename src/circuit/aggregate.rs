//! How an aggregate is maintained, read from pg_aggregate: never from its name.
//!
//! It is decided here, once, when the circuit is built: [`resolve`] says it of each call, and whoever keeps the state of a call
//! or runs it takes it from there.

use super::Ability;
use crate::pg::aggregates::{self, Form};
use crate::pg::facts;
use crate::pg::handle::Node;
use pgrx::pg_sys;

type Aggref = Node<pg_sys::Aggref>;

const NONE: pg_sys::Oid = pg_sys::InvalidOid;

/// What is done with a call.
pub struct Resolved {
    pub ability: Ability,
    pub functions: Functions,
    /// The type of the transition value, polymorphism resolved.
    pub transtype: pg_sys::Oid,
    /// The final function gets NULLs in place of the arguments.
    pub final_extra: bool,
    /// The transition value before any row, as text; None: NULL.
    pub initial: Option<String>,
    /// The type of the state column, what is kept between refreshes: the transition value (serialised when it is internal) or,
    /// when there is nothing to advance, the result.
    pub state: pg_sys::Oid,
}

/// The aggregate's support functions; InvalidOid where it has none (or needs none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Functions {
    pub transition: pg_sys::Oid,
    pub inverse: pg_sys::Oid,
    pub finish: pg_sys::Oid,
    pub serialize: pg_sys::Oid,
    pub deserialize: pg_sys::Oid,
    pub combine: pg_sys::Oid,
}

/// The best way to maintain a call that pg_aggregate allows.
pub fn resolve(aggref: Aggref) -> Resolved {
    let row = aggregates::read(aggref.get().aggfnoid);
    let best = best(aggref, &row);
    let ability = if keeps_state(aggref, &row, best) { best } else { Ability::Recompute };
    let form = form(&row, ability);
    let transtype = transition_type(aggref, form);
    let internal = transtype == pg_sys::INTERNALOID;
    // What is recomputed keeps its result.
    let is_serialised = internal && ability != Ability::Recompute;
    let stored = |function| if is_serialised { function } else { NONE };
    Resolved {
        ability,
        functions: Functions {
            transition: form.transition,
            inverse: form.inverse,
            finish: form.finish,
            serialize: stored(row.serialize),
            deserialize: stored(row.deserialize),
            combine: stored(row.combine),
        },
        transtype,
        final_extra: form.final_extra,
        initial: form.initial.clone(),
        state: match ability {
            Ability::Recompute => aggref.get().aggtype,
            _ if internal => pg_sys::BYTEAOID,
            _ => transtype,
        },
    }
}

/// Whether the result is the same in whatever order the rows come. Conservative.
pub fn ignores_order(aggref: Aggref) -> bool {
    let has_own_order = !aggref.get().aggorder.is_null();
    let row = aggregates::read(aggref.get().aggfnoid);
    has_own_order || matches!(best(aggref, &row), Ability::Invertible | Ability::InsertOnly { extremum: Some(_) })
}

/// The result is the first input in some order, so that it makes no difference how often each value is there.
pub fn is_extremum(aggref: Aggref) -> bool {
    let row = aggregates::read(aggref.get().aggfnoid);
    matches!(best(aggref, &row), Ability::InsertOnly { extremum: Some(_) })
}

/// The functions behind an aggregate.
pub fn functions(aggref: Aggref) -> Vec<pg_sys::Oid> {
    let row = aggregates::read(aggref.get().aggfnoid);
    let of = |form: &Form| [form.transition, form.inverse, form.finish];
    let support = row.moving.as_ref().into_iter().flat_map(of).chain([row.serialize, row.deserialize]);
    of(&row.plain).into_iter().chain(support).filter(|function| *function != NONE).collect()
}

/// The moving form is for removing values.
fn form(row: &aggregates::Aggregate, ability: Ability) -> &Form {
    match (ability, &row.moving) {
        (Ability::Invertible, Some(moving)) => moving,
        _ => &row.plain,
    }
}

/// What the functions are able to do, if their state can be kept.
fn best(aggref: Aggref, row: &aggregates::Aggregate) -> Ability {
    if sees_a_set(aggref, row) {
        Ability::Recompute
    } else if is_invertible(aggref, row) {
        Ability::Invertible
    } else if let Some(order) = extremum(aggref, row) {
        Ability::InsertOnly { extremum: Some(order) }
    } else if is_storable(row, row.plain.transtype) {
        Ability::InsertOnly { extremum: None }
    } else {
        Ability::Recompute
    }
}

/// The state survives the final function and, if it is an internal one, comes back from where it was stored by being combined
/// with nothing.
fn keeps_state(aggref: Aggref, row: &aggregates::Aggregate, ability: Ability) -> bool {
    let form = form(row, ability);
    let comes_back = transition_type(aggref, form) != pg_sys::INTERNALOID
        || is_storable(row, pg_sys::INTERNALOID) && row.combine != NONE;
    !form.final_modifies && comes_back
}

/// DISTINCT, ORDER BY and ordered-set aggregates look at their input as a whole. (A DISTINCT minimum is the minimum.)
fn sees_a_set(aggref: Aggref, row: &aggregates::Aggregate) -> bool {
    let is_plain = aggref.get().aggkind as u8 == b'n' && aggref.get().aggorder.is_null();
    !is_plain || (!aggref.get().aggdistinct.is_null() && row.sort_operator == NONE)
}

/// A moving-aggregate pair over exact types whose state can be kept in a table.
fn is_invertible(aggref: Aggref, row: &aggregates::Aggregate) -> bool {
    let Some(moving) = &row.moving else { return false };
    moving.inverse != NONE
        && aggref.get().aggdistinct.is_null()
        && can_store_moving_state(row, moving)
        && arguments(aggref).into_iter().chain([transition_type(aggref, moving)]).all(is_exact)
}

/// An internal moving state is serialised by the functions of the plain state, so it must be the same thing.
fn can_store_moving_state(row: &aggregates::Aggregate, moving: &Form) -> bool {
    let is_internal = moving.transtype == pg_sys::INTERNALOID;
    is_storable(row, moving.transtype) && (!is_internal || moving.transition == row.plain.transition)
}

fn is_storable(row: &aggregates::Aggregate, state: pg_sys::Oid) -> bool {
    let serialises = row.serialize != NONE && row.deserialize != NONE;
    state != pg_sys::INTERNALOID || serialises
}

/// min and max: the result is the first input in the order of the operator, and is itself the state.
fn extremum(aggref: Aggref, row: &aggregates::Aggregate) -> Option<pg_sys::Oid> {
    let arguments = arguments(aggref);
    let is_its_state = row.plain.finish == NONE && arguments == [transition_type(aggref, &row.plain)];
    (row.sort_operator != NONE && is_its_state).then_some(row.sort_operator)
}

fn arguments(aggref: Aggref) -> Vec<pg_sys::Oid> {
    aggref.oids(|aggref| aggref.aggargtypes)
}

/// The actual transition type of a call.
fn transition_type(aggref: Aggref, form: &Form) -> pg_sys::Oid {
    aggregates::transition_type(aggref.get().aggfnoid, form.transtype, &arguments(aggref))
}

/// Sums of floating point numbers depend on their order: what was added cannot be subtracted again exactly.
fn is_exact(typid: pg_sys::Oid) -> bool {
    let base = facts::base_type(typid);
    let element = facts::element_type(base).map_or(base, facts::base_type);
    element != pg_sys::FLOAT4OID && element != pg_sys::FLOAT8OID
}
