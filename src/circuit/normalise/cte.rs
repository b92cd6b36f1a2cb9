//! Inlines CTEs: every reference becomes a subquery with a copy of the CTE's query.

use crate::pg::handle::Node;
use crate::pg::query::{self, Query};
use crate::pg::stack;
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

/// Inlines the CTEs of every level, inner levels first; recursive ones stay.
pub fn inline(query: Query) -> Query {
    stack::check();
    query.inner().into_iter().for_each(|inner| {
        inline(inner);
    });
    let ctes: Vec<Node<pg_sys::CommonTableExpr>> = query.list(|query| query.cteList);
    if ctes.iter().all(|cte| !cte.get().cterecursive) {
        ctes.into_iter().for_each(|cte| inline_one(query, cte));
        query.set(|query| query.cteList = std::ptr::null_mut());
    }
    query
}

/// Later CTEs of the same list are references' places too, so the list is worked off in order.
fn inline_one(query: Query, cte: Node<pg_sys::CommonTableExpr>) {
    let definition = cte.child(|cte| cte.ctequery.cast::<pg_sys::Query>()).expect("a CTE has a query");
    for (entry, levels) in references(query, cte) {
        let copy = definition.copy();
        if levels > 0 {
            query::raise_levels(copy, levels, 1);
        }
        become_subquery(entry, copy);
    }
}

fn references(query: Query, cte: Node<pg_sys::CommonTableExpr>) -> Vec<(Node<pg_sys::RangeTblEntry>, u32)> {
    let mut found = vec![];
    walk::walk(query, Scope::ENTRIES, &mut |node, depth| {
        if let Some(entry) = node.cast::<pg_sys::RangeTblEntry>()
            && query::refers_to(entry, cte, depth)
        {
            found.push((entry, depth));
        }
        Visit::Into
    });
    found
}

fn become_subquery(entry: Node<pg_sys::RangeTblEntry>, copy: Query) {
    entry.set(|entry| {
        entry.rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        entry.subquery = copy.as_ptr();
        entry.security_barrier = false;
        entry.ctename = std::ptr::null_mut();
        entry.ctelevelsup = 0;
        entry.self_reference = false;
        entry.coltypes = std::ptr::null_mut();
        entry.coltypmods = std::ptr::null_mut();
        entry.colcollations = std::ptr::null_mut();
    });
}
