//! Numbers a template's inputs in the order FROM names them, and says how the query depends on each.

use super::{Input, Linearity, Origin, legs, tag};
use crate::delta::Reading;
use crate::pg::handle::{Any, Node};
use crate::pg::query::{Entry, Query};
use crate::pg::stack;
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

/// Tags the entry of every base relation and block with its number; the inputs are listed by number.
pub fn number(query: Query) -> Vec<Input> {
    let mut inputs = vec![];
    number_query(query, Linearity::Linear, &mut inputs);
    inputs
}

/// The same in a query that will only be read as a whole: what stands where in it does not matter.
pub fn number_everything(query: Query) -> Vec<Input> {
    let mut inputs = vec![];
    number_nest(query, &mut inputs);
    inputs
}

fn number_nest(query: Query, inputs: &mut Vec<Input>) {
    stack::check();
    let mut blocks: Vec<Query> = vec![];
    for entry in query.entries() {
        let before = inputs.len();
        number_leaf(entry, Linearity::NonLinear, inputs);
        blocks.extend(entry.child(|entry| entry.subquery).filter(|_| inputs.len() > before));
    }
    let others = query.inner().into_iter().filter(|inner| !blocks.contains(inner));
    others.for_each(|inner| number_nest(inner, inputs));
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
    let before = inputs.len();
    number_leaf(entry, linearity, inputs);
    if let Some(inner) = entry.child(|entry| entry.subquery).filter(|_| inputs.len() == before) {
        let linearity = if legs::is_linear(inner) { linearity } else { Linearity::NonLinear };
        number_query(inner, linearity, inputs);
    }
}

/// A relation or a block.
fn number_leaf(entry: Entry, linearity: Linearity, inputs: &mut Vec<Input>) {
    let relation = (entry.get().rtekind == pg_sys::RTEKind::RTE_RELATION).then(|| Origin::Relation(entry.get().relid));
    if let Some(origin) = tag::read_block(entry).map(Origin::Block).or(relation) {
        tag::write(entry, inputs.len(), Reading::New);
        inputs.push(Input { origin, linearity });
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
