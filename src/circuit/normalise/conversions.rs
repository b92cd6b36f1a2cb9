//! Gives every leg of UNION ALL the column types and collations of the whole.
//!
//! The analyzer leaves the conversions to the planner; a leg that is to stand alone for the whole needs them itself. An operation that
//! compares rows does so by the types of its own level: its legs stay as they are.

use crate::circuit::legs;
use crate::pg::handle::{Any, Node};
use crate::pg::query::{self, Query, Target};
use crate::pg::stack;
use pgrx::pg_sys;

type SetOperation = Node<pg_sys::SetOperationStmt>;

/// Everywhere, so that the functions that convert are seen. Such a query is not to be run: what EXCEPT and INTERSECT compare would be
/// converted for an operation above them.
pub fn show(query: Query) -> Query {
    convert_all(query, &|_| true)
}

/// In trees of UNION ALL alone.
pub fn convert(query: Query) -> Query {
    convert_all(query, &|top| legs::is_union_all(top.any()))
}

fn convert_all(query: Query, is_wanted: &dyn Fn(SetOperation) -> bool) -> Query {
    stack::check();
    query.inner().into_iter().for_each(|inner| {
        convert_all(inner, is_wanted);
    });
    if let Some(top) = query.set_operation().filter(|&top| is_wanted(top)) {
        convert_below(query, top, &mut vec![]);
    }
    query
}

/// `path` holds the operations from the top to this one: a leg is converted to the type of each in turn, lowest first.
fn convert_below(query: Query, operation: SetOperation, path: &mut Vec<SetOperation>) {
    stack::check();
    path.push(operation);
    for side in [operation.child(|op| op.larg), operation.child(|op| op.rarg)].into_iter().flatten() {
        match side.cast::<pg_sys::RangeTblRef>() {
            Some(leaf) => convert_leg(query, leaf.get().rtindex, path),
            None => convert_below(query, side.cast().expect("a set operation tree holds no third kind"), path),
        }
    }
    path.pop();
}

fn convert_leg(query: Query, leaf: i32, path: &[SetOperation]) {
    let entry = query.entry(leaf);
    let leg: Query = entry.child(|entry| entry.subquery).expect("a leg is a subquery");
    let differs = |(i, target): (usize, &Target)| {
        let of = query::type_of(target.expression());
        let top = column_of(path[0], i);
        of.typid != top.typid || of.collation != top.collation
    };
    if !leg.outputs().iter().enumerate().any(differs) {
        return;
    }
    let leg = if is_plain(leg) { leg } else { query::select_from(leg) };
    for (i, target) in leg.outputs().into_iter().enumerate() {
        target.set_expression(converted(target.expression(), i, path));
    }
    entry.set(|entry| entry.subquery = leg.as_ptr());
}

/// Whether outputs can be replaced without changing which rows there are.
fn is_plain(leg: Query) -> bool {
    let fields = leg.get();
    fields.setOperations.is_null()
        && !leg.is_grouped()
        && fields.distinctClause.is_null()
        && fields.sortClause.is_null()
        && !fields.hasTargetSRFs
        && !fields.hasWindowFuncs
}

fn converted(expression: Any, column: usize, path: &[SetOperation]) -> Any {
    let through = |value, operation: &SetOperation| query::converted(value, column_of(*operation, column).typid);
    let value = path.iter().rev().fold(expression, through);
    let collation = column_of(path[0], column).collation;
    if query::type_of(value).collation == collation { value } else { query::relabelled(value, collation) }
}

fn column_of(operation: SetOperation, column: usize) -> query::TypeOf {
    query::TypeOf {
        typid: operation.oids(|op| op.colTypes)[column],
        typmod: operation.ints(|op| op.colTypmods)[column],
        collation: operation.oids(|op| op.colCollations)[column],
    }
}
