//! The terms of a block for what depends on the clock (theorem H, `circuit/clock.rs`).

use super::build::Planner;
use super::weigh;
use crate::circuit::clock::{self, At, ClockValue, parameter};
use crate::circuit::{Block, legs};
use crate::delta::ClockTerm;
use crate::error::cannot_happen;
use crate::pg::construct;
use crate::pg::handle::Node;
use crate::pg::query::{self as queries, Query};
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

/// Reads the values below this number as new in a private copy of a template; the others stay old.
pub fn read_new(query: Query, first_old: usize) {
    walk::walk(query, Scope::EVERYTHING, &mut |node, _| {
        let old = node.cast::<pg_sys::Param>().zip(clock::value_of(node));
        if let Some((parameter, value)) = old.filter(|(_, value)| *value < first_old) {
            parameter.set(|of| of.paramid = clock::parameter(value, At::New));
        }
        Visit::Into
    });
}

/// The query of one term: its last column is the weight of its rows. `values`: all of the circuit.
pub fn weigh(
    block: &Block,
    relations: &[pg_sys::Oid],
    values: &[ClockValue],
    term: ClockTerm,
    planner: Planner,
) -> *mut pg_sys::Query {
    let query = block.template.node().copy();
    if planner.clock.is_bounded(term.value) {
        restrict(query, term.value, &values[term.value]);
    }
    legs::keep_only_where(query, &|entry| {
        let is_in =
            |inner: Query| walk::any(inner, Scope::EXPRESSIONS, |node, _| clock::value_of(node) == Some(term.value));
        entry.child(|entry| entry.subquery).is_some_and(is_in)
    });
    read_new(query, term.first_old);
    let weight = if term.negative { -1 } else { 1 };
    // SAFETY: a private query, which is read without weights.
    unsafe { weigh::evenly(query.as_ptr(), relations, weight) }
}

/// Adds to the level of the value's comparison that the expression lies between the two values.
fn restrict(query: Query, value: usize, of: &ClockValue) {
    let (level, expression) = clock::compared(query, value)
        .unwrap_or_else(|| cannot_happen("a value of the clock stands in its block's template"));
    let bound = |operator, at| {
        let bound = construct::parameter(parameter(value, at), of.of).any();
        construct::comparison(operator, expression.copy(), bound, of.collation)
    };
    let between = queries::and(Some(bound(of.order.at_least, At::Low)), Some(bound(of.order.at_most, At::High)));
    let quals = queries::and(level.from().child(|from| from.quals), between);
    level.from().set(|from| from.quals = quals.map_or(std::ptr::null_mut(), Node::as_ptr));
}
