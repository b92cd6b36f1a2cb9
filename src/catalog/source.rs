//! One row per relation whose changes are captured: where they go, what of them, and by which triggers.

use super::{SOURCE, SOURCE_KEY};
use crate::error::cannot_happen;
use crate::pg::catalog_table::{CatalogTable, Row, Rows, Value, value};
use pgrx::pg_sys;

/// Which triggers capture a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Statement triggers with transition tables: a statement fires those of its target.
    Statement,
    /// Row triggers: fire whatever the target was, and in replication apply workers.
    Row,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub relid: pg_sys::Oid,
    /// The two heaps that make up its change buffer.
    pub segments: [pg_sys::Oid; 2],
    /// Which of them writers use; a hint, readers always read both.
    pub active: usize,
    pub level: Level,
    /// How changes are captured: `trigger`.
    pub cdc: String,
    /// Captured attribute numbers, ascending.
    pub columns: Vec<i16>,
    /// The relation and its inheritance children and partitions, ascending: whose rows are its rows.
    pub members: Vec<pg_sys::Oid>,
    /// Fingerprint of what decides the meaning of stored rows (layout, generation expressions).
    pub shape: i64,
    /// Fingerprint of the constraints the planner may draw proofs from.
    pub proofs: i64,
}

/// Column numbers, in table order.
mod column {
    pub const RELID: i16 = 1;
    pub const SEGMENT_A: i16 = 2;
    pub const SEGMENT_B: i16 = 3;
    pub const ACTIVE: i16 = 4;
    pub const LEVEL: i16 = 5;
    pub const CDC: i16 = 6;
    pub const COLUMNS: i16 = 7;
    pub const MEMBERS: i16 = 8;
    pub const SHAPE: i16 = 9;
    pub const PROOFS: i16 = 10;
}

const SEGMENT_NAMES: [i8; 2] = [b'a' as i8, b'b' as i8];

impl Level {
    fn as_char(self) -> i8 {
        match self {
            Level::Statement => b's' as i8,
            Level::Row => b'r' as i8,
        }
    }

    fn from_char(level: i8) -> Self {
        match level as u8 {
            b's' => Level::Statement,
            b'r' => Level::Row,
            other => cannot_happen(format!("unknown capture level {other}")),
        }
    }
}

impl Source {
    fn read(row: &Row) -> Self {
        let active: i8 = row.must(column::ACTIVE);
        Self {
            relid: row.must(column::RELID),
            segments: [row.must(column::SEGMENT_A), row.must(column::SEGMENT_B)],
            active: usize::from(active == SEGMENT_NAMES[1]),
            level: Level::from_char(row.must(column::LEVEL)),
            cdc: row.must(column::CDC),
            columns: row.must(column::COLUMNS),
            members: row.must(column::MEMBERS),
            shape: row.must(column::SHAPE),
            proofs: row.must(column::PROOFS),
        }
    }

    /// Everything but the key, as changes to a row.
    fn changes(&self) -> [(i16, Value); 9] {
        [
            (column::SEGMENT_A, value(self.segments[0])),
            (column::SEGMENT_B, value(self.segments[1])),
            (column::ACTIVE, value(SEGMENT_NAMES[self.active])),
            (column::LEVEL, value(self.level.as_char())),
            (column::CDC, value(self.cdc.as_str())),
            (column::COLUMNS, value(self.columns.clone())),
            (column::MEMBERS, value(self.members.clone())),
            (column::SHAPE, value(self.shape)),
            (column::PROOFS, value(self.proofs)),
        ]
    }
}

fn row_of(table: &CatalogTable, relid: pg_sys::Oid) -> Option<Row> {
    table.get(SOURCE_KEY.oid(), column::RELID, relid)
}

/// The source with this oid; None when its changes are not captured.
pub fn get(relid: pg_sys::Oid) -> Option<Source> {
    SOURCE.find()?;
    row_of(&SOURCE.open_for_read(), relid).map(|row| Source::read(&row))
}

/// The source as the active snapshot sees it.
pub fn seen(relid: pg_sys::Oid) -> Option<Source> {
    let rows = SOURCE.open_for_read().find(SOURCE_KEY.oid(), column::RELID, relid, Rows::Active);
    rows.first().map(Source::read)
}

/// Every source of this database.
pub fn all() -> Vec<Source> {
    if SOURCE.find().is_none() {
        return Vec::new();
    }
    let mut sources: Vec<_> = SOURCE.open_for_read().all().iter().map(Source::read).collect();
    sources.sort_unstable_by_key(|source| source.relid.to_u32());
    sources
}

/// Starts remembering a source.
pub fn insert(source: &Source) {
    let mut values = vec![value(source.relid)];
    values.extend(source.changes().into_iter().map(|(_, value)| value));
    SOURCE.open_for_write().insert(&values);
}

/// Replaces the row of a source.
pub fn update(source: &Source) {
    let table = SOURCE.open_for_write();
    match row_of(&table, source.relid) {
        Some(row) => table.update(&row, &source.changes()),
        None => cannot_happen(format!("source {} is not registered", source.relid.to_u32())),
    }
}

/// Forgets a source.
pub fn delete(relid: pg_sys::Oid) {
    let table = SOURCE.open_for_write();
    for row in table.find(SOURCE_KEY.oid(), column::RELID, relid, Rows::Latest) {
        table.delete(&row);
    }
}
