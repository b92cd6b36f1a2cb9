//! Leaves out of a template the UNION ALL legs that say nothing about one input's change (delta's lemma).
//!
//! Only unions in a linear place are cut down: what stands on the nullable side of a join or in a sublink is looked at
//! as a whole.

use super::tag;
use crate::pg::handle::Any;
use crate::pg::query::{self, Entry, Query};
use crate::pg::stack;
use crate::pg::walk::{self, Scope};
use pgrx::pg_sys;

/// Keeps of every UNION ALL around the input only the leg the input is in. Changes the query in place; its columns
/// stay the same.
pub fn keep_only(query: Query, input: usize) {
    keep_only_where(query, &|entry| holds(entry, input));
}

/// The same for what is in the entries that the test says so of.
pub fn keep_only_where(query: Query, is_in: &dyn Fn(Entry) -> bool) {
    stack::check();
    let is_union = !query.get().setOperations.is_null();
    if let Some(leg) = query.entries().into_iter().find(|leg| is_union && is_in(*leg)) {
        become_leg(query, leg);
    }
    for entry in linear_entries(query).into_iter().map(|index| query.entries()[index]) {
        if tag::read(entry).is_some() {
            continue;
        }
        entry.child(|entry| entry.subquery).into_iter().for_each(|inner| keep_only_where(inner, is_in));
    }
}

/// Which leg of a UNION ALL, among the query's entries, the input is in.
pub fn leg_of(query: Query, input: usize) -> Option<usize> {
    let is_union = !query.get().setOperations.is_null();
    is_union.then(|| query.entries().into_iter().position(|leg| holds(leg, input))).flatten()
}

/// The entries in linear places of the query's join tree.
pub fn linear_entries(query: Query) -> Vec<usize> {
    if !is_linear(query) {
        return vec![];
    }
    linear_items(query.from().any()).into_iter().map(|leaf| leaf as usize - 1).collect()
}

/// Whether the rows of a query below the top are the sum of what each combination of rows of its FROM items gives: nothing in
/// it looks at several of them.
pub fn is_linear(query: Query) -> bool {
    let fields = query.get();
    !query.is_grouped()
        && fields.distinctClause.is_null()
        && fields.limitCount.is_null()
        && fields.limitOffset.is_null()
        && !fields.hasWindowFuncs
        && query.set_operation().is_none_or(|top| is_union_all(top.any()))
}

/// A tree of UNION ALL and nothing else.
pub fn is_union_all(node: Any) -> bool {
    stack::check();
    node.cast::<pg_sys::SetOperationStmt>().is_none_or(|operation| {
        operation.get().all
            && operation.get().op == pg_sys::SetOperation::SETOP_UNION
            && operation.child(|op| op.larg).is_some_and(is_union_all)
            && operation.child(|op| op.rarg).is_some_and(is_union_all)
    })
}

/// Whether the input is the entry, or anywhere in its subquery.
pub fn holds(entry: Entry, input: usize) -> bool {
    is_input(entry, input) || entry.child(|entry| entry.subquery).is_some_and(|inner: Query| reads(inner, input))
}

/// Whether the input is anywhere in the query.
pub fn reads(query: Query, input: usize) -> bool {
    walk::any(query, Scope::ENTRIES, |node, _| node.cast().is_some_and(|entry| is_input(entry, input)))
}

fn is_input(entry: Entry, input: usize) -> bool {
    tag::read(entry).is_some_and(|(number, _)| number == input)
}

/// The query reads its columns from this leg alone.
fn become_leg(query: Query, leg: Entry) {
    leg.set(|leg| leg.inFromCl = true);
    let outputs = leg.child(|leg| leg.subquery).expect("a leg is a subquery").outputs();
    for (target, output) in query.outputs().into_iter().zip(outputs) {
        let of = query::type_of(output.expression());
        target.set_expression(query::var(1, output.get().resno, of).any());
    }
    query.set(|query| query.setOperations = std::ptr::null_mut());
    query.set_entries(&[leg]);
    query.set(|query| query.jointree = query::from_one(1).as_ptr());
}

/// The range table numbers in a join tree's linear places.
fn linear_items(item: Any) -> Vec<i32> {
    stack::check();
    if let Some(from) = item.cast::<pg_sys::FromExpr>() {
        return from.nodes(|from| from.fromlist).into_iter().flat_map(linear_items).collect();
    }
    if let Some(leaf) = item.cast::<pg_sys::RangeTblRef>() {
        return vec![leaf.get().rtindex];
    }
    let Some(join) = item.cast::<pg_sys::JoinExpr>() else { return vec![] };
    use pg_sys::JoinType::*;
    let (left, right) = (join.child(|join| join.larg), join.child(|join| join.rarg));
    let sides = match join.get().jointype {
        JOIN_INNER => [left, right],
        JOIN_LEFT => [left, None],
        JOIN_RIGHT => [None, right],
        _ => [None, None],
    };
    sides.into_iter().flatten().flat_map(linear_items).collect()
}
