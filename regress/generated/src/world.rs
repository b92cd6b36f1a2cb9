//! What the generator knows about the database while it writes an episode: tables, views, and what a rollback undoes.
//!
//! The world holds shapes, not rows: a statement is written without knowing what the tables contain, so an episode is
//! fixed by its seed alone and can be replayed, cut and shrunk.

use std::collections::BTreeSet;

use crate::kinds::{Kind, Value};
use crate::query::Output;
use crate::sql::{Definitions, Sql, ViewId};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TableId(pub usize);

/// Tables that a statement on one of them may touch all: linked by foreign keys, inheritance or triggers. Locks and
/// staleness are reckoned by family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Family(pub usize);

#[derive(Clone, Debug)]
pub enum Role {
    Plain,
    /// Takes its own numbers, so that inserts need not collide.
    Id,
    Generated,
    Reference {
        table: String,
        key: String,
    },
    /// No view reads it: DDL may drop or rewrite it.
    Spare,
    /// Dropped; it stays in the list so that positions keep their meaning.
    Gone,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    pub role: Role,
    pub nulls: f64,
}

impl Column {
    pub fn is_writable(&self) -> bool {
        !matches!(self.role, Role::Generated | Role::Gone)
    }
}

#[derive(Clone, Debug)]
pub struct Leaf {
    pub name: String,
    pub parent: String,
    pub bounds: String,
    /// Values of the partition column that this leaf takes.
    pub takes: Option<(usize, Vec<Value>)>,
    pub attached: bool,
}

/// Row level security for the owner of views.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    None,
    Enabled,
    Disabled,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub id: TableId,
    pub name: String,
    pub columns: Vec<Column>,
    /// Positions of the primary key's columns; empty for a keyless table.
    pub key: Vec<usize>,
    /// The key holds over everything that reading the table reads (not so for an inheritance parent).
    pub key_is_unique: bool,
    pub family: Family,
    pub leaves: Vec<Leaf>,
    pub partition_column: Option<usize>,
    pub is_parent: bool,
    /// The table it inherits from.
    pub heir_of: Option<TableId>,
    /// An insert or update may violate something even when the key is new.
    pub is_strict: bool,
    /// A function calls it by its name.
    pub is_named_in_function: bool,
    pub policy: Policy,
    /// An updatable plain view over the table, and how many columns there were when it was made.
    pub window: Option<(String, usize)>,
    /// Most rows it should hold, and an upper guess of how many it does.
    pub cap: usize,
    pub rows: usize,
    pub next_id: i64,
}

impl Table {
    pub fn writable(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|&c| self.columns[c].is_writable()).collect()
    }

    /// Columns that views may read.
    pub fn readable(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|&c| !matches!(self.columns[c].role, Role::Spare | Role::Gone)).collect()
    }

    pub fn id_column(&self) -> Option<usize> {
        self.columns.iter().position(|c| matches!(c.role, Role::Id))
    }

    pub fn is_partitioned(&self) -> bool {
        self.partition_column.is_some()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ViewSort {
    /// A stream table.
    Stream,
    /// A materialized view that is not (or no longer) maintained.
    Released,
    /// An ordinary view.
    Plain,
}

/// A view's fixed part: what its CREATE statement says.
#[derive(Clone, Debug)]
pub struct Definition {
    pub name: String,
    pub query: Sql,
    pub outputs: Vec<Output>,
    /// Outputs that together are unique, when that is certain.
    pub key: Option<Vec<usize>>,
    /// Views it reads directly.
    pub parents: BTreeSet<ViewId>,
    /// All base tables below it, and their families.
    pub tables: BTreeSet<TableId>,
    pub families: BTreeSet<Family>,
    pub rows: f64,
    pub depth: usize,
    /// An ordinary view, with no contents of its own.
    pub is_plain: bool,
    /// Not the superuser's.
    pub is_owned: bool,
    /// Selects, joins and UNION ALL only.
    pub is_flat: bool,
}

/// A view's changing part.
#[derive(Clone, Copy, Debug)]
pub struct ViewState {
    pub alive: bool,
    pub sort: ViewSort,
    pub populated: bool,
}

/// Everything a transaction can change and a rollback restores.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub tables: Vec<Table>,
    pub views: Vec<ViewState>,
}

impl World {
    pub fn table(&self, id: TableId) -> &Table {
        &self.tables[id.0]
    }

    pub fn table_mut(&mut self, id: TableId) -> &mut Table {
        &mut self.tables[id.0]
    }

    pub fn materialized(&self) -> Vec<ViewId> {
        let is_materialized = |v: &ViewState| v.alive && v.sort != ViewSort::Plain;
        (0..self.views.len()).filter(|&i| is_materialized(&self.views[i])).map(ViewId).collect()
    }

    pub fn alive(&self) -> Vec<ViewId> {
        (0..self.views.len()).filter(|&i| self.views[i].alive).map(ViewId).collect()
    }

    pub fn sort(&self, view: ViewId) -> ViewSort {
        self.views[view.0].sort
    }

    /// Goes back to an earlier state. Names and numbers given out since are not given out again, and views defined
    /// since are dead.
    pub fn roll_back_to(&mut self, earlier: World) {
        let next_ids: Vec<i64> = self.tables.iter().map(|t| t.next_id).collect();
        let views = self.views.len();
        *self = earlier;
        for (table, next_id) in self.tables.iter_mut().zip(next_ids) {
            table.next_id = next_id;
        }
        self.views.resize(views, ViewState { alive: false, sort: ViewSort::Stream, populated: false });
    }
}

/// All views ever defined in an episode.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub definitions: Vec<Definition>,
}

impl Catalog {
    pub fn get(&self, view: ViewId) -> &Definition {
        &self.definitions[view.0]
    }

    /// The views below this one, each after everything it reads.
    pub fn ancestors(&self, view: ViewId) -> Vec<ViewId> {
        let mut found = BTreeSet::new();
        let mut todo = vec![view];
        while let Some(next) = todo.pop() {
            todo.extend(self.get(next).parents.iter().filter(|p| found.insert(**p)));
        }
        // A view is defined after its parents, so the order of definition is topological.
        found.into_iter().collect()
    }

    pub fn reads(&self, view: ViewId, other: ViewId) -> bool {
        self.ancestors(view).contains(&other)
    }
}

impl Definitions for Catalog {
    fn name(&self, view: ViewId) -> &str {
        &self.get(view).name
    }

    fn query(&self, view: ViewId) -> &Sql {
        &self.get(view).query
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn view(name: &str, query: Sql, parents: &[usize]) -> Definition {
        Definition {
            name: name.to_string(),
            query,
            outputs: vec![],
            key: None,
            parents: parents.iter().map(|p| ViewId(*p)).collect(),
            tables: BTreeSet::new(),
            families: BTreeSet::new(),
            rows: 1.0,
            depth: 0,
            is_plain: false,
            is_owned: false,
            is_flat: true,
        }
    }

    #[test]
    fn ancestors_come_in_order_of_definition() {
        let diamond = [
            view("a", Sql::default(), &[]),
            view("b", Sql::default(), &[0]),
            view("c", Sql::default(), &[0]),
            view("d", Sql::default(), &[1, 2]),
        ];
        let catalog = Catalog { definitions: diamond.to_vec() };
        assert_eq!(catalog.ancestors(ViewId(3)), [ViewId(0), ViewId(1), ViewId(2)]);
        assert!(!catalog.reads(ViewId(0), ViewId(3)));
    }

    #[test]
    fn rolling_back_buries_new_views() {
        let mut world = World::default();
        world.views.push(ViewState { alive: true, sort: ViewSort::Stream, populated: true });
        let saved = world.clone();
        world.views[0].alive = false;
        world.views.push(ViewState { alive: true, sort: ViewSort::Plain, populated: true });
        world.roll_back_to(saved);
        assert_eq!(world.alive(), [ViewId(0)]);
        assert_eq!(world.views.len(), 2);
    }
}
