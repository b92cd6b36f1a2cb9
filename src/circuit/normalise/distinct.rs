//! Duplicate removal at the top of a view, brought down to grouping.

use crate::pg::handle::{Any, Node, to_list};
use crate::pg::query::{self, Query};
use crate::pg::stack;
use pgrx::pg_sys;

type SetOperation = Node<pg_sys::SetOperationStmt>;

/// `a UNION b` is `SELECT DISTINCT .. FROM (a UNION ALL b)`; below a UNION the kind of union does not matter.
pub fn over_union_all(query: Query) -> Query {
    let Some(top) = query.set_operation() else { return query };
    let is_plain =
        query.get().sortClause.is_null() && query.get().limitCount.is_null() && query.get().limitOffset.is_null();
    // Without columns there is nothing for DISTINCT to list.
    if !is_plain || top.get().all || !is_one_union(top) || query.outputs().is_empty() {
        return query;
    }
    let clauses: Vec<Node<pg_sys::SortGroupClause>> = top.list(|top| top.groupClauses);
    keep_duplicates(top);
    let outer = query::select_from(query);
    for (target, clause) in outer.outputs().into_iter().zip(clauses.iter().copied()) {
        target.set(|target| target.ressortgroupref = target.resno as u32);
        clause.set(|clause| clause.tleSortGroupRef = target.get().ressortgroupref);
    }
    outer.set(|outer| outer.distinctClause = to_list(&clauses));
    outer
}

/// Whether the whole tree is made of UNION, all by the same equality, and UNION ALL. One that removes what is equal by a type or
/// collation of its own may leave only one of two rows that differ above it.
pub fn is_one_union(top: SetOperation) -> bool {
    let equality = |operation: SetOperation| (operation.oids(|op| op.colTypes), operation.oids(|op| op.colCollations));
    is_union(top, &|operation| top.get().all || operation.get().all || equality(operation) == equality(top))
}

fn is_union(operation: SetOperation, is_fit: &dyn Fn(SetOperation) -> bool) -> bool {
    stack::check();
    operation.get().op == pg_sys::SetOperation::SETOP_UNION
        && is_fit(operation)
        && sides(operation).into_iter().all(|side| is_union(side, is_fit))
}

fn keep_duplicates(operation: SetOperation) {
    stack::check();
    operation.set(|operation| {
        operation.all = true;
        operation.groupClauses = std::ptr::null_mut();
    });
    sides(operation).into_iter().for_each(keep_duplicates);
}

fn sides(operation: SetOperation) -> Vec<SetOperation> {
    let side = |node: Option<Any>| node.and_then(Node::cast);
    [side(operation.child(|op| op.larg)), side(operation.child(|op| op.rarg))].into_iter().flatten().collect()
}

/// `SELECT DISTINCT a, count(*) ... GROUP BY a`: no two groups agree in all keys, and without keys there is one group.
pub fn drop_idle(query: Query) -> Query {
    stack::check();
    let fields = query.get();
    let is_plain = query.is_grouped()
        && fields.groupingSets.is_null()
        && !fields.hasDistinctOn
        && !fields.hasTargetSRFs
        && !fields.hasWindowFuncs;
    let clauses = |list| -> Vec<(u32, pg_sys::Oid)> {
        let clauses: Vec<Node<pg_sys::SortGroupClause>> = query.list(|_| list);
        clauses.into_iter().map(|clause| (clause.get().tleSortGroupRef, clause.get().eqop)).collect()
    };
    let distinct = clauses(fields.distinctClause);
    if is_plain && clauses(fields.groupClause).iter().all(|key| distinct.contains(key)) {
        query.set(|query| query.distinctClause = std::ptr::null_mut());
    }
    query.inner().into_iter().for_each(|inner| {
        drop_idle(inner);
    });
    query
}

/// The same everywhere in FROM and in the legs of UNION ALL.
pub fn nested(query: Query) -> Query {
    stack::check();
    for entry in query.entries() {
        let Some(inner) = entry.child(|entry| entry.subquery) else { continue };
        let inner = as_grouping(over_union_all(nested(inner)));
        entry.set(|entry| entry.subquery = inner.as_ptr());
    }
    query
}

/// `SELECT DISTINCT a, count(*) .. GROUP BY a, b` is `SELECT DISTINCT * FROM (SELECT a, count(*) .. GROUP BY a, b)`.
fn over_groups(query: Query) -> Query {
    let fields = query.get();
    let groups = query.is_grouped() && !fields.distinctClause.is_null();
    if !groups || fields.hasDistinctOn || fields.hasWindowFuncs || fields.hasTargetSRFs || !is_uncut(query) {
        return query;
    }
    let clauses: Vec<Node<pg_sys::SortGroupClause>> = query.list(|query| query.distinctClause);
    let columns: Vec<i16> = clauses.iter().map(|clause| query.target_of(*clause).get().resno).collect();
    query.set(|query| query.distinctClause = std::ptr::null_mut());
    let outer = query::select_from(query);
    for (clause, column) in clauses.iter().zip(columns) {
        let target = outer.outputs()[column as usize - 1];
        target.set(|target| target.ressortgroupref = target.resno as u32);
        clause.set(|clause| clause.tleSortGroupRef = target.get().ressortgroupref);
    }
    outer.set(|outer| outer.distinctClause = to_list(&clauses));
    outer
}

/// The same, and the rewritten query in the place of the one below.
pub fn over_groups_then(query: Query, rewrite: fn(Query) -> Query) -> Query {
    let outer = over_groups(query);
    if outer != query {
        outer.entry(1).set(|entry| entry.subquery = rewrite(query).as_ptr());
    }
    outer
}

fn is_uncut(query: Query) -> bool {
    let query = query.get();
    query.sortClause.is_null() && query.limitCount.is_null() && query.limitOffset.is_null()
}

/// `SELECT DISTINCT a, b` is `SELECT a, b GROUP BY a, b`.
pub fn as_grouping(query: Query) -> Query {
    let query = over_groups(query);
    let fields = query.get();
    let is_plain = !query.is_grouped()
        && !fields.hasDistinctOn
        && !fields.hasWindowFuncs
        && !fields.hasTargetSRFs
        && fields.sortClause.is_null()
        && fields.limitCount.is_null()
        && fields.limitOffset.is_null();
    if is_plain && !fields.distinctClause.is_null() {
        query.set(|query| {
            query.groupClause = query.distinctClause;
            query.distinctClause = std::ptr::null_mut();
        });
    }
    query
}
