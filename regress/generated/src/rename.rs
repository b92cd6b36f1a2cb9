//! Tables, their columns, views and their columns get other names, and move between the schemas.

use crate::author::{Author, MAIN};
use crate::change::Level;
use crate::naming::{Rename, local};
use crate::run::SCHEMA;
use crate::schema::SIDE_SCHEMA;
use crate::sql;
use crate::step::Step;
use crate::world::{Role, Table};

/// A renaming changes no rows: views that were fresh stay so.
fn rename(author: &mut Author, table: &Table, what: &str, how: String, rename: Rename) {
    let step = Step::run(format!("ALTER TABLE {what} {how}")).on_table(table.id);
    author.emit(Step { rename: Some(rename), ..step });
    author.hold(MAIN, table.family, Level::Exclusive);
}

/// The table, or one of its partitions.
fn some_part(author: &mut Author, table: &Table) -> Option<String> {
    let leaves: Vec<String> = table.leaves.iter().map(|l| l.name.clone()).collect();
    let leaf = author.dice.pick_any(&leaves).filter(|_| author.dice.chance(0.4));
    // A function's body goes on calling it by its name.
    if table.is_named_in_function { leaf } else { Some(leaf.unwrap_or_else(|| table.name.clone())) }
}

pub fn rename_table(author: &mut Author, table: &Table) {
    let Some(part) = some_part(author, table) else { return };
    let now = author.names.fresh_or_quoted("name", &mut author.dice);
    let first = local(&part).to_string();
    rename(author, table, &part, format!("RENAME TO {now}"), Rename::Relation { first, now });
}

pub fn move_table(author: &mut Author, table: &Table) {
    let Some(part) = some_part(author, table) else { return };
    let now = other_schema(author.naming.schema_of(&part));
    let first = local(&part).to_string();
    rename(author, table, &part, format!("SET SCHEMA {now}"), Rename::Schema { first, now });
}

fn other_schema(schema: &str) -> &'static str {
    if schema == SCHEMA { SIDE_SCHEMA } else { SCHEMA }
}

/// Columns that only this table has, so that a name means one column; heirs get new names from their parent. The
/// columns of a writable view keep theirs.
pub fn rename_column(author: &mut Author, table: &Table) {
    let is_heir = table.heir_of.is_some();
    if is_heir || table.window.is_some() || table.leaves.iter().any(|l| !l.attached) {
        return;
    }
    let is_shared = |name: &str| name == "k" || name == "id";
    let there = table.columns.iter().filter(|c| !matches!(c.role, Role::Gone) && !is_shared(&c.name));
    let names: Vec<String> = there.map(|c| c.name.clone()).collect();
    let Some(first) = author.dice.pick_any(&names) else { return };
    let now = author.names.fresh_or_quoted("name", &mut author.dice);
    rename(author, table, &table.name, format!("RENAME COLUMN {first} TO {now}"), Rename::Column { first, now });
}

impl Author {
    pub fn rename_view(&mut self) {
        let Some(view) = self.dice.pick_any(&self.world.materialized()) else { return };
        let (first, outputs) = (self.catalog.get(view).name.clone(), self.catalog.get(view).outputs.clone());
        let now = self.names.fresh_or_quoted("name", &mut self.dice);
        let (how, rename) =
            match self.dice.choose(&[("view renamed", 2, 0), ("view column renamed", 2, 1), ("view moved", 1, 2)]) {
                0 => (format!("RENAME TO {now}"), Rename::Relation { first, now }),
                1 => {
                    let first = self.dice.pick(&outputs).name.clone();
                    let old = self.naming.output(view, &first);
                    (format!("RENAME COLUMN {old} TO {now}"), Rename::Output { view, first, now })
                }
                _ => {
                    let now = other_schema(self.naming.schema_of(&first));
                    (format!("SET SCHEMA {now}"), Rename::Schema { first, now })
                }
            };
        let step = self.on_view(view, sql!["ALTER MATERIALIZED VIEW ", view, format!(" {how}")]);
        self.emit(Step { rename: Some(rename), ..step });
    }
}
