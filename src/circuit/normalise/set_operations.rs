//! INTERSECT and EXCEPT as grouping (theorem B1).
//!
//! **Theorem B1.** If all parts of a set operation compare rows by the same equality, how often a class of equal rows is in the result
//! follows from how often it is in the two sides:
//!
//! | operation | copies | a row that stands for them is in |
//! |---|---|---|
//! | INTERSECT ALL, INTERSECT | least(a, b); one if both are there | either side |
//! | EXCEPT ALL, EXCEPT | a - b; one if a is there and b is not | the left side |
//!
//! *Proof.* Each operation is defined class by class. ∎
//!
//! So `a INTERSECT b` is, with one boolean column that says on which side a row stood,
//!
//! ```text
//! SELECT columns FROM (SELECT *, true FROM a UNION ALL SELECT *, false FROM b)
//! GROUP BY columns HAVING count(*) FILTER (WHERE side) > 0 AND count(*) FILTER (WHERE NOT side) > 0
//! ```
//!
//! and ALL gives as many rows as a function in FROM says, `generate_series(1, copies)`, which is linear (theorem I). The row that
//! stands for a group is one that is there, of either side: EXCEPT needs one of the left side, so it is
//! rewritten only where equal rows are identical. A subtree whose columns are converted above it is a group of its own, by its own equality.

use super::distinct;
use crate::circuit::legs::is_union_all;
use crate::pg::handle::{Any, Node, to_list};
use crate::pg::query::{self, Query, TypeOf};
use crate::pg::stack;
use crate::pg::{construct, facts};
use pgrx::pg_sys;

type SetOperation = Node<pg_sys::SetOperationStmt>;

/// Rewrites the set operations of this query and of those in its FROM, where they can be.
pub fn as_grouping(query: Query) -> Query {
    stack::check();
    for entry in query.entries() {
        let Some(inner) = entry.child(|entry| entry.subquery) else { continue };
        entry.set(|entry| entry.subquery = as_grouping(inner).as_ptr());
    }
    match query.set_operation().filter(|top| !is_plain_union(*top) && is_uncut(query) && is_groupable(top.any())) {
        Some(top) => named_as(query, of_node(query, top.any())),
        None => query,
    }
}

fn is_uncut(query: Query) -> bool {
    let fields = query.get();
    fields.sortClause.is_null()
        && fields.limitCount.is_null()
        && fields.limitOffset.is_null()
        && fields.rowMarks.is_null()
        && fields.cteList.is_null()
        && !query.outputs().is_empty()
}

fn sides(operation: SetOperation) -> [Any; 2] {
    [operation.child(|op| op.larg), operation.child(|op| op.rarg)]
        .map(|side| side.expect("an operation has two sides").any())
}

/// UNION ALL, and UNION above nothing but itself and UNION ALL, have rewrites of their own.
fn is_plain_union(top: SetOperation) -> bool {
    is_union_all(top.any()) || (!top.get().all && distinct::is_one_union(top))
}

/// Every INTERSECT and EXCEPT in the tree can be a grouping.
fn is_groupable(node: Any) -> bool {
    stack::check();
    let Some(operation) = node.cast::<pg_sys::SetOperationStmt>() else { return true };
    let is_fit = |of: &TypeOf| {
        facts::default_ordering(of.typid).is_some()
            && (operation.get().op != pg_sys::SetOperation::SETOP_EXCEPT
                || facts::equal_is_identical(of.typid, of.typmod, of.collation))
    };
    let keeps_duplicates = operation.get().op == pg_sys::SetOperation::SETOP_UNION && operation.get().all;
    (keeps_duplicates || types(operation).iter().all(is_fit)) && sides(operation).into_iter().all(is_groupable)
}

fn types(operation: SetOperation) -> Vec<TypeOf> {
    let (typids, typmods) = (operation.oids(|op| op.colTypes), operation.ints(|op| op.colTypmods));
    let collations = operation.oids(|op| op.colCollations);
    let of = |i: usize| TypeOf { typid: typids[i], typmod: typmods[i], collation: collations[i] };
    (0..typids.len()).map(of).collect()
}

/// The query of a leg or an operation, as it would stand where the whole stands.
fn of_node(query: Query, node: Any) -> Query {
    stack::check();
    if let Some(leaf) = node.cast::<pg_sys::RangeTblRef>() {
        let leg: Query = query.entry(leaf.get().rtindex).child(|entry| entry.subquery).expect("a leg is a subquery");
        query::lift_levels(leg);
        return leg;
    }
    let operation: SetOperation = node.cast().expect("a set operation tree holds no third kind");
    let [left, right] = sides(operation).map(|side| of_node(query, side));
    if operation.get().op != pg_sys::SetOperation::SETOP_UNION {
        return grouped(operation, left, right);
    }
    let whole = construct::union_all(&[left, right], &types(operation));
    if operation.get().all { whole } else { distinct_rows(whole, operation) }
}

/// `SELECT DISTINCT` of a query, by the operation's equality.
fn distinct_rows(query: Query, operation: SetOperation) -> Query {
    let outer = query::select_from(query);
    let distinct = clauses(outer, operation);
    outer.set(|outer| outer.distinctClause = to_list(&distinct));
    distinct::as_grouping(outer)
}

/// The operation's clauses over the columns of a query.
fn clauses(query: Query, operation: SetOperation) -> Vec<Node<pg_sys::SortGroupClause>> {
    let clauses: Vec<Node<pg_sys::SortGroupClause>> = operation.list(|op| op.groupClauses);
    for (target, clause) in query.outputs().into_iter().zip(&clauses) {
        target.set(|target| target.ressortgroupref = target.resno as u32);
        clause.set(|clause| clause.tleSortGroupRef = target.get().ressortgroupref);
    }
    clauses
}

fn grouped(operation: SetOperation, left: Query, right: Query) -> Query {
    let types = types(operation);
    let columns = types.len();
    let side = TypeOf { typid: pg_sys::BOOLOID, typmod: -1, collation: pg_sys::InvalidOid };
    let both = construct::union_all(
        &[with_side(left, true), with_side(right, false)],
        &types.iter().copied().chain([side]).collect::<Vec<_>>(),
    );
    let groups = query::select_from(both);
    let mut targets = groups.outputs();
    let side = targets.pop().expect("the side is a column").expression();
    groups.set_targets(&targets);
    let keys = clauses(groups, operation);
    groups.set(|groups| {
        groups.groupClause = to_list(&keys);
        groups.hasAggs = true;
    });
    let left = construct::count_where(side);
    let right = construct::count_where(construct::not(side.copy()));
    let is_except = operation.get().op == pg_sys::SetOperation::SETOP_EXCEPT;
    let more = |a: Any, b: Any| construct::call(pg_sys::F_INT8GT, pg_sys::BOOLOID, &[a, b]).any();
    let zero = || construct::int8(0);
    let having = match (is_except, operation.get().all) {
        (true, true) => Some(more(left.copy(), right.copy())),
        (true, false) => query::and(Some(more(left.copy(), zero())), Some(construct::not(more(right.copy(), zero())))),
        (false, _) => query::and(Some(more(left.copy(), zero())), Some(more(right.copy(), zero()))),
    };
    groups.set(|groups| groups.havingQual = having.map_or(std::ptr::null_mut(), Node::as_ptr));
    if !operation.get().all {
        return groups;
    }
    let copies = if is_except {
        construct::call(pg_sys::F_INT8MI, pg_sys::INT8OID, &[left, right]).any()
    } else {
        construct::least(left, right)
    };
    let number = columns as i16 + 1;
    let targets: Vec<_> = groups.outputs().into_iter().chain([query::target(copies, number, "copies")]).collect();
    groups.set_targets(&targets);
    let rows = query::select_from(groups);
    rows.set_targets(&rows.outputs()[..columns]);
    let copies = query::var(1, number, TypeOf { typid: pg_sys::INT8OID, typmod: -1, collation: pg_sys::InvalidOid });
    construct::add_to_from(rows, construct::series(construct::int8(1), copies.any()));
    rows
}

/// `SELECT *, side FROM (query)`.
fn with_side(query: Query, side: bool) -> Query {
    let outer = query::select_from(query);
    let number = outer.outputs().len() as i16 + 1;
    let targets: Vec<_> =
        outer.outputs().into_iter().chain([query::target(construct::boolean(side), number, "side")]).collect();
    outer.set_targets(&targets);
    outer
}

/// The rewritten query with the column names of the one it stands for.
fn named_as(query: Query, rewritten: Query) -> Query {
    for (old, new) in query.outputs().into_iter().zip(rewritten.outputs()) {
        new.set(|new| new.resname = old.get().resname);
    }
    rewritten.set(|rewritten| rewritten.canSetTag = query.get().canSetTag);
    rewritten
}
