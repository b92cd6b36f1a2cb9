//! Index advice.
//!
//! - A change of one table of a join looks for its partners in the others by the columns joined on.
//! - When the clock moves, the rows it passes are looked for by what is compared with it.
//! - A group that has to be computed anew, since an aggregate cannot take out what was removed, is read by its key.

use super::verdict::{Finding, INFO, WARNING, finding};
use crate::circuit::{Ability, Accumulate, Block, Circuit, Operator, clock};
use crate::pg::handle::{Any, Node};
use crate::pg::query::{Entry, Query};
use crate::pg::relation::Relation;
use crate::pg::stack;
use crate::pg::walk::{self, Scope, Visit};
use crate::pg::{facts, indexes, names, query, unique};
use pgrx::pg_sys;
use std::collections::{BTreeMap, BTreeSet};

/// Columns by which each relation (by oid) is looked up.
type Lookups = BTreeMap<u32, BTreeSet<i16>>;

pub fn of(circuit: &Circuit) -> Vec<Finding> {
    let mut lookups = Lookups::new();
    for block in &circuit.blocks {
        joined_columns(block.template.node(), &mut lookups);
    }
    let partners = lookups.into_iter().map(|(relid, columns)| judge(relid.into(), &columns));
    partners
        .chain(circuit.blocks.iter().filter_map(|block| of_groups(block.template.node(), &block.operator)))
        .chain(circuit.blocks.iter().flat_map(of_clock))
        .collect()
}

/// Advice for what a block compares with the clock.
fn of_clock(block: &Block) -> Vec<Finding> {
    let template = block.template.node();
    let compared = block.clock.clone().filter_map(|value| clock::compared(template, value));
    let mut found: Vec<(pg_sys::Oid, Any)> = vec![];
    for (relid, key) in compared.filter_map(|(level, expression)| over_table(level, expression)) {
        if !found.iter().any(|(other, known)| *other == relid && known.equals(key)) {
            found.push((relid, key));
        }
    }
    found.into_iter().map(|(relid, key)| judge_clock(relid, key)).collect()
}

/// Others stand for values of the clock.
fn is_of_subquery(operand: Any) -> bool {
    let parameter: Option<Node<pg_sys::Param>> = operand.cast();
    parameter.is_some_and(|parameter| parameter.get().paramkind == pg_sys::ParamKind::PARAM_SUBLINK)
}

fn judge_clock(relid: pg_sys::Oid, key: Any) -> Finding {
    let (table, name) = (Relation::open(relid, pg_sys::AccessShareLock), facts::relation_name(relid));
    if indexes::of(&table).iter().any(|index| index.ordered && index.leading(&[key]) > 0) {
        return finding("index", format!("{name}: the rows that the clock passes are found by an index."), INFO);
    }
    let statement = indexes::statement(&table, &[key]);
    finding("index", format!("{name}: no index finds the rows that the clock passes; {statement}"), WARNING)
}

/// Also of subqueries in expressions and LATERAL, by what links them with the rows around them.
fn joined_columns(query: Query, lookups: &mut Lookups) {
    collect(query, &mut vec![], lookups);
}

/// `levels` are the entries of the queries around this one, the innermost last.
fn collect(query: Query, levels: &mut Vec<Vec<Entry>>, lookups: &mut Lookups) {
    stack::check();
    levels.push(query.entries());
    let mut inner: Vec<Query> = vec![];
    walk::walk(query, Scope::EXPRESSIONS, &mut |node, _| {
        if let Some(query) = node.cast() {
            inner.push(query);
            return Visit::Over;
        }
        equated(node, levels).into_iter().for_each(|(relid, column)| {
            lookups.entry(relid.to_u32()).or_default().insert(column);
        });
        Visit::Into
    });
    inner.into_iter().for_each(|query| collect(query, levels, lookups));
    levels.pop();
}

/// Both sides of an equality between columns of different relations; the column of `column IN (SELECT ...)`.
fn equated(node: Any, levels: &[Vec<Entry>]) -> Vec<(pg_sys::Oid, i16)> {
    let Some(operator) = node.cast::<pg_sys::OpExpr>() else { return vec![] };
    let column = |var: &pg_sys::Var| {
        let level = levels.len().checked_sub(1 + var.varlevelsup as usize)?;
        let entry = levels[level].get(var.varno as usize - 1)?.get();
        let is_base = entry.rtekind == pg_sys::RTEKind::RTE_RELATION && var.varattno > 0;
        is_base.then_some((entry.relid, var.varattno))
    };
    let var = |operand: Any| operand.cast::<pg_sys::Var>().map(Node::get);
    let is_equality = |var: &pg_sys::Var| facts::is_equality(operator.get().opno, var.vartype);
    let [left, right] = operator.nodes(|operator| operator.args)[..] else { return vec![] };
    match (var(left), var(right)) {
        (Some(a), Some(b)) if (a.varno, a.varlevelsup) != (b.varno, b.varlevelsup) && is_equality(&a) => {
            [a, b].iter().filter_map(column).collect()
        }
        // Of a subquery's column there is a parameter.
        (Some(a), None) if is_of_subquery(right) && is_equality(&a) => column(&a).into_iter().collect(),
        _ => vec![],
    }
}

fn judge(relid: pg_sys::Oid, columns: &BTreeSet<i16>) -> Finding {
    let relation = Relation::open(relid, pg_sys::AccessShareLock);
    let leading = unique::leading_columns(&relation);
    let name = facts::relation_name(relid);
    if columns.iter().any(|column| leading.contains(column)) {
        return finding("index", format!("{name}: partners are found by an index."), INFO);
    }
    let list: Vec<String> = columns.iter().map(|column| names::quoted(relation.column_name(*column))).collect();
    let advice = format!(
        "{name}: no index begins with a column joined on; CREATE INDEX ON {name} ({}) lets changes of the other tables find their partners.",
        list.join(", ")
    );
    finding("index", advice, WARNING)
}

/// Advice for the groups of a view, if removals recompute them.
fn of_groups(template: Query, operator: &Operator) -> Option<Finding> {
    let Operator::Accumulate(spec) = operator else { return None };
    let keys = keys_by_table(template, spec);
    if !spec.aggregates.iter().any(|aggregate| aggregate.resolved.ability != Ability::Invertible) || keys.is_empty() {
        return None;
    }
    let tables: Vec<_> =
        keys.iter().map(|(relid, keys)| (Relation::open(*relid, pg_sys::AccessShareLock), keys)).collect();
    if let Some((table, _)) = tables.iter().find(|(table, keys)| is_indexed(table, keys)) {
        let name = facts::relation_name(table.oid());
        return Some(finding("index", format!("{name}: the rows of a group are found by an index."), INFO));
    }
    // Of several tables one with most keys; the others are joined to it.
    let (table, keys) = tables.iter().rev().max_by_key(|(_, keys)| keys.len())?;
    let name = facts::relation_name(table.oid());
    let statement = indexes::statement(table, keys);
    let advice =
        format!("{name}: no index finds the rows of a group that has to be computed anew after a removal; {statement}");
    Some(finding("index", advice, WARNING))
}

/// The group keys an index can be over, as expressions over the one table each is made of, by the tables' oids.
fn keys_by_table(template: Query, spec: &Accumulate) -> Vec<(pg_sys::Oid, Vec<Any>)> {
    let mut tables: Vec<(pg_sys::Oid, Vec<Any>)> = vec![];
    for target in template.targets().into_iter().take(spec.keys.len()) {
        let Some((relid, key)) = over_table(template, target.expression()) else { continue };
        match tables.iter_mut().find(|(table, _)| *table == relid) {
            Some((_, keys)) => keys.push(key),
            None => tables.push((relid, vec![key])),
        }
    }
    tables
}

/// The expression over the only table it takes columns of, as entry 1; None if there is none, or an index cannot hold it.
fn over_table(level: Query, expression: Any) -> Option<(pg_sys::Oid, Any)> {
    let mut entries = BTreeSet::new();
    let odd = walk::walk(expression, Scope::EXPRESSIONS, &mut |node, _| match node.cast::<pg_sys::Var>() {
        // A whole row, a system column, or a column of an outer query.
        Some(var) if var.get().varattno <= 0 || var.get().varlevelsup > 0 => Visit::Stop,
        Some(var) => {
            entries.insert(var.get().varno);
            Visit::Into
        }
        None if node.is::<pg_sys::Query>() => Visit::Stop,
        None => Visit::Into,
    });
    let (false, [number]) = (odd, &entries.into_iter().collect::<Vec<_>>()[..]) else { return None };
    let entry = *level.entries().get(*number as usize - 1)?;
    match entry.get().rtekind {
        pg_sys::RTEKind::RTE_RELATION => {
            let kinds = [pg_sys::RELKIND_RELATION, pg_sys::RELKIND_PARTITIONED_TABLE, pg_sys::RELKIND_MATVIEW];
            let kind = entry.get().relkind as u8;
            // An index of a table does not hold the rows of its inheritance children.
            let whole = kind == pg_sys::RELKIND_PARTITIONED_TABLE || facts::children(entry.get().relid).is_empty();
            let key = walk::mutate(expression, &mut |node, _| {
                let var = node.cast::<pg_sys::Var>()?;
                Some(query::var(1, var.get().varattno, query::type_of(node)).any())
            });
            (whole && kinds.contains(&kind) && indexes::can_hold(key)).then_some((entry.get().relid, key))
        }
        pg_sys::RTEKind::RTE_SUBQUERY => {
            let inner = entry.child(|entry| entry.subquery)?;
            if inner.is_grouped() || inner.set_operation().is_some() {
                return None;
            }
            let columns = inner.targets();
            let below = walk::mutate(expression, &mut |node, _| {
                let var = node.cast::<pg_sys::Var>()?;
                columns.get(var.get().varattno as usize - 1).map(|column| column.expression())
            });
            over_table(inner, below)
        }
        _ => None,
    }
}

/// An index finds the rows by all of the keys, or is unique by some of them.
fn is_indexed(table: &Relation, keys: &[Any]) -> bool {
    indexes::of(table).iter().any(|index| {
        let leading = index.leading(keys);
        leading >= keys.len() || (index.unique && leading == index.keys.len())
    })
}
