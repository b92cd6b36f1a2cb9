//! Numbers a template's inputs in the order FROM names them, and says how the query depends on each.

use super::{Input, Linearity, legs, tag};
use crate::delta::Reading;
use crate::pg::handle::{Any, Node};
use crate::pg::query::{Entry, Query};
use crate::pg::stack;
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

/// Tags every base relation's entry with its number; the inputs are listed by number.
pub fn number(query: Query) -> Vec<Input> {
    let mut inputs = vec![];
    number_query(query, Linearity::Linear, &mut inputs);
    inputs
}

fn number_query(query: Query, linearity: Linearity, inputs: &mut Vec<Input>) {
    stack::check();
    match query.child(|query| query.setOperations) {
        Some(top) => number_item(query, top, linearity, inputs),
        None => number_item(query, query.from().any(), linearity, inputs),
    }
    for inner in sublinks(query) {
        number_query(inner, Linearity::NonLinear, inputs);
    }
}

/// A node of a join tree or a set operation tree.
fn number_item(query: Query, item: Any, linearity: Linearity, inputs: &mut Vec<Input>) {
    stack::check();
    if let Some(from) = item.cast::<pg_sys::FromExpr>() {
        from.nodes(|from| from.fromlist).into_iter().for_each(|item| number_item(query, item, linearity, inputs));
    } else if let Some(join) = item.cast::<pg_sys::JoinExpr>() {
        let (left, right) = sides(join.get().jointype, linearity);
        join.child(|join| join.larg).into_iter().for_each(|item| number_item(query, item, left, inputs));
        join.child(|join| join.rarg).into_iter().for_each(|item| number_item(query, item, right, inputs));
    } else if let Some(operation) = item.cast::<pg_sys::SetOperationStmt>() {
        for leg in [operation.child(|op| op.larg), operation.child(|op| op.rarg)].into_iter().flatten() {
            number_item(query, leg, linearity, inputs);
        }
    } else if let Some(leaf) = item.cast::<pg_sys::RangeTblRef>() {
        number_entry(query.entry(leaf.get().rtindex), linearity, inputs);
    }
}

/// A join's nullable side is not linear: a row gained there may take away a null-extended one.
fn sides(join: pg_sys::JoinType::Type, linearity: Linearity) -> (Linearity, Linearity) {
    use pg_sys::JoinType::*;
    match join {
        JOIN_INNER => (linearity, linearity),
        JOIN_LEFT => (linearity, Linearity::NonLinear),
        JOIN_RIGHT => (Linearity::NonLinear, linearity),
        _ => (Linearity::NonLinear, Linearity::NonLinear),
    }
}

fn number_entry(entry: Entry, linearity: Linearity, inputs: &mut Vec<Input>) {
    if entry.get().rtekind == pg_sys::RTEKind::RTE_RELATION {
        tag::write(entry, inputs.len(), Reading::New);
        inputs.push(Input { relid: entry.get().relid, linearity });
    }
    if let Some(inner) = entry.child(|entry| entry.subquery) {
        let linearity = if legs::is_linear(inner) { linearity } else { Linearity::NonLinear };
        number_query(inner, linearity, inputs);
    }
}

/// The queries of sublinks of this level.
fn sublinks(query: Query) -> Vec<Query> {
    let mut found = vec![];
    walk::walk(query, Scope::EXPRESSIONS, &mut |node, _| {
        let sublink: Option<Node<pg_sys::SubLink>> = node.cast();
        found.extend(sublink.and_then(|sublink| sublink.child(|sublink| sublink.subselect)?.cast::<pg_sys::Query>()));
        if node.is::<pg_sys::Query>() { Visit::Over } else { Visit::Into }
    });
    found
}
