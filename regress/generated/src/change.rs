//! Draws one change to the data: which table, through which name (root, partition, or updatable view), by which kind of
//! statement. What a statement may do depends on what other open transactions hold: one driver plays all sessions in
//! turn, so no statement may ever wait for another session.

use crate::dice::{Dice, Label};
use crate::dml;
use crate::kinds::Value;
use crate::sql::Sql;
use crate::step::{Action, MISPLACED, NONE, Step, VIOLATIONS};
use crate::world::{Column, Family, Role, Table, TableId, World};

/// What a session may do to a table at the moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    Nothing,
    /// Insert rows under new ids.
    FreshInsert,
    /// Also update and delete, leaving keys alone.
    Modify,
    Anything,
    /// Also what needs the table for itself.
    Alone,
}

/// What an open transaction has done to a family of tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Read,
    Insert,
    Write,
    Exclusive,
}

/// The name a statement is aimed at, and the columns that can be written through it.
#[derive(Clone, Debug)]
pub struct Target {
    pub table: Table,
    pub name: String,
    pub columns: Vec<usize>,
    /// Values a partition insists on.
    pub takes: Option<(usize, Vec<Value>)>,
    pub is_view: bool,
}

/// A statement on one target.
pub struct Change {
    pub action: Action,
    /// Rows it may add; what it removes is guessed by the writer.
    pub rows: i64,
    pub may_fail: bool,
    /// What it does to other families of tables.
    pub others: Vec<(Family, Level)>,
}

impl Change {
    pub fn run(sql: impl Into<Sql>) -> Change {
        Change { action: Action::Run(sql.into()), rows: 0, may_fail: false, others: vec![] }
    }

    pub fn rows(self, rows: i64) -> Change {
        Change { rows, ..self }
    }

    pub fn may_fail(self) -> Change {
        Change { may_fail: true, ..self }
    }

    pub fn reading(self, family: Family) -> Change {
        self.touching(family, Level::Read)
    }

    pub fn touching(mut self, family: Family, level: Level) -> Change {
        self.others.push((family, level));
        self
    }
}

/// A change, and what the author must remember of it.
pub struct Drawn {
    pub step: Step,
    pub touched: Vec<(Family, Level)>,
}

pub struct ChangeMaker<'a> {
    pub dice: &'a mut Dice,
    pub world: &'a mut World,
    /// For every table.
    pub access: Vec<Access>,
}

pub type Write = fn(&mut ChangeMaker, &Target) -> Option<Change>;

/// A kind of statement: label, weight, the access it needs, its writer.
pub type Kind = (Label, u32, Access, Write);

impl ChangeMaker<'_> {
    /// A random change on the main session, or on another one (which sends plain statements only).
    pub fn draw(&mut self, is_main: bool) -> Option<Drawn> {
        let open: Vec<TableId> =
            self.world.tables.iter().filter(|t| self.access_to(t) > Access::Nothing).map(|t| t.id).collect();
        let table = self.world.table(self.dice.pick_any(&open)?).clone();
        let access = self.access_to(&table);
        let is_full = table.rows > 2 * table.cap;
        let suits = |k: &&Kind| {
            k.2 <= access && (is_main || k.2 < Access::Alone && k.0 != "copy") && !(is_full && dml::adds_rows(k.0))
        };
        let options: Vec<(Label, u32, &Kind)> = dml::KINDS.iter().filter(suits).map(|k| (k.0, k.1, k)).collect();
        if options.is_empty() {
            return None;
        }
        let (_, _, needed, write) = *self.dice.choose(&options);
        let target = self.target(&table);
        let change = write(self, &target)?;
        Some(self.finish(&target, change, needed))
    }

    fn finish(&mut self, target: &Target, change: Change, needed: Access) -> Drawn {
        let id = target.table.id;
        let may_fail = change.may_fail || target.table.is_strict || target.is_view || target.name != target.table.name;
        let level = match needed {
            Access::FreshInsert if !target.table.is_strict => Level::Insert,
            Access::Alone => Level::Exclusive,
            _ => Level::Write,
        };
        let table = self.world.table_mut(id);
        table.rows = (table.rows as i64 + change.rows).max(0) as usize;
        let mut step = Step::new(change.action).on_table(id).may_fail(if may_fail { VIOLATIONS } else { NONE });
        if target.name != target.table.name && target.table.is_partitioned() {
            step = step.may_fail(MISPLACED);
        }
        let mut touched = change.others;
        touched.push((target.table.family, level));
        Drawn { step, touched }
    }

    /// What a new table is filled with: rows from a series, and some one by one.
    pub fn initial_rows(&mut self, table: &Table) -> Vec<Action> {
        let target = Target {
            table: table.clone(),
            name: table.name.clone(),
            columns: table.writable(),
            takes: None,
            is_view: false,
        };
        let writes: [Write; 3] = [dml::insert_series, dml::insert_values, dml::insert_values];
        let changes: Vec<Change> = writes.iter().filter_map(|write| write(self, &target)).collect();
        self.world.table_mut(table.id).rows = table.cap;
        changes.into_iter().map(|c| c.action).collect()
    }

    pub fn access_to(&self, table: &Table) -> Access {
        self.access[table.id.0]
    }

    /// The table itself, one of its partitions, or its updatable view.
    fn target(&mut self, table: &Table) -> Target {
        let root = Target {
            table: table.clone(),
            name: table.name.clone(),
            columns: table.writable(),
            takes: None,
            is_view: false,
        };
        if let (Some(leaf), true) = (self.dice.pick_any(&table.leaves), self.dice.feature("aimed at a partition", 0.35))
        {
            return Target { name: leaf.name, takes: leaf.takes, ..root };
        }
        match &table.window {
            Some((name, width)) if self.dice.feature("aimed at a writable view", 0.35) => {
                let columns =
                    table.writable().into_iter().filter(|c| c < width && table.readable().contains(c)).collect();
                Target { name: name.clone(), columns, is_view: true, ..root }
            }
            _ => root,
        }
    }

    /// An id nobody has been given.
    pub fn fresh_id(&mut self, table: &Table) -> i64 {
        let table = self.world.table_mut(table.id);
        table.next_id += 1;
        table.next_id - 1
    }

    /// An id that may well exist, or have existed; a new one now and then.
    pub fn likely_id(&mut self, table: &Table) -> i64 {
        let given_out = self.world.table(table.id).next_id - 1;
        if given_out == 0 || self.dice.chance(0.25) {
            self.fresh_id(table)
        } else {
            self.dice.number(1..=given_out.min(40))
        }
    }

    /// A row of values for the target's columns.
    pub fn row(&mut self, target: &Target, id: Option<i64>) -> Vec<Value> {
        target.columns.iter().map(|&c| self.cell(target, c, id)).collect()
    }

    fn cell(&mut self, target: &Target, position: usize, id: Option<i64>) -> Value {
        let column = &target.table.columns[position];
        match (&column.role, &target.takes) {
            (Role::Id, _) => {
                let id = id.unwrap_or_else(|| self.fresh_id(&target.table));
                Value::Raw(id.to_string())
            }
            (_, Some((at, values))) if *at == position && self.dice.chance(0.9) => self.dice.pick(values).clone(),
            _ => self.value(column),
        }
    }

    pub fn value(&mut self, column: &Column) -> Value {
        if self.dice.chance(column.nulls) {
            return Value::Null;
        }
        match &column.role {
            Role::Reference { table, key } => {
                let least = self.dice.count(1..=20);
                Value::Expression(format!("(SELECT min({key}) FROM {table} WHERE {key} >= '{least}')"))
            }
            _ => column.kind.random_value(self.dice),
        }
    }

    /// Another table that may be read, for statements that join two.
    pub fn other_table(&mut self, table: &Table) -> Option<Table> {
        let others: Vec<Table> = self
            .world
            .tables
            .iter()
            .filter(|t| t.id != table.id && self.access_to(t) > Access::Nothing)
            .cloned()
            .collect();
        self.dice.pick_any(&others)
    }
}

impl Target {
    pub fn column_names(&self) -> String {
        self.columns.iter().map(|&c| self.table.columns[c].name.as_str()).collect::<Vec<_>>().join(", ")
    }
}
