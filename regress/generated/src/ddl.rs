//! DDL on source tables, between changes that views have not seen yet: columns come and go, tables are rewritten,
//! partitions attached and detached, constraints added that the old rows violated.

use crate::author::{Author, MAIN};
use crate::change::Level;
use crate::dice::Label;
use crate::kinds::Kind;
use crate::partition;
use crate::rename;
use crate::sql::{Sql, literal};
use crate::step::{Codes, NONE, Step, VIOLATIONS};
use crate::world::{Column, Leaf, Role, Table};

type Make = fn(&mut Author, &Table);

const KINDS: &[(Label, u32, Make)] = &[
    ("add column", 4, add_column),
    ("drop column", 3, drop_column),
    ("rewrite column type", 2, rewrite_column),
    ("create index", 2, create_index),
    ("attach partition", 4, attach_partition),
    ("detach partition", 4, detach_or_reattach),
    ("drop partition", 1, drop_partition),
    ("child leaves and comes back", 3, leave_and_return),
    ("vacuum full", 2, |author, table| maintenance(author, table, "VACUUM (FULL)")),
    ("vacuum", 1, |author, table| maintenance(author, table, "VACUUM")),
    ("analyze", 2, |author, table| statement(author, table, format!("ANALYZE {}", table.name), NONE)),
    ("add constraint", 4, add_constraint),
    ("replica identity full", 1, |author, table| alter(author, table, "REPLICA IDENTITY FULL")),
    ("disable user triggers", 1, disable_triggers),
    ("set unlogged and back", 1, set_unlogged),
    ("change storage", 1, change_storage),
    ("rename table", 2, rename::rename_table),
    ("rename column", 3, rename::rename_column),
    ("table moves to another schema", 2, rename::move_table),
];

/// Attaching may meet rows that belong elsewhere, a partition that is still there, overlapping bounds, or constraints
/// that the new partition lacks.
const ATTACH_ERRORS: Codes = &["23505", "23514", "42804", "42809", "42P17"];
/// Detaching may meet a partition that never got attached, or rows that are referenced.
const DETACH_ERRORS: Codes = &["42P01", "23503"];

/// Dropping may meet one that never got attached, a view of its own, or rows that are referenced.
const DROP_ERRORS: Codes = &["42P01", "2BP01", "23503"];

/// No rewriting while a view has a column of whole rows.
const ROW_TYPE_USED: Codes = &["0A000"];

impl Author {
    /// One random DDL statement on a table that no other transaction has touched.
    pub fn change_schema(&mut self) {
        let alone: Vec<Table> = self.world.tables.iter().filter(|t| self.alone_with(t)).cloned().collect();
        if let Some(table) = self.dice.pick_any(&alone) {
            let make = self.dice.choose(KINDS);
            make(self, &table);
        }
    }
}

fn statement(author: &mut Author, table: &Table, sql: impl Into<Sql>, may_fail: Codes) {
    let conflicts = author.conflicts(MAIN);
    author.emit(Step::run(sql).on_table(table.id).may_fail(may_fail).may_fail(conflicts).changing(table.family));
    author.hold(MAIN, table.family, Level::Exclusive);
}

fn alter(author: &mut Author, table: &Table, what: &str) {
    statement(author, table, format!("ALTER TABLE {} {what}", table.name), NONE);
}

/// Statements that refuse to run in a transaction block.
fn maintenance(author: &mut Author, table: &Table, what: &str) {
    if !author.in_transaction(MAIN) {
        statement(author, table, format!("{what} {}", table.name), NONE);
    }
}

/// A new column reaches partitions and heirs that are there; detached partitions would be left behind.
fn may_change_columns(table: &Table) -> bool {
    !table.is_parent && table.leaves.iter().all(|l| l.attached)
}

fn add_column(author: &mut Author, table: &Table) {
    if !may_change_columns(table) {
        return;
    }
    let kind = *author.dice.pick(&[Kind::Int, Kind::Text, Kind::Numeric, Kind::Bool, Kind::Date]);
    let name = author.names.fresh("x");
    let default = if author.dice.feature("add column with default", 0.6) {
        format!(" DEFAULT {}", literal(author.dice.pick::<&str>(kind.pool())))
    } else {
        String::new()
    };
    // With a default it is refused while a view has a column of whole rows.
    let add = format!("ALTER TABLE {} ADD COLUMN {name} {}", table.name, kind.declaration());
    let otherwise = format!("EXCEPTION WHEN feature_not_supported THEN {add};");
    statement(author, table, format!("DO $add$BEGIN {add}{default}; {otherwise} END$add$"), NONE);
    author.world.table_mut(table.id).columns.push(Column { name, kind, role: Role::Plain, nulls: 0.2 });
    author.recapture(table.family);
}

fn spare_column(table: &Table) -> Option<usize> {
    table.columns.iter().position(|c| matches!(c.role, Role::Spare))
}

fn drop_column(author: &mut Author, table: &Table) {
    let Some(spare) = spare_column(table).filter(|_| may_change_columns(table)) else { return };
    alter(author, table, &format!("DROP COLUMN {}", table.columns[spare].name));
    author.world.table_mut(table.id).columns[spare].role = Role::Gone;
}

fn rewrite_column(author: &mut Author, table: &Table) {
    let Some(spare) = spare_column(table).filter(|_| may_change_columns(table)) else { return };
    let kind = if table.columns[spare].kind == Kind::Int { "numeric" } else { "varchar" };
    let how = format!("ALTER TABLE {} ALTER COLUMN {} TYPE {kind}", table.name, table.columns[spare].name);
    statement(author, table, how, ROW_TYPE_USED);
}

fn create_index(author: &mut Author, table: &Table) {
    let readable = table.readable();
    let indexable: Vec<usize> = readable
        .into_iter()
        .filter(|&c| table.columns[c].kind.is_indexable() && table.columns[c].is_writable())
        .collect();
    let Some(column) = author.dice.pick_any(&indexable) else { return };
    let index = author.names.fresh("i");
    statement(author, table, format!("CREATE INDEX {index} ON {} ({})", table.name, table.columns[column].name), NONE);
    if author.dice.feature("drop index", 0.3) {
        let schema = author.naming.schema_of(&table.name);
        statement(author, table, format!("DROP INDEX {schema}.{index}"), NONE);
    }
}

fn bottom_leaves(table: &Table) -> Vec<usize> {
    let is_bottom = |&i: &usize| !table.leaves.iter().any(|l| l.parent == table.leaves[i].name);
    (0..table.leaves.len()).filter(is_bottom).collect()
}

fn detach_or_reattach(author: &mut Author, table: &Table) {
    let Some(position) = author.dice.pick_any(&bottom_leaves(table)) else { return };
    let leaf = &table.leaves[position];
    if leaf.attached {
        alter_leaf(author, table, leaf, "DETACH", DETACH_ERRORS);
    } else {
        author.dice.hit("partition attached again");
        alter_leaf(author, table, leaf, "ATTACH", ATTACH_ERRORS);
    }
    let table = author.world.table_mut(table.id);
    table.leaves[position].attached = !table.leaves[position].attached;
    // Rows of the missing partition have nowhere to go.
    table.is_strict = true;
}

fn drop_partition(author: &mut Author, table: &Table) {
    let Some(position) = author.dice.pick_any(&bottom_leaves(table)) else { return };
    if table.leaves.len() < 3 {
        return;
    }
    statement(author, table, format!("DROP TABLE {}", table.leaves[position].name), DROP_ERRORS);
    let table = author.world.table_mut(table.id);
    table.leaves.remove(position);
    table.is_strict = true;
}

/// An inheritance child is a table of its own for a moment.
fn leave_and_return(author: &mut Author, table: &Table) {
    let Some(parent) = table.heir_of.map(|parent| author.world.table(parent).name.clone()) else { return };
    author.dice.hit("child left and came back");
    statement(author, table, format!("ALTER TABLE {} NO INHERIT {parent}", table.name), NONE);
    statement(author, table, format!("DELETE FROM {} WHERE ctid = '(0,1)'", table.name), VIOLATIONS);
    statement(author, table, format!("ALTER TABLE {} INHERIT {parent}", table.name), NONE);
}

fn alter_leaf(author: &mut Author, table: &Table, leaf: &Leaf, verb: &str, may_fail: Codes) {
    let bounds = if verb == "ATTACH" { leaf.bounds.as_str() } else { "" };
    statement(author, table, format!("ALTER TABLE {} {verb} PARTITION {} {bounds}", leaf.parent, leaf.name), may_fail);
}

/// A table with rows of its own becomes a partition, for values seldom used.
fn attach_partition(author: &mut Author, table: &Table) {
    let Some(column) = table.partition_column else { return };
    let is_hash = table.leaves.iter().any(|l| l.bounds.contains("MODULUS") && l.parent == table.name);
    if is_hash
        || !table.columns[column].kind.is_integer()
        || table.columns.iter().any(|c| matches!(c.role, Role::Reference { .. }))
    {
        return;
    }
    let value = 70 + author.dice.number(0..=20);
    let is_list = table.leaves.iter().any(|l| l.bounds.contains(" IN "));
    let bounds = if is_list {
        format!("FOR VALUES IN ({value})")
    } else {
        format!("FOR VALUES FROM ({value}) TO ({})", value + 1)
    };
    let name = author.names.fresh("part");
    let create = partition::detached_leaf(&mut author.dice, table, &name);
    statement(author, table, create, NONE);
    statement(author, table, format!("ALTER TABLE {name} DROP COLUMN filler"), NONE);
    let partition_column = &table.columns[column].name;
    let mut columns = vec![partition_column.clone()];
    let mut values = vec![value.to_string()];
    for &k in table.key.iter().filter(|&&k| k != column) {
        columns.push(table.columns[k].name.clone());
        values.push(format!("'{value}{value}'"));
    }
    statement(
        author,
        table,
        format!("INSERT INTO {name} ({}) VALUES ({})", columns.join(", "), values.join(", ")),
        VIOLATIONS,
    );
    let leaf = Leaf { name, parent: table.name.clone(), bounds, takes: None, attached: true };
    alter_leaf(author, table, &leaf, "ATTACH", ATTACH_ERRORS);
    author.world.table_mut(table.id).leaves.push(leaf);
}

/// Rows that violate a constraint go, and the constraint comes, before any view has heard of either. A plan that
/// believes the constraint of the old rows, too, is wrong.
fn add_constraint(author: &mut Author, table: &Table) {
    let has_k = table.columns.iter().any(|c| c.name == "k" && c.nulls > 0.0);
    if !has_k {
        return;
    }
    let (bad, constraint) = *author.dice.pick(&[
        ("k IS NULL", "ALTER COLUMN k SET NOT NULL"),
        ("k = 3", "ADD CONSTRAINT no_three CHECK (k <> 3)"),
        ("k > 2", "ADD CONSTRAINT small_k CHECK (k <= 2)"),
        ("NOT (k > 1)", "ADD CONSTRAINT large_k CHECK (k > 1)"),
    ]);
    statement(author, table, format!("DELETE FROM {} WHERE {bad}", table.name), VIOLATIONS);
    let undo = match constraint.strip_prefix("ADD CONSTRAINT ") {
        Some(rest) => format!("DROP CONSTRAINT {}", rest.split(' ').next().expect("a constraint has a name")),
        None => "ALTER COLUMN k DROP NOT NULL".to_string(),
    };
    // Rows that a foreign key kept from being deleted still violate it; so may a partition's key.
    statement(author, table, format!("ALTER TABLE {} {constraint}", table.name), &["23514", "23502", "42710", "42P16"]);
    // Triggers of other tables may write this one.
    author.world.tables.iter_mut().filter(|t| t.family == table.family).for_each(|t| t.is_strict = true);
    if author.dice.chance(0.7) {
        author.refresh_some();
        author.check();
        statement(author, table, format!("ALTER TABLE {} {undo}", table.name), &["42704", "42P16"]);
    }
}

fn disable_triggers(author: &mut Author, table: &Table) {
    alter(author, table, "DISABLE TRIGGER USER");
    author.change(MAIN);
    if author.alone_with(table) {
        alter(author, table, "ENABLE TRIGGER USER");
    }
}

fn set_unlogged(author: &mut Author, table: &Table) {
    let is_linked = author.world.tables.iter().filter(|t| t.family == table.family).count() > 1;
    if !is_linked && table.leaves.is_empty() {
        for how in ["SET UNLOGGED", "SET LOGGED"] {
            statement(author, table, format!("ALTER TABLE {} {how}", table.name), ROW_TYPE_USED);
        }
    }
}

fn change_storage(author: &mut Author, table: &Table) {
    let mut there = table.columns.iter().filter(|c| !matches!(c.role, Role::Gone));
    if let Some(column) = there.find(|c| matches!(c.kind, Kind::Text | Kind::Long)) {
        alter(author, table, &format!("ALTER COLUMN {} SET STORAGE EXTERNAL", column.name));
    }
}
