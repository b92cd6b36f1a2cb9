//! What can be maintained of an aggregate, read from pg_aggregate: never from its name.

use super::Ability;
use crate::pg::facts;
use crate::pg::handle::Node;
use pgrx::pg_sys;

type Aggref = Node<pg_sys::Aggref>;

/// The best way pg_aggregate allows to maintain this call.
pub fn ability(aggref: Aggref) -> Ability {
    let facts = facts::aggregate(aggref.get().aggfnoid);
    if sees_a_set(aggref) {
        Ability::Recompute
    } else if is_invertible(aggref, &facts) {
        Ability::Invertible
    } else if let Some(order) = extremum(aggref, &facts) {
        Ability::InsertOnly { extremum: Some(order) }
    } else if is_storable(&facts, facts.aggtranstype) {
        Ability::InsertOnly { extremum: None }
    } else {
        Ability::Recompute
    }
}

/// Whether the result is the same in whatever order the rows come. Conservative.
pub fn ignores_order(aggref: Aggref) -> bool {
    let has_own_order = !aggref.get().aggorder.is_null();
    has_own_order || matches!(ability(aggref), Ability::Invertible | Ability::InsertOnly { extremum: Some(_) })
}

/// The functions behind an aggregate.
pub fn functions(aggref: Aggref) -> Vec<pg_sys::Oid> {
    let facts = facts::aggregate(aggref.get().aggfnoid);
    let support = [
        facts.aggtransfn,
        facts.aggfinalfn,
        facts.aggmtransfn,
        facts.aggminvtransfn,
        facts.aggmfinalfn,
        facts.aggserialfn,
        facts.aggdeserialfn,
    ];
    support.into_iter().filter(|function| *function != pg_sys::InvalidOid).collect()
}

/// DISTINCT, ORDER BY and ordered-set aggregates look at their input as a whole. (A DISTINCT minimum is the minimum.)
fn sees_a_set(aggref: Aggref) -> bool {
    let is_plain = aggref.get().aggkind as u8 == b'n' && aggref.get().aggorder.is_null();
    let has_order_operator = facts::aggregate(aggref.get().aggfnoid).aggsortop != pg_sys::InvalidOid;
    !is_plain || (!aggref.get().aggdistinct.is_null() && !has_order_operator)
}

/// A moving-aggregate pair over exact types whose state can be kept in a table.
fn is_invertible(aggref: Aggref, facts: &facts::Aggregate) -> bool {
    facts.aggmtransfn != pg_sys::InvalidOid
        && facts.aggminvtransfn != pg_sys::InvalidOid
        && aggref.get().aggdistinct.is_null()
        && can_store_moving_state(facts)
        && arguments(aggref).into_iter().chain([transition_type(aggref, facts.aggmtranstype)]).all(is_exact)
}

/// An internal moving state is serialised by the functions of the plain state, so it must be the same thing.
fn can_store_moving_state(facts: &facts::Aggregate) -> bool {
    let is_internal = facts.aggmtranstype == pg_sys::INTERNALOID;
    is_storable(facts, facts.aggmtranstype) && (!is_internal || facts.aggmtransfn == facts.aggtransfn)
}

fn is_storable(facts: &facts::Aggregate, state: pg_sys::Oid) -> bool {
    let serialises = facts.aggserialfn != pg_sys::InvalidOid && facts.aggdeserialfn != pg_sys::InvalidOid;
    state != pg_sys::INTERNALOID || serialises
}

/// min and max: the result is the first input in the order of the operator, and is itself the state.
fn extremum(aggref: Aggref, facts: &facts::Aggregate) -> Option<pg_sys::Oid> {
    let arguments = arguments(aggref);
    let is_its_state =
        facts.aggfinalfn == pg_sys::InvalidOid && arguments == [transition_type(aggref, facts.aggtranstype)];
    (facts.aggsortop != pg_sys::InvalidOid && is_its_state).then_some(facts.aggsortop)
}

fn arguments(aggref: Aggref) -> Vec<pg_sys::Oid> {
    aggref.oids(|aggref| aggref.aggargtypes)
}

/// The actual transition type of a call.
pub fn transition_type(aggref: Aggref, declared: pg_sys::Oid) -> pg_sys::Oid {
    facts::resolved_transition_type(aggref.get().aggfnoid, declared, &arguments(aggref))
}

/// Sums of floating point numbers depend on their order: what was added cannot be subtracted again exactly.
fn is_exact(typid: pg_sys::Oid) -> bool {
    let base = facts::base_type(typid);
    let element = facts::element_type(base).map_or(base, facts::base_type);
    element != pg_sys::FLOAT4OID && element != pg_sys::FLOAT8OID
}

/// What the state column of a call holds: the transition state or, when there is nothing to advance, the result.
/// (An `internal` state is kept as its serialisation.)
pub fn state_type(aggref: Aggref, ability: Ability) -> pg_sys::Oid {
    let facts = facts::aggregate(aggref.get().aggfnoid);
    match ability {
        Ability::Invertible => transition_type(aggref, facts.aggmtranstype),
        Ability::InsertOnly { .. } => transition_type(aggref, facts.aggtranstype),
        Ability::Recompute => aggref.get().aggtype,
    }
}
