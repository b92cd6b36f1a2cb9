//! A plain SELECT over one grouped subquery becomes the grouped query itself: its outputs are put in place of the
//! columns the outer query reads, and the outer WHERE joins HAVING.

use super::distinct;
use crate::pg::handle::{Any, Node};
use crate::pg::query::{self, Entry, Query, Target};
use crate::pg::stack;
use crate::pg::walk::{self, Scope};
use pgrx::pg_sys;

pub fn grouping(query: Query) -> Query {
    stack::check();
    let Some(entry) = only_subquery(query) else { return query };
    let inner = entry.child(|entry| entry.subquery).expect("a subquery entry has a query");
    let inner = grouping(distinct::as_grouping(distinct::over_union_all(inner)));
    entry.set(|entry| entry.subquery = inner.as_ptr());
    if inner.is_grouped() && is_plain(query) && is_liftable(inner) && !reads_whole_rows(query) {
        lift(query, inner)
    } else {
        query
    }
}

/// The subquery that is the whole FROM clause.
fn only_subquery(query: Query) -> Option<Entry> {
    if query.get().jointree.is_null() || !query.get().setOperations.is_null() {
        return None;
    }
    let from = query.from().nodes(|from| from.fromlist);
    let leaf = (from.len() == 1).then(|| from[0].cast::<pg_sys::RangeTblRef>()).flatten()?;
    let entry = query.entry(leaf.get().rtindex);
    (entry.get().rtekind == pg_sys::RTEKind::RTE_SUBQUERY && !entry.get().security_barrier).then_some(entry)
}

fn is_plain(query: Query) -> bool {
    !query.is_grouped() && query.get().distinctClause.is_null() && !query.get().hasSubLinks && is_uncut(query)
}

fn is_liftable(inner: Query) -> bool {
    inner.get().distinctClause.is_null()
        && inner.get().groupingSets.is_null()
        && inner.get().setOperations.is_null()
        && inner.get().sortClause.is_null()
        && is_uncut(inner)
}

fn is_uncut(query: Query) -> bool {
    let query = query.get();
    !query.hasWindowFuncs
        && !query.hasTargetSRFs
        && query.sortClause.is_null()
        && query.limitCount.is_null()
        && query.limitOffset.is_null()
        && query.rowMarks.is_null()
        && query.cteList.is_null()
}

fn reads_whole_rows(query: Query) -> bool {
    walk::any(query, Scope::EXPRESSIONS, |node, depth| {
        node.cast::<pg_sys::Var>().is_some_and(|var| var.get().varlevelsup == depth && var.get().varattno == 0)
    })
}

fn lift(outer: Query, inner: Query) -> Query {
    let columns = inner.outputs();
    let condition = outer.from().child(|from| from.quals).map(|quals| with_columns(quals, &columns));
    let having = query::and(inner.child(|inner| inner.havingQual), condition);
    let mut targets: Vec<Target> = outer.outputs();
    for target in &targets {
        target.set_expression(with_columns(target.expression(), &columns));
    }
    let keys = hidden_keys(inner, targets.len());
    targets.extend(keys);
    inner.set_targets(&targets);
    inner.set(|inner| {
        inner.havingQual = having.map_or(std::ptr::null_mut(), Node::as_ptr);
        inner.hasAggs = inner.hasAggs || inner.groupClause.is_null();
        inner.canSetTag = outer.get().canSetTag;
    });
    keep_permissions(outer, inner);
    inner
}

/// The expression with each reference to a column of the subquery replaced by that column's expression.
fn with_columns(expression: Any, columns: &[Target]) -> Any {
    walk::mutate(expression, &mut |node, _| {
        let var = node.cast::<pg_sys::Var>()?;
        (var.get().varlevelsup == 0).then(|| columns[var.get().varattno as usize - 1].expression().copy())
    })
}

/// The targets GROUP BY refers to, as hidden columns after the visible ones.
fn hidden_keys(inner: Query, visible: usize) -> Vec<Target> {
    let clauses: Vec<Node<pg_sys::SortGroupClause>> = inner.list(|inner| inner.groupClause);
    let key = |(i, clause): (usize, &Node<pg_sys::SortGroupClause>)| {
        let key = inner.target_of(*clause).copy();
        key.set(|key| {
            key.resjunk = true;
            key.resno = (visible + i + 1) as i16;
        });
        key
    };
    clauses.iter().enumerate().map(key).collect()
}

/// An expanded view is checked for SELECT through its range table entry, so the entry stays, emptied.
fn keep_permissions(outer: Query, inner: Query) {
    let mut entries = inner.entries();
    let mut permissions: Vec<Node<pg_sys::RTEPermissionInfo>> = inner.list(|inner| inner.rteperminfos);
    let checks: Vec<Node<pg_sys::RTEPermissionInfo>> = outer.list(|outer| outer.rteperminfos);
    for entry in outer.entries().into_iter().filter(|entry| entry.get().perminfoindex > 0) {
        permissions.push(checks[entry.get().perminfoindex as usize - 1]);
        entry.set(|entry| {
            entry.perminfoindex = permissions.len() as u32;
            entry.subquery = query::nothing().as_ptr();
        });
        entries.push(entry);
    }
    inner.set_entries(&entries);
    inner.set(|inner| inner.rteperminfos = crate::pg::handle::to_list(&permissions));
}
