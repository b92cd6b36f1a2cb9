//! Index advice: a change of one table of a join looks for its partners in the others by the columns joined on.

use super::verdict::{Finding, INFO, WARNING, finding};
use crate::circuit::Circuit;
use crate::pg::handle::{Any, Node};
use crate::pg::query::{Entry, Query};
use crate::pg::relation::Relation;
use crate::pg::walk::{self, Scope, Visit};
use crate::pg::{facts, names, unique};
use pgrx::pg_sys;
use std::collections::{BTreeMap, BTreeSet};

/// Columns by which each relation (by oid) is looked up.
type Lookups = BTreeMap<u32, BTreeSet<i16>>;

pub fn of(circuit: &Circuit) -> Vec<Finding> {
    let mut lookups = Lookups::new();
    for block in &circuit.blocks {
        joined_columns(block.template.node(), &mut lookups);
    }
    lookups.into_iter().map(|(relid, columns)| judge(relid.into(), &columns)).collect()
}

fn joined_columns(query: Query, lookups: &mut Lookups) {
    for level in query.nest() {
        let entries = level.entries();
        walk::walk(level, Scope::EXPRESSIONS, &mut |node, depth| {
            if depth == 0 {
                equated(node, &entries).into_iter().for_each(|(relid, column)| {
                    lookups.entry(relid.to_u32()).or_default().insert(column);
                });
            }
            Visit::Into
        });
    }
}

/// Both sides of an equality between columns of different relations.
fn equated(node: Any, entries: &[Entry]) -> Vec<(pg_sys::Oid, i16)> {
    let Some(operator) = node.cast::<pg_sys::OpExpr>() else { return vec![] };
    let vars: Vec<Option<Node<pg_sys::Var>>> =
        operator.nodes(|operator| operator.args).into_iter().map(Node::cast).collect();
    let column = |var: &Node<pg_sys::Var>| {
        let entry = entries.get(var.get().varno as usize - 1)?;
        let base = entry.get().rtekind == pg_sys::RTEKind::RTE_RELATION
            && var.get().varlevelsup == 0
            && var.get().varattno > 0;
        base.then_some((entry.get().relid, var.get().varattno))
    };
    match vars[..] {
        [Some(a), Some(b)] if a.get().varno != b.get().varno && facts::is_equality(operator.get().opno) => {
            [a, b].iter().filter_map(column).collect()
        }
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
