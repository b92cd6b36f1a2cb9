//! Drops ORDER BY where nothing looks at the order.

use crate::circuit::aggregate;
use crate::pg::handle::Node;
use crate::pg::query::Query;
use crate::pg::stack;
use crate::pg::walk::{self, Scope};
use pgrx::pg_sys;

/// The view itself and subqueries in FROM are bags, unless LIMIT cuts them or an aggregate above sees the order.
pub fn drop_irrelevant(query: Query) -> Query {
    drop_at(query, false);
    query
}

fn drop_at(query: Query, seen: bool) {
    stack::check();
    if !seen && !looks_at_its_order(query) {
        drop_order(query);
    }
    let seen = seen || query.get().hasWindowFuncs || has_order_sensitive_aggregate(query);
    for entry in query.entries() {
        if let Some(inner) = entry.child(|entry| entry.subquery) {
            drop_at(inner, seen);
        }
    }
}

fn looks_at_its_order(query: Query) -> bool {
    let query = query.get();
    !query.limitCount.is_null() || !query.limitOffset.is_null() || query.hasDistinctOn || !query.rowMarks.is_null()
}

/// Also drops the columns that existed only to be sorted by.
fn drop_order(query: Query) {
    if query.get().sortClause.is_null() || query.get().setOperations.is_null() && query.get().hasTargetSRFs {
        return;
    }
    query.set(|query| query.sortClause = std::ptr::null_mut());
    let clauses: [Vec<Node<pg_sys::SortGroupClause>>; 2] =
        [query.list(|query| query.groupClause), query.list(|query| query.distinctClause)];
    let used: Vec<u32> = clauses.iter().flatten().map(|clause| clause.get().tleSortGroupRef).collect();
    if !query.get().windowClause.is_null() {
        return;
    }
    let mut targets = query.targets();
    targets.retain(|target| !target.get().resjunk || used.contains(&target.get().ressortgroupref));
    for target in targets.iter().filter(|target| !used.contains(&target.get().ressortgroupref)) {
        target.set(|target| target.ressortgroupref = 0);
    }
    query.set_targets(&targets);
}

pub fn has_order_sensitive_aggregate(query: Query) -> bool {
    query.get().hasAggs
        && walk::any(query, Scope::EXPRESSIONS, |node, depth| {
            let aggregate = node.cast::<pg_sys::Aggref>();
            depth == 0 && aggregate.is_some_and(|aggref| !aggregate::ignores_order(aggref))
        })
}
