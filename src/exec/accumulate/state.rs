//! The state table at run time: a store of one row per group.
//!
//! Columns: the keys, `rows` (input rows of the group), the counts, the states, and where keys may be too long for an
//! index, a hash of theirs by which the index finds candidates. Each group is written at most once
//! in a run, so what the query's snapshot shows is what the last refresh left.

use super::keys::Keys;
use crate::catalog::state::Layout;
use crate::circuit::Accumulate;
use crate::error::cannot_happen;
use crate::exec::fold::definition::Definition;
use crate::exec::node::Node;
use crate::exec::store::{MANY, Search, Store};
use crate::pg::identity::AsOwner;
use crate::pg::image::{Row, Shape};
use crate::pg::internal_table::Column;
use crate::pg::slot::Slot;
use pgrx::pg_sys::{self, Datum, NullableDatum};

/// How the row of a group is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// By the unique index over the keys.
    Key,
    /// By the index over a hash of the keys, which is the last column.
    Hash,
    /// Without keys there is one row.
    Only,
}

impl FoundBy {
    pub fn of(spec: &Accumulate) -> Self {
        match spec.keys.len() {
            0 => Self::Only,
            _ if spec.is_found_by_hash() => Self::Hash,
            _ => Self::Key,
        }
    }

    /// The index's columns (attribute numbers) in a table of so many keys and columns.
    fn columns(self, keys: usize, columns: usize) -> Vec<i16> {
        match self {
            Self::Key => (1..=keys as i16).collect(),
            Self::Hash => vec![columns as i16],
            Self::Only => Vec::new(),
        }
    }
}

/// The state table of such an operator.
pub fn layout(spec: &Accumulate, owner: &AsOwner) -> Layout {
    let (columns, found_by) = (columns(spec, owner), FoundBy::of(spec));
    let key = found_by.columns(spec.keys.len(), columns.len());
    Layout { columns, key, unique: found_by == FoundBy::Key }
}

fn columns(spec: &Accumulate, owner: &AsOwner) -> Vec<Column> {
    let definitions: Vec<Definition> =
        spec.aggregates.iter().map(|aggregate| Definition::resolve(aggregate, owner)).collect();
    let keys = (1..).zip(&spec.keys).map(|(number, key)| Column {
        name: format!("k{number}"),
        typid: key.typid,
        typmod: key.typmod,
        collation: key.collation,
        storage: None,
    });
    let numbered = || (1..).zip(&definitions);
    let counts = numbered().filter(|(_, definition)| definition.has_count());
    let hash = spec.is_found_by_hash().then(|| Column::new("hash", pg_sys::INT8OID));
    keys.chain([Column::new("rows", pg_sys::INT8OID)])
        .chain(counts.map(|(number, _)| Column::new(format!("c{number}"), pg_sys::INT8OID)))
        .chain(numbered().map(|(number, definition)| Column::new(format!("s{number}"), definition.state_type())))
        .chain(hash)
        .collect()
}

/// What is going to be written.
#[derive(Clone, Copy)]
pub enum Expect {
    /// All groups: the table is empty, and not searched.
    AllGroups,
    /// Changes of about so many groups.
    Groups(f64),
}

pub struct StateTable {
    store: Store,
    search: Search,
    /// The row to be written.
    written: Slot,
    shape: Shape,
    keys: usize,
    found_by: FoundBy,
}

impl StateTable {
    pub fn open(relid: pg_sys::Oid, keys: usize, found_by: FoundBy, expect: Expect, node: Node) -> Self {
        // SAFETY: the query's snapshot and the open table outlive the scans and slots, which `close` ends.
        unsafe {
            let mut kept: Vec<usize> = (0..keys).collect();
            let mut store = Store::open(relid, (*node.estate()).es_snapshot, &kept);
            let desc = store.desc();
            let columns = found_by.columns(keys, (*desc).natts as usize);
            kept.extend(columns.iter().map(|&column| column as usize - 1));
            match expect {
                Expect::AllGroups => store.expect_all(),
                Expect::Groups(groups) if groups >= MANY => {
                    store.expect_many(&kept);
                    store.expect_share(groups / store.stored_rows());
                }
                Expect::Groups(_) => (),
            }
            let index = (!columns.is_empty()).then(|| {
                let index = store.index_on(&columns);
                index.unwrap_or_else(|| cannot_happen(format!("\"{}\" has no index on its key", store.name())))
            });
            let search = store.search(index);
            let written = Slot::make(desc, &raw const pg_sys::TTSOpsVirtual);
            Self { search, written, shape: Shape::of(desc), keys, found_by, store }
        }
    }

    /// Looks up the row of the current group; it stays valid until the next look-up.
    pub fn find(&mut self, group: &mut Keys) -> bool {
        match self.found_by {
            FoundBy::Key => {
                let key = group.row();
                self.search.start((0..self.keys).map(|column| key.at(column)));
            }
            FoundBy::Hash => self.search.start([hash(group)]),
            FoundBy::Only => self.search.start([]),
        }
        while let Some(found) = self.search.next() {
            if self.found_by != FoundBy::Hash || group.has(found) {
                return true;
            }
        }
        false
    }

    /// The row last found.
    pub fn row(&self) -> Row<'_> {
        self.search.found().row(self.shape.len())
    }

    /// Number of input rows of the group last found.
    pub fn rows(&self) -> i64 {
        self.row().values[self.keys].value() as i64
    }

    /// What follows the keys and `rows` in the row last found.
    pub fn states(&self) -> impl Iterator<Item = NullableDatum> {
        let row = self.row();
        let hashes = usize::from(self.found_by == FoundBy::Hash);
        (self.keys + 1..row.values.len() - hashes).map(move |column| row.at(column))
    }

    /// Adds a group.
    pub fn insert(&mut self, group: &mut Keys, rows: i64, states: &[NullableDatum]) {
        self.form(group, rows, states);
        // SAFETY: the slot holds a row of the open table.
        unsafe { self.store.insert(self.written) };
    }

    /// Replaces the row last found, unless nothing in it changes.
    pub fn update(&mut self, group: &mut Keys, rows: i64, states: &[NullableDatum]) {
        self.form(group, rows, states);
        // SAFETY: both slots hold rows of the open table, one of them a stored one.
        unsafe {
            if !self.shape.equal(self.row(), self.written.row(self.shape.len())) {
                self.store.update((*self.search.found().as_ptr()).tts_tid, self.written);
            }
        }
    }

    /// Removes the row last found.
    pub fn delete(&mut self) {
        // SAFETY: the slot holds a stored row of the open table.
        unsafe { self.store.delete((*self.search.found().as_ptr()).tts_tid) };
    }

    /// Ends the scans and closes the table; its lock is kept.
    pub fn close(&mut self) {
        self.search.end();
        self.written.drop();
        self.store.end();
    }

    fn form(&mut self, group: &mut Keys, rows: i64, states: &[NullableDatum]) {
        let slot = self.written.as_ptr();
        self.written.store(group.row(), &[Datum::from(rows)]);
        let hash = (self.found_by == FoundBy::Hash).then(|| hash(group));
        if self.keys + 1 + states.len() + hash.iter().len() != self.shape.len() {
            cannot_happen("state table has other columns than its aggregates");
        }
        for (index, state) in states.iter().chain(&hash).enumerate() {
            // SAFETY: the slot has room for the table's columns, counted above.
            unsafe {
                *(*slot).tts_values.add(self.keys + 1 + index) = state.value;
                *(*slot).tts_isnull.add(self.keys + 1 + index) = state.isnull;
            }
        }
    }
}

fn hash(group: &mut Keys) -> NullableDatum {
    NullableDatum { value: Datum::from(group.hash()), isnull: false }
}
