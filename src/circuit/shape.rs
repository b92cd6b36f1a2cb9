//! The one walker over a query's shape: everything that blocks cannot do yet is named here, with its reason code.
//!
//! It sees the normalised query, whose subqueries in FROM and legs of UNION ALL may be blocks of their own (`cut`). Queries in
//! expressions and LATERAL may group and cut, if their results are functions of what they read.

use super::normalise::order;
use super::{Refusal, cut, determined, legs, reason};
use crate::pg::facts;
use crate::pg::handle::{Any, Node};
use crate::pg::query::{self, Entry, Query};
use crate::pg::stack;
use crate::pg::walk::{self, Scope};
use pgrx::pg_sys;

/// Everything in the shape of the query and those in its FROM that speaks against maintaining it incrementally.
pub fn refusals(query: Query) -> Vec<Refusal> {
    let mut found = Found { refusals: vec![], enters_blocks: true, order_is_seen: false };
    whole(query, &mut found);
    found.refusals
}

/// What of that is about the query's own block. `order_is_seen`: something above looks at the order of its rows.
pub fn refusals_of_block(query: Query, order_is_seen: bool) -> Vec<Refusal> {
    let mut found = Found { refusals: vec![], enters_blocks: false, order_is_seen };
    whole(query, &mut found);
    found.refusals
}

/// What was found, and where the walk is.
struct Found {
    refusals: Vec<Refusal>,
    /// Looks into subqueries that are blocks of their own as well.
    enters_blocks: bool,
    /// A level above looks at the order of rows.
    order_is_seen: bool,
}

impl Found {
    fn push(&mut self, refusal: Refusal) {
        self.refusals.push(refusal);
    }
}

/// Whether the query looks at the order in which its FROM gives rows.
pub fn sees_order(query: Query) -> bool {
    query.get().hasWindowFuncs || order::has_order_sensitive_aggregate(query)
}

/// A query that may group.
fn whole(query: Query, found: &mut Found) {
    let merges = query.is_grouped() || query.set_operation().is_some_and(|top| !top.get().all);
    if merges && query.outputs().is_empty() {
        found.push(reason::NO_COLUMNS.refuse("The query groups rows, or removes duplicates, and selects no column."));
    }
    if let Some(type_name) = other_equality(query) {
        let detail = format!("The query groups values of type {type_name} by another equality than that of the type.");
        found.push(reason::OTHER_EQUALITY.refuse(detail));
    }
    match query.set_operation() {
        Some(top) => set_operation(query, top, found),
        None => level(query, found),
    }
}

/// The type of a group key that ORDER BY ... USING has given another equality than its own, by which we look groups up.
fn other_equality(query: Query) -> Option<String> {
    let clauses: Vec<Node<pg_sys::SortGroupClause>> = query.list(|query| query.groupClause);
    clauses.into_iter().find_map(|clause| {
        let typid = query::type_of(query.target_of(clause).expression()).typid;
        let other = facts::default_ordering(typid).is_some_and(|order| order.eq_op != clause.get().eqop);
        other.then(|| facts::type_name(typid))
    })
}

fn subquery(query: Query, found: &mut Found) {
    let may_be_block = |found: &Found| !found.enters_blocks && cut::may_be_child(query, found.order_is_seen);
    if query.is_grouped() && may_be_block(found) {
        return;
    }
    let before = found.refusals.len();
    fragment(query, found);
    // Then it is a block of its own, which is looked at by itself.
    if found.refusals.len() > before && may_be_block(found) {
        found.refusals.truncate(before);
    }
}

fn fragment(query: Query, found: &mut Found) {
    stack::check();
    if !query.get().sortClause.is_null() && is_uncut(query) && !query.get().hasDistinctOn {
        found.push(reason::ORDERED_INPUT.refuse("An aggregate takes its rows in the order of a subquery's ORDER BY."));
    }
    whole(query, found);
}

/// A query in an expression, or one in FROM that looks at several rows for each row of its neighbours. It may group, remove
/// duplicates and cut, as long as its result is a function of what it reads, since what it was is computed again.
fn nested(query: Query, only_presence: bool, found: &mut Found) {
    stack::check();
    found.refusals.extend(determined::refusals(query, only_presence));
    if let Some(top) = query.set_operation() {
        let only_presence = only_presence && legs::is_union_all(top.any());
        let legs = query.entries().into_iter().filter_map(|entry| entry.child(|entry| entry.subquery));
        return legs.for_each(|leg| nested(leg, only_presence, found));
    }
    selection(query, found);
    for entry in query.entries() {
        match entry.child(|entry| entry.subquery) {
            Some(inner) => nested(inner, false, found),
            None => from_item(entry, found),
        }
    }
}

/// What one SELECT does by itself, and the fragments in its FROM.
fn level(query: Query, found: &mut Found) {
    let mut refuse = |condition: bool, reason: &reason::Reason, detail: &str| {
        if condition {
            found.push(reason.refuse(detail));
        }
    };
    refuse(!is_uncut(query), &reason::LIMIT, "The query uses LIMIT or OFFSET.");
    refuse(query.get().hasDistinctOn, &reason::DISTINCT_ON, "The query uses DISTINCT ON.");
    let distinct = !query.get().distinctClause.is_null() && !query.get().hasDistinctOn;
    refuse(
        distinct,
        &reason::DISTINCT,
        "The query uses DISTINCT together with window functions, set-returning functions, LIMIT or an order that is seen.",
    );
    let is_ordered = !query.get().sortClause.is_null() || !query.get().distinctClause.is_null();
    refuse(
        query.get().hasTargetSRFs && (query.is_grouped() || is_ordered),
        &reason::SET_RETURNING_FUNCTION,
        "The query calls a set-returning function in its SELECT list, and groups or orders rows.",
    );
    selection(query, found);
    let outside = found.order_is_seen;
    found.order_is_seen |= sees_order(query);
    query.entries().into_iter().for_each(|entry| from_item(entry, found));
    found.order_is_seen = outside;
}

/// What is the same for every SELECT.
fn selection(query: Query, found: &mut Found) {
    let mut refuse = |condition: bool, reason: &reason::Reason, detail: &str| {
        if condition {
            found.push(reason.refuse(detail));
        }
    };
    refuse(query.get().hasWindowFuncs, &reason::WINDOW_FUNCTION, "The query uses a window function.");
    refuse(
        !query.get().groupingSets.is_null(),
        &reason::GROUPING_SETS,
        "The query uses GROUPING SETS, ROLLUP or CUBE.",
    );
    refuse(has_grouping_function(query), &reason::GROUPING_SETS, "The query uses GROUPING().");
    refuse(!query.get().rowMarks.is_null(), &reason::ROW_LOCKING, "The query locks rows with FOR UPDATE or FOR SHARE.");
    refuse(
        has_full_join(query.from().any()),
        &reason::FULL_JOIN,
        "The query uses more than three full joins in one FROM clause, or more than six.",
    );
    sublinks(query, found);
}

/// Queries in the expressions of a level.
fn sublinks(query: Query, found: &mut Found) {
    let mut limits =
        [query.child(|query| query.limitCount), query.child(|query| query.limitOffset)].into_iter().flatten();
    if limits.any(|limit| walk::any(limit, Scope::EXPRESSIONS, |node, _| node.is::<pg_sys::SubLink>())) {
        found.push(reason::SUBLINK.refuse("The query computes LIMIT or OFFSET by a subquery."));
    }
    let policies = query.entries().into_iter().flat_map(|entry| entry.nodes(|entry| entry.securityQuals));
    if policies.into_iter().any(|policy| walk::any(policy, Scope::EXPRESSIONS, |node, _| node.is::<pg_sys::SubLink>()))
    {
        found.push(reason::SUBLINK.refuse("A row security policy uses a subquery."));
    }
    let mut queries: Vec<(Query, pg_sys::SubLinkType::Type)> = vec![];
    own(query, |node| {
        let sublink: Option<Node<pg_sys::SubLink>> = node.cast();
        let inner = sublink
            .and_then(|sublink| Some((sublink.child(|sublink| sublink.subselect)?.cast()?, sublink.get().subLinkType)));
        queries.extend(inner);
        false
    });
    for (inner, kind) in queries {
        if kind == pg_sys::SubLinkType::ARRAY_SUBLINK {
            found.refusals.extend(determined::array_refusals(inner));
        }
        nested(inner, kind == pg_sys::SubLinkType::EXISTS_SUBLINK, found);
    }
}

fn is_uncut(query: Query) -> bool {
    query.get().limitCount.is_null() && query.get().limitOffset.is_null()
}

fn from_item(entry: Entry, found: &mut Found) {
    use pg_sys::RTEKind::*;
    match entry.get().rtekind {
        RTE_RELATION => relation(entry, found),
        RTE_SUBQUERY => {
            let Some(inner) = entry.child(|entry| entry.subquery) else { return };
            if refers_outward(inner.any(), 1) && !legs::is_linear(inner) {
                nested(inner, false, found);
            } else {
                subquery(inner, found);
            }
        }
        RTE_CTE | RTE_NAMEDTUPLESTORE => {
            found.push(reason::RECURSIVE_CTE.refuse("The query uses WITH RECURSIVE."));
        }
        _ => (),
    }
}

fn relation(entry: Entry, found: &mut Found) {
    if !entry.get().tablesample.is_null() {
        found.push(reason::TABLESAMPLE.refuse("The query uses TABLESAMPLE."));
    }
    if !entry.get().inh && !facts::children(entry.get().relid).is_empty() {
        let table = facts::relation_name(entry.get().relid);
        found.push(reason::ONLY_INHERITANCE.refuse(format!("The query reads ONLY \"{table}\", which has children.")));
    }
}

/// A tree of UNION ALL is fine; its legs are fragments.
fn set_operation(query: Query, top: Node<pg_sys::SetOperationStmt>, found: &mut Found) {
    if let Some(name) = other_set_operation(top.any()) {
        found.push(reason::SET_OPERATION.refuse(format!("The query uses {name}.")));
    }
    if !is_uncut(query) {
        found.push(reason::LIMIT.refuse("The query uses LIMIT or OFFSET."));
    }
    for entry in query.entries() {
        entry.child(|entry| entry.subquery).into_iter().for_each(|leg| subquery(leg, found));
    }
}

fn other_set_operation(node: Any) -> Option<&'static str> {
    stack::check();
    let operation = node.cast::<pg_sys::SetOperationStmt>()?;
    use pg_sys::SetOperation::*;
    match (operation.get().op, operation.get().all) {
        (SETOP_UNION, true) => [operation.child(|op| op.larg), operation.child(|op| op.rarg)]
            .into_iter()
            .flatten()
            .find_map(other_set_operation),
        (SETOP_UNION, false) => Some("UNION below the top of the view"),
        (SETOP_INTERSECT, _) => Some("INTERSECT"),
        _ => Some("EXCEPT"),
    }
}

/// Those that could be split are none any more (normalise/full.rs).
fn has_full_join(item: Any) -> bool {
    stack::check();
    if let Some(from) = item.cast::<pg_sys::FromExpr>() {
        return from.nodes(|from| from.fromlist).into_iter().any(has_full_join);
    }
    let Some(join) = item.cast::<pg_sys::JoinExpr>() else { return false };
    let mut sides = [join.child(|join| join.larg), join.child(|join| join.rarg)].into_iter().flatten();
    join.get().jointype == pg_sys::JoinType::JOIN_FULL || sides.any(has_full_join)
}

/// Grouping functions and sublinks of this level, not of subqueries in FROM, which are looked at by themselves.
fn own(query: Query, mut test: impl FnMut(Any) -> bool) -> bool {
    let mut found = false;
    walk::walk(query, Scope::EXPRESSIONS, &mut |node, _| {
        found = found || test(node);
        match () {
            _ if found => walk::Visit::Stop,
            _ if node.is::<pg_sys::Query>() => walk::Visit::Over,
            _ => walk::Visit::Into,
        }
    });
    found
}

fn has_grouping_function(query: Query) -> bool {
    own(query, |node| node.is::<pg_sys::GroupingFunc>())
}

/// Whether a tree holds a column of the level `up` above its own.
fn refers_outward(tree: Any, up: u32) -> bool {
    let root_depth = if tree.is::<pg_sys::Query>() { up } else { up - 1 };
    walk::any(tree, Scope::EXPRESSIONS, |node, depth| {
        node.cast::<pg_sys::Var>().is_some_and(|var| var.get().varlevelsup == depth + root_depth)
    })
}

/// Whether nothing in the query refers to what stands outside of it.
pub fn is_self_contained(query: Query) -> bool {
    let leaves = |node: Any, depth: u32| {
        let up = |levels: u32| levels > depth;
        node.cast::<pg_sys::Var>().is_some_and(|var| up(var.get().varlevelsup))
            || node.cast::<pg_sys::Aggref>().is_some_and(|call| up(call.get().agglevelsup))
            || node.cast::<pg_sys::GroupingFunc>().is_some_and(|call| up(call.get().agglevelsup))
            || node
                .cast::<pg_sys::RangeTblEntry>()
                .is_some_and(|entry| entry.get().rtekind == pg_sys::RTEKind::RTE_CTE && up(entry.get().ctelevelsup))
    };
    !walk::any(query, Scope::ENTRIES, leaves)
}

pub fn reads_relations(query: Query) -> bool {
    use pg_sys::RTEKind::*;
    let reads = |entry: Entry| [RTE_RELATION, RTE_CTE, RTE_NAMEDTUPLESTORE].contains(&entry.get().rtekind);
    query.nest().into_iter().flat_map(Query::entries).any(reads)
}
