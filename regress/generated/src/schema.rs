//! Draws the tables of an episode: types, keys, nulls, partitions, inheritance, foreign keys, triggers, and scars such
//! as dropped columns.

use std::collections::BTreeSet;

use crate::dice::{Dice, Label};
use crate::kinds::{COLUMN_KINDS, Kind};
use crate::partition;
use crate::sql;
use crate::sql::Sql;
use crate::step::Step;
use crate::world::{Column, Family, Policy, Role, Table, TableId, World};

/// The names an episode gives out, each once, so that NATURAL joins match on `id` and `k` only.
pub struct Names {
    next: usize,
}

impl Names {
    pub fn new() -> Names {
        Names { next: 0 }
    }

    pub fn fresh(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }

    /// Sometimes a name that must be quoted.
    pub fn fresh_or_quoted(&mut self, prefix: &str, dice: &mut Dice) -> String {
        let name = self.fresh(prefix);
        if dice.feature("quoted name", 0.08) { format!("\"{} {}\"", name.to_uppercase(), "é.x") } else { name }
    }
}

pub struct SchemaMaker<'a> {
    pub dice: &'a mut Dice,
    pub names: &'a mut Names,
    pub world: &'a mut World,
    pub steps: Vec<Step>,
}

/// The second schema of an episode; the first one is on the search path.
pub const SIDE_SCHEMA: &str = "\"Side Schema\"";

/// Makes two to five tables, and returns the steps that create them, empty.
pub fn generate(dice: &mut Dice, names: &mut Names, world: &mut World) -> Vec<Step> {
    let mut maker = SchemaMaker { dice, names, world, steps: vec![] };
    for _ in 0..maker.dice.count(2..=4) {
        maker.add_table();
    }
    if maker.dice.feature("trigger writes another table", 0.04) {
        maker.add_audit_trigger();
    }
    let tables = maker.steps;
    let mut steps = vec![Step::run(format!("CREATE SCHEMA {SIDE_SCHEMA}"))];
    steps.extend(type_definitions(world));
    steps.extend(tables);
    steps
}

fn type_definitions(world: &World) -> Vec<Step> {
    let kinds: BTreeSet<Kind> = world.tables.iter().flat_map(|t| &t.columns).map(|c| c.kind).collect();
    kinds.into_iter().filter_map(Kind::definition).map(Step::run).collect()
}

/// Where a table's primary key comes from.
#[derive(Clone, Copy, PartialEq)]
enum KeyShape {
    None,
    Id,
    Composite,
}

impl SchemaMaker<'_> {
    fn add_table(&mut self) {
        let key = self.dice.choose(&[
            ("table without key", 8, KeyShape::None),
            ("table with key", 10, KeyShape::Id),
            ("table with composite key", 3, KeyShape::Composite),
        ]);
        let mut columns = self.draw_columns(key);
        self.maybe_reference(&mut columns);
        let id = TableId(self.world.tables.len());
        let family = self.family_of(&columns, id);
        let plain_name = self.names.fresh_or_quoted("t", self.dice);
        let name =
            if self.dice.feature("quoted schema", 0.08) { format!("{SIDE_SCHEMA}.{plain_name}") } else { plain_name };
        let is_key = |c: &Column| matches!(c.role, Role::Id) || (key == KeyShape::Composite && c.name == "k");
        let key_columns: Vec<usize> =
            if key == KeyShape::None { vec![] } else { (0..columns.len()).filter(|&i| is_key(&columns[i])).collect() };
        for &k in &key_columns {
            columns[k].nulls = 0.0;
        }
        let is_strict = columns.iter().any(|c| matches!(c.role, Role::Reference { .. }));
        let cap = if self.dice.feature("thousands of rows", 0.03) { 1200 } else { self.dice.count(6..=40) };
        let table = Table {
            id,
            name,
            columns,
            key: key_columns,
            key_is_unique: key != KeyShape::None,
            family,
            leaves: vec![],
            partition_column: None,
            is_parent: false,
            heir_of: None,
            is_strict,
            window: None,
            is_named_in_function: false,
            policy: Policy::None,
            cap,
            rows: 0,
            next_id: 1,
        };
        self.create(table);
    }

    fn create(&mut self, mut table: Table) {
        let by = partition::choose(self.dice, &table);
        let dead = self.dice.feature("dropped column", 0.15).then(|| self.names.fresh("dead"));
        let suffix = by.as_ref().map(|by| by.clause(&table)).unwrap_or_default();
        let position = self.dice.count(0..=table.columns.len());
        let mut definitions: Vec<String> = table.columns.iter().map(|c| self.column_definition(&table, c)).collect();
        if let Some(dead) = &dead {
            definitions.insert(position, format!("{dead} text DEFAULT 'gone'"));
        }
        if !table.key.is_empty() {
            let names: Vec<&str> = table.key.iter().map(|&k| table.columns[k].name.as_str()).collect();
            definitions.push(format!("PRIMARY KEY ({})", names.join(", ")));
        }
        let definitions = Sql::list(", ", 1, definitions.into_iter().map(Sql::from).collect());
        self.push(&table, sql!["CREATE TABLE ", &table.name, " (", definitions, ")", suffix]);
        if let Some(dead) = dead {
            self.push(&table, format!("ALTER TABLE {} DROP COLUMN {dead}", table.name));
        }
        if let Some(by) = by {
            let leaves = partition::make_leaves(self, &mut table, &by);
            table.leaves = leaves;
            table.partition_column = Some(by.column);
        }
        self.add_ornaments(&mut table);
        let child = if self.dice.feature("inheritance", if table.is_partitioned() { 0.0 } else { 0.1 }) {
            Some(self.add_child(&mut table))
        } else {
            None
        };
        self.world.tables.push(table);
        self.world.tables.extend(child);
    }

    pub fn push(&mut self, table: &Table, sql: impl Into<Sql>) {
        self.steps.push(Step::run(sql).on_table(table.id));
    }

    pub fn column_definition(&mut self, table: &Table, column: &Column) -> String {
        let is_key = table.key.iter().any(|&k| table.columns[k].name == column.name);
        let mut text = format!("{} {}", column.name, column.kind.declaration());
        match &column.role {
            Role::Generated => text.push_str(&generated_clause(table, column)),
            Role::Reference { table, key } => {
                let actions = ["ON DELETE CASCADE ON UPDATE CASCADE", "ON DELETE SET NULL ON UPDATE CASCADE", ""];
                text.push_str(&format!(" REFERENCES {table} ({key}) {}", self.dice.pick(&actions)));
            }
            _ if is_key => text.push_str(" NOT NULL"),
            _ => {}
        }
        text
    }

    fn draw_columns(&mut self, key: KeyShape) -> Vec<Column> {
        let mut columns = vec![self.join_column()];
        if key != KeyShape::None {
            let kind = self.dice.choose(&[
                ("key int", 8, Kind::Int),
                ("key bigint", 4, Kind::Bigint),
                ("key numeric", 2, Kind::Numeric),
                ("key text", 2, Kind::Text),
            ]);
            let id = Column { name: "id".to_string(), kind, role: Role::Id, nulls: 0.0 };
            columns.insert(self.dice.count(0..=1), id);
        }
        let nulls = if self.dice.feature("null-rich table", 0.2) { 0.5 } else { 0.12 };
        for _ in 0..self.dice.count(1..=4) {
            let kind = self.dice.choose(COLUMN_KINDS);
            columns.push(Column { name: self.names.fresh_or_quoted("c", self.dice), kind, role: Role::Plain, nulls });
        }
        self.maybe_generated(&mut columns);
        if self.dice.feature("column no view reads", 0.3) {
            let kind = *self.dice.pick(&[Kind::Int, Kind::Text]);
            columns.push(Column { name: self.names.fresh("spare"), kind, role: Role::Spare, nulls: 0.3 });
        }
        columns
    }

    /// The column most joins are made on.
    fn join_column(&mut self) -> Column {
        let kind = *self.dice.pick(&[Kind::Int, Kind::Int, Kind::Int, Kind::Bigint, Kind::Smallint, Kind::Numeric]);
        let nulls = *self.dice.pick(&[0.0, 0.1, 0.1, 0.3]);
        Column { name: "k".to_string(), kind, role: Role::Plain, nulls }
    }

    fn maybe_generated(&mut self, columns: &mut Vec<Column>) {
        let wanted: Option<Label> = if self.dice.feature("generated column, stored", 0.08) {
            Some("s")
        } else if self.dice.feature("generated column, virtual", 0.08) {
            Some("v")
        } else {
            None
        };
        let base = columns.iter().find(|c| c.kind.suits_generated()).map(|c| c.kind);
        if let (Some(prefix), Some(kind)) = (wanted, base) {
            columns.push(Column { name: self.names.fresh(prefix), kind, role: Role::Generated, nulls: 0.0 });
        }
    }

    fn maybe_reference(&mut self, columns: &mut Vec<Column>) {
        let has_simple_key = |t: &&Table| t.key.len() == 1 && !t.is_parent;
        let targets: Vec<(String, String, Kind)> = self
            .world
            .tables
            .iter()
            .filter(has_simple_key)
            .map(|t| (t.name.clone(), t.columns[t.key[0]].name.clone(), t.columns[t.key[0]].kind))
            .collect();
        if let (Some((table, key, kind)), true) = (self.dice.pick_any(&targets), self.dice.feature("foreign key", 0.2))
        {
            self.world.tables.iter_mut().filter(|t| t.name == table).for_each(|t| t.is_strict = true);
            let name = self.names.fresh("ref");
            columns.push(Column { name, kind, role: Role::Reference { table, key }, nulls: 0.2 });
        }
    }

    fn family_of(&self, columns: &[Column], id: TableId) -> Family {
        let referenced = columns.iter().find_map(|c| match &c.role {
            Role::Reference { table, .. } => self.world.tables.iter().find(|t| t.name == *table),
            _ => None,
        });
        referenced.map_or(Family(id.0), |t| t.family)
    }

    /// Things put on a table that change how its rows come and go.
    fn add_ornaments(&mut self, table: &mut Table) {
        let k = "k";
        if self.dice.feature("unique index on values", 0.08) && !table.is_partitioned() {
            let second = &table.columns[table.columns.len() - 1];
            if second.kind.is_indexable() && !matches!(second.role, Role::Generated) {
                self.push(table, format!("CREATE UNIQUE INDEX ON {} ({k}, {})", table.name, second.name));
                table.is_strict = true;
            }
        }
        if self.dice.feature("index on join column", 0.3) {
            self.push(table, format!("CREATE INDEX ON {} ({k})", table.name));
        }
        if let (Some(long), true) = (table.columns.iter().find(|c| c.kind == Kind::Long), self.dice.chance(0.5)) {
            self.push(table, format!("ALTER TABLE {} ALTER COLUMN {} SET STORAGE EXTERNAL", table.name, long.name));
        }
        if self.dice.feature("row trigger changes rows", 0.06) {
            self.add_row_trigger(table);
        }
        if self.dice.feature("writable view", 0.15) {
            self.add_window(table);
        }
    }

    fn add_row_trigger(&mut self, table: &Table) {
        let function = self.names.fresh("adjust");
        let k = if table.columns.iter().any(|c| c.name == "k" && c.kind == Kind::Numeric) { "2.50" } else { "2" };
        let is_fixed = table.key.iter().chain(&table.partition_column).any(|&c| table.columns[c].name == "k");
        let body = if is_fixed { "NULL;".to_string() } else { format!("IF NEW.k = 5 THEN NEW.k := {k}; END IF;") };
        self.push(
            table,
            format!(
                "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} RETURN NEW; END$$"
            ),
        );
        self.push(
            table,
            format!(
                "CREATE TRIGGER {function} BEFORE INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION {function}()",
                table.name
            ),
        );
    }

    fn add_window(&mut self, table: &mut Table) {
        let window = self.names.fresh_or_quoted("window", self.dice);
        let condition = if self.dice.chance(0.5) { " WHERE k IS DISTINCT FROM 4 WITH CHECK OPTION" } else { "" };
        let names: Vec<&str> = table.readable().into_iter().map(|c| table.columns[c].name.as_str()).collect();
        self.push(table, format!("CREATE VIEW {window} AS SELECT {} FROM {}{condition}", names.join(", "), table.name));
        table.window = Some((window, table.columns.len()));
        table.is_strict |= !condition.is_empty();
    }

    /// A child by inheritance: its rows are read with the parent's, and no key spans both.
    fn add_child(&mut self, parent: &mut Table) -> Table {
        let id = TableId(parent.id.0 + 1);
        let name = self.names.fresh("heir");
        let mut columns = parent.columns.clone();
        for column in &mut columns {
            if matches!(column.role, Role::Reference { .. } | Role::Spare) {
                column.role = Role::Plain;
            }
        }
        columns.push(Column { name: self.names.fresh("c"), kind: Kind::Int, role: Role::Plain, nulls: 0.1 });
        let extra = &columns[columns.len() - 1].name;
        self.push(parent, format!("CREATE TABLE {name} ({extra} int) INHERITS ({})", parent.name));
        parent.key_is_unique = false;
        parent.is_parent = true;
        let heir_of = Some(parent.id);
        Table { id, name, columns, key: vec![], is_parent: false, heir_of, window: None, ..parent.clone() }
    }

    /// An AFTER ROW trigger on one table that inserts into another.
    fn add_audit_trigger(&mut self) {
        let pairs: Vec<(usize, usize)> = (0..self.world.tables.len()).zip(1..self.world.tables.len()).collect();
        let Some((from, to)) = self.dice.pick_any(&pairs) else { return };
        let (source, target) = (self.world.tables[from].clone(), self.world.tables[to].clone());
        if target.is_strict || target.id_column().is_some() || target.is_partitioned() || source.family == target.family
        {
            return;
        }
        let function = self.names.fresh("audit");
        let body = format!("INSERT INTO {} (k) VALUES (1); RETURN NULL;", target.name);
        self.push(
            &source,
            format!("CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$"),
        );
        let when = "FOR EACH ROW WHEN (pg_trigger_depth() = 0)";
        self.push(
            &source,
            format!(
                "CREATE TRIGGER {function} AFTER INSERT OR DELETE ON {} {when} EXECUTE FUNCTION {function}()",
                source.name
            ),
        );
        self.world.table_mut(target.id).is_named_in_function = true;
        self.merge_families(source.family, target.family);
    }

    fn merge_families(&mut self, into: Family, from: Family) {
        for table in self.world.tables.iter_mut().filter(|t| t.family == from) {
            table.family = into;
        }
    }
}

pub fn generated_clause(table: &Table, column: &Column) -> String {
    let is_base = |c: &&Column| c.kind == column.kind && c.is_writable();
    let base = &table.columns.iter().find(is_base).expect("a generated column has a base").name;
    let storage = if column.name.starts_with('s') { "STORED" } else { "VIRTUAL" };
    match column.kind {
        Kind::Text => format!(" GENERATED ALWAYS AS (upper({base}) || '!') {storage}"),
        _ => format!(" GENERATED ALWAYS AS (coalesce({base}, 1) * 2) {storage}"),
    }
}
