//! What blocks keep between refreshes: state tables and hidden relations.
//!
//! - `pgtrickle_internal.state_<view oid>_<block>`: what a stateful block remembers of its groups: the group keys `k1..`, `rows`
//!   (input rows of the group), then for the aggregates `c1..` (values in the state, where that may differ from `rows`) and
//!   `s1..` (the states). A unique btree over the keys takes NULLs for equal, as GROUP BY does. Keys that may be too long for it
//!   are found by a hash of theirs in a last column, `hash`.
//! - `pgtrickle_internal.block_<view oid>_<block>`: the output of a block below the top, columns `c1..`, for the blocks that read it.
//!
//! Pages are left with room for heap-only updates.

use super::{STATE, STATE_KEY, schema};
use crate::pg::catalog_table::{Row, Rows, value};
use crate::pg::internal_table::{self, Column};
use pgrx::pg_sys;

/// Columns of pgtrickle_internal.state.
const VIEW: i16 = 1;
const BLOCK: i16 = 2;
const RELID: i16 = 3;
const FORMAT_OF: i16 = 4;
const IS_OUTPUT: i16 = 5;

/// What the tables and the values in them look like. To be raised with any change of that: what has another format is
/// made anew by the next refresh. Those of release 0.1.0 have 0.
const FORMAT: i16 = 1;

const FILLFACTOR: (&str, &str) = ("fillfactor", "70");

/// Which of a block's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    State,
    /// The hidden relation.
    Output,
}

impl Part {
    fn prefix(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Output => "block",
        }
    }
}

/// A table that a block keeps.
pub struct Kept {
    pub relid: pg_sys::Oid,
    block: i16,
    part: Part,
}

impl Kept {
    /// Whether the table still looks like this.
    pub fn looks_like(&self, layout: &Layout) -> bool {
        internal_table::is_as_made(self.relid, &layout.columns, &layout.key, layout.unique)
    }

    pub fn is(&self, block: usize, part: Part) -> bool {
        self.block as usize == block && self.part == part
    }
}

/// What such a table looks like; the operator decides.
pub struct Layout {
    pub columns: Vec<Column>,
    /// The columns rows are found by, through an index; none when there is but one, or another index.
    pub key: Vec<i16>,
    /// The key tells groups apart.
    pub unique: bool,
}

/// Creates and registers a table of a block.
pub fn create(view: pg_sys::Oid, block: i16, part: Part, layout: &Layout) -> pg_sys::Oid {
    let name = format!("{}_{}_{block}", part.prefix(), view.to_u32());
    let relid = internal_table::create(schema(), &name, &layout.columns, FILLFACTOR);
    if !layout.key.is_empty() {
        internal_table::create_index(relid, &layout.key, layout.unique);
    }
    STATE.open_for_write().insert(&[
        value(view),
        value(block),
        value(relid),
        value(FORMAT),
        value(part == Part::Output),
    ]);
    relid
}

/// The tables of a view's blocks.
pub fn of(view: pg_sys::Oid) -> Vec<Kept> {
    let part = |row: &Row| if row.must(IS_OUTPUT) { Part::Output } else { Part::State };
    let kept = |row: Row| Kept { relid: row.must(RELID), block: row.must(BLOCK), part: part(&row) };
    rows(view).into_iter().map(kept).collect()
}

/// The tables of a view's blocks, if it has any, are of the present format.
pub fn are_readable(view: pg_sys::Oid) -> bool {
    rows(view).iter().all(|row| row.get(FORMAT_OF) == Some(FORMAT))
}

/// Empties the tables of a view's blocks, before its whole contents are computed anew.
pub fn clear_all(view: pg_sys::Oid) {
    for row in rows(view) {
        internal_table::clear(row.must(RELID));
    }
}

/// Drops and forgets the tables of a view's blocks.
pub fn drop_all(view: pg_sys::Oid) {
    let table = STATE.open_for_write();
    for row in table.find(STATE_KEY.oid(), VIEW, view, Rows::Latest) {
        table.delete(&row);
        internal_table::drop(row.must(RELID));
    }
}

fn rows(view: pg_sys::Oid) -> Vec<Row> {
    STATE.open_for_read().find(STATE_KEY.oid(), VIEW, view, Rows::Latest)
}
