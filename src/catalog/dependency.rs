//! Which stream table reads which relations (base tables, partitioned roots, upstream stream tables, and what capture
//! cannot see).

use super::{DEPENDENCY, DEPENDENCY_KEY, DEPENDENCY_SOURCE, stream_table};
use crate::pg::catalog_table::{Row, Rows, value};
use crate::wakeup;
use pgrx::pg_sys;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub source: pg_sys::Oid,
    /// False: changes cannot be seen, the view is recomputed.
    pub capturable: bool,
    /// Attribute numbers read, ascending; 0 stands for the whole row.
    pub columns: Vec<i16>,
}

mod column {
    pub const VIEW: i16 = 1;
    pub const SOURCE: i16 = 2;
    pub const CAPTURABLE: i16 = 3;
    pub const COLUMNS: i16 = 4;
}

fn read(row: &Row) -> Dependency {
    Dependency {
        source: row.must(column::SOURCE),
        capturable: row.must(column::CAPTURABLE),
        columns: row.must(column::COLUMNS),
    }
}

/// What a view reads, in oid order.
pub fn sources_of(view: pg_sys::Oid) -> Vec<Dependency> {
    let table = DEPENDENCY.open_for_read();
    table.find(DEPENDENCY_KEY.oid(), column::VIEW, view, Rows::Latest).iter().map(read).collect()
}

/// The stream tables that read a relation directly.
pub fn dependants_of(source: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    dependencies_on(source, |row| row.must(column::VIEW))
}

fn dependencies_on<T>(source: pg_sys::Oid, read: impl FnMut(&Row) -> T) -> Vec<T> {
    if DEPENDENCY.find().is_none() {
        return Vec::new();
    }
    let table = DEPENDENCY.open_for_read();
    table.find(DEPENDENCY_SOURCE.oid(), column::SOURCE, source, Rows::Latest).iter().map(read).collect()
}

/// The stream tables that read the captured changes of a relation directly.
pub fn readers_of(source: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    dependants_of(source).into_iter().filter(|view| stream_table::is_captured(*view)).collect()
}

/// The columns of a relation whose captured changes stream tables read, in no order and some more than once.
pub fn columns_read(source: pg_sys::Oid) -> Vec<i16> {
    let reads = dependencies_on(source, |row| (row.must(column::VIEW), read(row).columns));
    reads.into_iter().filter(|(view, _)| stream_table::is_captured(*view)).flat_map(|(_, columns)| columns).collect()
}

/// Every (view, source) pair in no order.
pub fn all() -> Vec<(pg_sys::Oid, Dependency)> {
    DEPENDENCY.open_for_read().all().iter().map(|row| (row.must(column::VIEW), read(row))).collect()
}

/// Sets what a view reads.
pub fn replace(view: pg_sys::Oid, dependencies: &[Dependency]) {
    wakeup::graph_changed();
    let table = DEPENDENCY.open_for_write();
    for row in table.find(DEPENDENCY_KEY.oid(), column::VIEW, view, Rows::Latest) {
        table.delete(&row);
    }
    for dependency in dependencies {
        let Dependency { source, capturable, columns } = dependency.clone();
        table.insert(&[value(view), value(source), value(capturable), value(columns)]);
    }
}
