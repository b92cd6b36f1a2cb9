//! Partition trees: by list, range or hash, one or two levels deep, with leaves whose columns may stand in another
//! order than the root's.

use crate::dice::Dice;
use crate::kinds::{Kind, Value};
use crate::schema::SchemaMaker;
use crate::sql;
use crate::sql::{Sql, literal};
use crate::world::{Column, Leaf, Role, Table};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Method {
    List,
    Range,
    Hash,
}

pub struct By {
    method: Method,
    pub column: usize,
}

impl By {
    pub fn clause(&self, table: &Table) -> String {
        let method = match self.method {
            Method::List => "LIST",
            Method::Range => "RANGE",
            Method::Hash => "HASH",
        };
        format!(" PARTITION BY {method} ({})", table.columns[self.column].name)
    }
}

/// Decides whether and how a table is partitioned. A key must contain the partition column.
pub fn choose(dice: &mut Dice, table: &Table) -> Option<By> {
    if !dice.feature("partitioned table", 0.25) {
        return None;
    }
    let candidates: Vec<usize> = if table.key.is_empty() {
        (0..table.columns.len()).filter(|&c| matches!(table.columns[c].role, Role::Plain)).collect()
    } else {
        table.key.clone()
    };
    let column = dice.pick_any(&candidates)?;
    let kind = table.columns[column].kind;
    let is_id = matches!(table.columns[column].role, Role::Id);
    let lists = !is_id && (kind.is_integer() || matches!(kind, Kind::Text | Kind::Mood | Kind::Bool));
    let ranges = kind.is_integer() || matches!(kind, Kind::Text | Kind::Date | Kind::Numeric);
    let hashes = kind.is_integer() || matches!(kind, Kind::Text | Kind::Numeric | Kind::Uuid);
    if !(lists || ranges || hashes) {
        return None;
    }
    let method = dice.choose(&[
        ("partition by list", if lists { 5 } else { 0 }, Method::List),
        ("partition by range", if ranges { 3 } else { 0 }, Method::Range),
        ("partition by hash", if hashes { 2 } else { 0 }, Method::Hash),
    ]);
    Some(By { method, column })
}

/// A partition's bounds, and the values it takes where they can be listed.
struct Part {
    bounds: String,
    takes: Option<(usize, Vec<Value>)>,
}

pub fn make_leaves(maker: &mut SchemaMaker, table: &mut Table, by: &By) -> Vec<Leaf> {
    let column = &table.columns[by.column];
    let mut parts = match by.method {
        Method::List => list_parts(by.column, column.kind, column.nulls > 0.0),
        Method::Range => range_parts(maker.dice, by.column, column),
        Method::Hash => hash_parts(maker.dice),
    };
    if by.method != Method::Hash {
        if maker.dice.feature("default partition", 0.85) {
            parts.push(Part { bounds: "DEFAULT".to_string(), takes: None });
        } else {
            table.is_strict = true;
        }
    }
    let deep = maker.dice.feature("two levels of partitions", 0.25);
    let mut leaves = vec![];
    for (i, part) in parts.into_iter().enumerate() {
        if deep && i == 0 {
            leaves.extend(make_subtree(maker, table, by, part));
        } else {
            let root = table.name.clone();
            leaves.push(make_leaf(maker, table, &root, part));
        }
    }
    leaves
}

/// `[0,1] [2,3,NULL]`, leaving the rest to the default.
fn list_parts(column: usize, kind: Kind, nullable: bool) -> Vec<Part> {
    let values: Vec<Value> = kind.pool().iter().map(|v| Value::Raw(v.to_string())).collect();
    let middle = values.len().div_ceil(3);
    let mut groups = vec![values[..middle].to_vec(), values[middle..(2 * middle).min(values.len())].to_vec()];
    if nullable {
        groups[1].push(Value::Null);
    }
    groups
        .into_iter()
        .map(|group| {
            let items: Vec<String> = group.iter().map(Value::to_sql).collect();
            Part { bounds: format!("FOR VALUES IN ({})", items.join(", ")), takes: Some((column, group)) }
        })
        .collect()
}

fn range_parts(dice: &mut Dice, position: usize, column: &Column) -> Vec<Part> {
    let (low, high, samples) = match column.kind {
        Kind::Text => ("a", "c", ["b", "ab"]),
        Kind::Date => ("2024-01-15", "2025-01-01", ["2024-01-31", "2024-02-29"]),
        _ => ("2", "4", ["2", "3"]),
    };
    // Ids are drawn from a sequence, so a leaf cannot ask for one.
    let is_id = matches!(column.role, Role::Id);
    let between = (!is_id).then(|| (position, samples.iter().map(|s| Value::Raw(s.to_string())).collect()));
    let end = if dice.chance(0.5) { "MAXVALUE".to_string() } else { literal(high) };
    vec![
        Part { bounds: format!("FOR VALUES FROM (MINVALUE) TO ({})", literal(low)), takes: None },
        Part { bounds: format!("FOR VALUES FROM ({}) TO ({end})", literal(low)), takes: between },
    ]
}

fn hash_parts(dice: &mut Dice) -> Vec<Part> {
    let modulus = dice.count(2..=3);
    (0..modulus)
        .map(|r| Part { bounds: format!("FOR VALUES WITH (MODULUS {modulus}, REMAINDER {r})"), takes: None })
        .collect()
}

/// A partition that is itself partitioned, by hash. Statements may be aimed at it, too.
fn make_subtree(maker: &mut SchemaMaker, table: &Table, by: &By, part: Part) -> Vec<Leaf> {
    let name = maker.names.fresh("branch");
    let column = &table.columns[by.column].name;
    maker.push(
        table,
        format!("CREATE TABLE {name} PARTITION OF {} {} PARTITION BY HASH ({column})", table.name, part.bounds),
    );
    let mut leaves: Vec<Leaf> = (0..2)
        .map(|remainder| {
            let bounds = format!("FOR VALUES WITH (MODULUS 2, REMAINDER {remainder})");
            make_leaf(maker, table, &name, Part { bounds, takes: None })
        })
        .collect();
    leaves.push(Leaf { name, parent: table.name.clone(), bounds: part.bounds, takes: part.takes, attached: true });
    leaves
}

fn make_leaf(maker: &mut SchemaMaker, table: &Table, parent: &str, part: Part) -> Leaf {
    let name = maker.names.fresh_or_quoted("leaf", maker.dice);
    if maker.dice.feature("leaf with other column order", 0.3) {
        let create = detached_leaf(maker.dice, table, &name);
        maker.push(table, create);
        maker.push(table, format!("ALTER TABLE {name} DROP COLUMN filler"));
        maker.push(table, format!("ALTER TABLE {parent} ATTACH PARTITION {name} {}", part.bounds));
    } else {
        maker.push(table, format!("CREATE TABLE {name} PARTITION OF {parent} {}", part.bounds));
    }
    Leaf { name, parent: parent.to_string(), bounds: part.bounds, takes: part.takes, attached: true }
}

/// A table that can become a partition, with its columns in another order and one to be dropped.
pub fn detached_leaf(dice: &mut Dice, table: &Table, name: &str) -> Sql {
    let mut columns: Vec<String> = (0..table.columns.len())
        .filter(|&c| !matches!(table.columns[c].role, Role::Gone))
        .map(|c| bare_definition(table, c))
        .collect();
    columns.reverse();
    columns.insert(dice.count(0..=columns.len()), "filler int DEFAULT 7".to_string());
    sql!["CREATE TABLE ", name, " (", columns.join(", "), ")"]
}

fn bare_definition(table: &Table, position: usize) -> String {
    let column = &table.columns[position];
    let not_null = if table.key.contains(&position) { " NOT NULL" } else { "" };
    let is_generated = matches!(column.role, Role::Generated);
    let generated = if is_generated { crate::schema::generated_clause(table, column) } else { String::new() };
    format!("{} {}{generated}{not_null}", column.name, column.kind.declaration())
}
