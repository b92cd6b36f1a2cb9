//! The relations a query reads, and which of their columns.

use super::reason::{self, Reason};
use super::{Refusal, Source};
use crate::catalog::{self, stream_table};
use crate::pg::facts;
use crate::pg::handle::Node;
use crate::pg::query::{Entry, Query};
use crate::pg::relation::Relation;
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;
use std::collections::{BTreeMap, BTreeSet};

/// Attribute numbers read of each relation (0 is the whole row).
type Columns = BTreeMap<u32, BTreeSet<i16>>;

/// Every relation anywhere in the query, in oid order, with what speaks against capturing it.
pub fn survey(query: Query) -> (Vec<Source>, Vec<Refusal>) {
    let mut columns = Columns::new();
    let mut refusals = vec![];
    for level in query.nest() {
        read_columns(level, &mut columns, &mut refusals);
    }
    let mut sources = vec![];
    for (relid, read) in columns {
        let relid = pg_sys::Oid::from(relid);
        let obstacle = obstacle(relid);
        sources.push(Source { relid, columns: captured(relid, &read), capturable: obstacle.is_none() });
        refusals.extend(obstacle);
    }
    (sources, refusals)
}

fn read_columns(level: Query, columns: &mut Columns, refusals: &mut Vec<Refusal>) {
    let entries = level.entries();
    // What is outside FROM was removed (normalise/joins.rs).
    let relation = |entry: &&Entry| entry.get().rtekind == pg_sys::RTEKind::RTE_RELATION && entry.get().inFromCl;
    entries.iter().filter(relation).for_each(|entry| {
        columns.entry(entry.get().relid.to_u32()).or_default();
    });
    walk::walk(level, Scope::EXPRESSIONS, &mut |node, depth| {
        if let Some(var) = node.cast::<pg_sys::Var>()
            && var.get().varlevelsup == depth
            && let Some(entry) = entries.get(var.get().varno as usize - 1).filter(relation)
        {
            columns.entry(entry.get().relid.to_u32()).or_default().insert(var.get().varattno);
            refusals.extend(system_column(var, entry.get().relid));
        }
        Visit::Into
    });
}

fn system_column(var: Node<pg_sys::Var>, relid: pg_sys::Oid) -> Option<Refusal> {
    let table = || facts::relation_name(relid);
    (var.get().varattno < 0)
        .then(|| reason::SYSTEM_COLUMN.refuse(format!("The query reads a system column of \"{}\".", table())))
}

/// The stored columns behind the columns that are read: all for a whole row, the inputs of virtual generated ones.
fn captured(relid: pg_sys::Oid, read: &BTreeSet<i16>) -> Vec<i16> {
    let relation = Relation::open(relid, pg_sys::NoLock);
    let attributes = relation.attributes();
    let whole = read.contains(&0);
    let is_read = |number: &i16| whole || read.contains(number);
    let mut stored = BTreeSet::new();
    for attribute in attributes.iter().filter(|attribute| !attribute.attisdropped && is_read(&attribute.attnum)) {
        match attribute.attgenerated as u8 {
            pg_sys::ATTRIBUTE_GENERATED_VIRTUAL => stored.extend(generated_from(&relation, attribute.attnum)),
            _ => {
                stored.insert(attribute.attnum);
            }
        }
    }
    stored.into_iter().collect()
}

/// The columns in the expression of a generated column.
fn generated_from(relation: &Relation, column: i16) -> Vec<i16> {
    let mut columns = vec![];
    walk::walk(relation.generation_expression(column), Scope::EXPRESSIONS, &mut |node, _| {
        columns.extend(node.cast::<pg_sys::Var>().map(|var| var.get().varattno));
        Visit::Into
    });
    columns
}

/// Why changes of a relation cannot be captured, or not reliably.
fn obstacle(relid: pg_sys::Oid) -> Option<Refusal> {
    let refuse = |reason: &Reason, what: &str| {
        Some(reason.refuse(format!("The query reads {what} \"{}\".", facts::relation_name(relid))))
    };
    if facts::is_server_relation(relid) || facts::schema_of(relid) == catalog::schema() {
        return refuse(&reason::SYSTEM_CATALOG, "system catalog");
    }
    match facts::relation_kind(relid) {
        (_, pg_sys::RELPERSISTENCE_TEMP) => refuse(&reason::TEMP_TABLE, "temporary table"),
        (_, pg_sys::RELPERSISTENCE_UNLOGGED) => refuse(&reason::UNLOGGED_TABLE, "unlogged table"),
        (pg_sys::RELKIND_FOREIGN_TABLE, _) => refuse(&reason::FOREIGN_TABLE, "foreign table"),
        (pg_sys::RELKIND_SEQUENCE, _) => refuse(&reason::SEQUENCE, "sequence"),
        (pg_sys::RELKIND_MATVIEW, _) if !stream_table::exists(relid) => {
            refuse(&reason::MATERIALIZED_VIEW, "materialized view")
        }
        (pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE, _) => {
            facts::children(relid).into_iter().find_map(child_obstacle)
        }
        _ => None,
    }
}

fn child_obstacle(child: pg_sys::Oid) -> Option<Refusal> {
    let name = || facts::relation_name(child);
    let refuse = |reason: &Reason, what: &str| Some(reason.refuse(format!("The query reads {what} \"{}\".", name())));
    match facts::relation_kind(child) {
        (_, pg_sys::RELPERSISTENCE_TEMP) => refuse(&reason::TEMP_TABLE, "temporary child table"),
        (_, pg_sys::RELPERSISTENCE_UNLOGGED) => refuse(&reason::UNLOGGED_TABLE, "unlogged child table"),
        (pg_sys::RELKIND_FOREIGN_TABLE, _) => refuse(&reason::FOREIGN_TABLE, "foreign child table"),
        _ => None,
    }
}
