//! Outer joins that are none.
//!
//! *Reduced* (by the server's own function): a strict condition above the join, in WHERE or in an inner join, drops the rows
//! that the join adds. This is algebra and needs no constraint.
//!
//! *Removed*: `a LEFT JOIN b ON b.k = f(a)` with a unique key k of b and nothing else of b read.
//!
//! 1. A row of `a` has at most one partner: two would both equal `f(a)` by the equality of the key, and so each other.
//! 2. So the join gives each row of `a` once, with columns of `b` or with NULLs, of which nothing is read: as a bag it is
//!    `a`, whatever else ON says.
//! 3. A delta continues contents of the snapshot S by changes up to the snapshot T, so the key has to hold at both. It is
//!    physical: an index that is unique, immediate, valid and of all rows holds in every snapshot since it was made.
//! 4. Its oid is part of the fingerprint. Contents of S were computed, or checked, under the same fingerprint, so the
//!    same index was there; what was computed at a snapshot older than the circuit is computed anew (`OLD_SNAPSHOT`).
//! 5. The table is no source any more: its changes say nothing. DDL on it makes views due whose fingerprint it changes
//!    (registration), and invalidates the circuit, as the table stays in the query for recompute.
//!
//! Foreign keys prove nothing here. Their triggers do not fire under `session_replication_role = replica`, nor where
//! changes are applied from a publication, and may be disabled: rows without partners are possible under a valid
//! constraint, which is why the planner does not rely on them either.

use super::Scene;
use crate::circuit::key;
use crate::pg::facts;
use crate::pg::handle::{Any, Node, to_list};
use crate::pg::query::{Entry, Query};
use crate::pg::relation::Relation;
use crate::pg::stack;
use crate::pg::unique;
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

type Join = Node<pg_sys::JoinExpr>;

/// Every level, outer ones first: their conditions are copied with the queries inside them.
pub fn reduce(query: Query) -> Query {
    stack::check();
    if !query.get().jointree.is_null() && outer_joins(query) != (0, 0) && !shows_missing_rows(query) {
        let reduced = query.copy();
        reduced.reduce_outer_joins();
        take_back_anti_joins(reduced);
        // Otherwise what the user wrote stays, as messages name it.
        if outer_joins(reduced) != outer_joins(query) {
            query.set(|query| *query = reduced.get());
        }
    }
    query.inner().into_iter().for_each(|inner| {
        reduce(inner);
    });
    query
}

/// How many joins add rows on one side, and how many on both.
fn outer_joins(query: Query) -> (usize, usize) {
    use pg_sys::JoinType::*;
    let kinds: Vec<_> = joins(query.from().any()).into_iter().map(|join| join.get().jointype).collect();
    let count = |wanted: &[pg_sys::JoinType::Type]| kinds.iter().filter(|kind| wanted.contains(kind)).count();
    (count(&[JOIN_LEFT, JOIN_RIGHT]), count(&[JOIN_FULL]))
}

/// All joins below an item, upper ones first.
fn joins(item: Any) -> Vec<Join> {
    stack::check();
    if let Some(from) = item.cast::<pg_sys::FromExpr>() {
        return from.nodes(|from| from.fromlist).into_iter().flat_map(joins).collect();
    }
    let Some(join) = item.cast::<pg_sys::JoinExpr>() else { return vec![] };
    let sides = [join.child(|join| join.larg), join.child(|join| join.rarg)];
    [join].into_iter().chain(sides.into_iter().flatten().flat_map(joins)).collect()
}

/// A whole row that a join may have replaced by NULL was not spelled out, which it would have to be below an inner join.
fn shows_missing_rows(query: Query) -> bool {
    walk::any(query, Scope::EXPRESSIONS, |node, depth| {
        node.cast::<pg_sys::Var>().is_some_and(|var| {
            let var = var.get();
            var.varlevelsup == depth && var.varattno == 0 && !var.varnullingrels.is_null()
        })
    })
}

/// The planner's next step, `LEFT JOIN ... WHERE right IS NULL` as an antijoin, is not one for a query that is planned later.
fn take_back_anti_joins(query: Query) {
    let joins = joins(query.from().any());
    for join in joins.into_iter().filter(|join| join.get().jointype == pg_sys::JoinType::JOIN_ANTI) {
        join.set(|join| join.jointype = pg_sys::JoinType::JOIN_LEFT);
        // An entry agrees with its join.
        if join.get().rtindex > 0 {
            query.entry(join.get().rtindex).set(|entry| entry.jointype = pg_sys::JoinType::JOIN_LEFT);
        }
    }
}

/// Every level. A join that goes may leave another one idle.
pub fn remove_idle(query: Query, scene: &Scene) -> Query {
    for level in query.nest() {
        while !level.get().jointree.is_null() && remove_one(level, scene) {}
    }
    query
}

fn remove_one(query: Query, scene: &Scene) -> bool {
    let idle = joins(query.from().any()).into_iter().find_map(|join| Some((join, idle_by(query, join)?)));
    let Some((join, Idle { entry, kept, index })) = idle else { return false };
    scene.keys.borrow_mut().insert(index.to_u32());
    let from = without(query.from().any(), join, kept).cast().expect("a FROM clause stays one");
    query.set(|query| query.jointree = Node::<pg_sys::FromExpr>::as_ptr(from));
    // The planner looks for outer joins in the range table.
    if join.get().rtindex > 0 {
        query.entry(join.get().rtindex).set(|entry| entry.jointype = pg_sys::JoinType::JOIN_INNER);
    }
    // Whoever runs the query still needs the right to read the table: its entry stays for that, outside FROM, as the planner
    // leaves those of tables it removes.
    entry.set(|entry| entry.inFromCl = false);
    true
}

/// The tree with another item in the place of a join.
pub(super) fn without(item: Any, join: Join, instead: Any) -> Any {
    stack::check();
    if item == join.any() {
        return instead;
    }
    if let Some(from) = item.cast::<pg_sys::FromExpr>() {
        let items = from.nodes(|from| from.fromlist).into_iter().map(|item| without(item, join, instead));
        let items: Vec<Any> = items.collect();
        from.set(|from| from.fromlist = to_list(&items));
    } else if let Some(other) = item.cast::<pg_sys::JoinExpr>() {
        let side = |side: Option<Any>| without(side.expect("a join has two sides"), join, instead).as_ptr();
        let (left, right) = (side(other.child(|join| join.larg)), side(other.child(|join| join.rarg)));
        other.set(|other| (other.larg, other.rarg) = (left, right));
    }
    item
}

struct Idle {
    /// Of the table that goes.
    entry: Entry,
    /// The other side.
    kept: Any,
    /// The unique index that says so.
    index: pg_sys::Oid,
}

/// What is idle in a join of one table that adds and drops no row of the other side.
fn idle_by(query: Query, join: Join) -> Option<Idle> {
    let (larg, rarg) = (join.child(|join| join.larg)?, join.child(|join| join.rarg)?);
    let (kept, optional) = match join.get().jointype {
        pg_sys::JoinType::JOIN_LEFT => (larg, rarg),
        pg_sys::JoinType::JOIN_RIGHT => (rarg, larg),
        _ => return None,
    };
    let (number, condition) = (optional.cast::<pg_sys::RangeTblRef>()?.get().rtindex, join.child(|join| join.quals)?);
    let entry = query.entry(number);
    let fields = entry.get();
    let is_table = fields.rtekind == pg_sys::RTEKind::RTE_RELATION
        && [pg_sys::RELKIND_RELATION, pg_sys::RELKIND_PARTITIONED_TABLE].contains(&(fields.relkind as u8))
        && fields.tablesample.is_null()
        && fields.securityQuals.is_null()
        && !facts::is_server_relation(fields.relid);
    let is_idle = is_table
        && !walk::any(condition, Scope::EXPRESSIONS, |node, _| node.is::<pg_sys::SubLink>())
        && mentions(query.any(), number) == mentions(condition, number);
    if !is_idle {
        return None;
    }
    let relation = Relation::open(fields.relid, pg_sys::NoLock);
    let mut equated = vec![];
    equated_columns(condition, number, &mut equated);
    let keys = if key::is_parent(&relation) { vec![] } else { unique::keys_of_values(&relation) };
    let key = keys.into_iter().find(|(_, key)| key.iter().all(|column| equated.contains(column)));
    key.map(|(index, _)| Idle { entry, kept, index })
}

/// How often a tree mentions columns of an entry of its level.
fn mentions(tree: Any, entry: i32) -> usize {
    let mut count = 0;
    walk::walk(tree, Scope::EXPRESSIONS, &mut |node, depth| {
        let is_column = |var: Node<pg_sys::Var>| var.get().varno == entry && var.get().varlevelsup == depth;
        count += usize::from(node.cast().is_some_and(is_column));
        Visit::Into
    });
    count
}

/// The columns of an entry that a conjunction equates, by the equality of their type, with values from elsewhere.
fn equated_columns(condition: Any, entry: i32, found: &mut Vec<i16>) {
    stack::check();
    if let Some(and) = condition.cast::<pg_sys::BoolExpr>().filter(|b| b.get().boolop == pg_sys::BoolExprType::AND_EXPR)
    {
        and.nodes(|and| and.args).into_iter().for_each(|part| equated_columns(part, entry, found));
    }
    let Some(operator) = condition.cast::<pg_sys::OpExpr>() else { return };
    let [left, right] = operator.nodes(|operator| operator.args)[..] else { return };
    for (side, other) in [(left, right), (right, left)] {
        let column = key::unlabelled(side).cast::<pg_sys::Var>().map(Node::get);
        let column = column.filter(|var| var.varno == entry && var.varlevelsup == 0 && var.varattno > 0);
        if let Some(var) = column.filter(|_| mentions(other, entry) == 0 && key::is_own_equality(operator, side)) {
            found.push(var.varattno);
        }
    }
}
