//! The rows that TRUNCATE removes.
//!
//! 1. A trigger before the statement reads the rows of each table (`member_rows.rs`, which has the proof). The server has locked all
//!    tables of the statement by then, those that CASCADE added too, and has checked everything that may refuse it.
//! 2. All such triggers of all the tables come first, the user's own too, which may change the tables still. Such a change fires a
//!    capture trigger; what was noted of that source is dropped then.
//! 3. When the tables are empty the triggers after the statement run, for each table. If the rows of this one were read, the views are told of
//!    them; else they are due for recompute.
//!
//! Rows of all tables of one statement count together: TRUNCATE of a partitioned table names all its partitions.

use super::cache::Feed;
use super::{ddl, member_rows};
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::source::{self, Source};
use crate::pg::relation::Relation;
use crate::pg::xact::Subtransaction;
use pgrx::pg_sys;
use std::cell::RefCell;

/// What was read of one source.
struct Reading {
    source: pg_sys::Oid,
    at: Subtransaction,
    tables: Vec<pg_sys::Oid>,
    /// Of all these tables.
    pages: u64,
    rows: u64,
    /// They are too many; no more are read.
    refused: bool,
}

thread_local! {
    /// Of the statement in progress. One that failed may leave some, of a subtransaction that is over.
    static READINGS: RefCell<Vec<Reading>> = const { RefCell::new(Vec::new()) };
}

/// Before the rows of `table`, which feeds a source, are gone. Locks no further table: who truncates the parent may wait for us.
pub fn before(feed: &Feed, table: &Relation) {
    let Some(found) = source::get(feed.source) else { return };
    let mut reading = take(feed.source).unwrap_or_else(|| Reading::of(feed.source));
    reading.add(&found, feed, table);
    READINGS.with_borrow_mut(|readings| readings.push(reading));
}

/// When they are gone.
pub fn after(source: pg_sys::Oid, table: pg_sys::Oid) {
    let Some(found) = source::get(source) else { return };
    let Some(mut reading) = take(source).filter(|reading| !reading.refused && reading.tables.contains(&table)) else {
        return ddl::recompute(&found, RecomputeReason::SourceTruncated);
    };
    ddl::note_moved(&found, RecomputeReason::SourceTruncated, std::mem::take(&mut reading.rows));
    READINGS.with_borrow_mut(|readings| readings.push(reading));
}

/// A statement has changed rows of `source`: what was read of it may not be all.
pub fn overtaken(source: pg_sys::Oid) {
    if READINGS.with_borrow(|readings| !readings.is_empty()) {
        take(source);
    }
}

/// The reading of `source` in this statement.
fn take(source: pg_sys::Oid) -> Option<Reading> {
    let now = Subtransaction::current();
    READINGS.with_borrow_mut(|readings| {
        readings.retain(|reading| reading.at == now);
        readings.iter().position(|reading| reading.source == source).map(|at| readings.swap_remove(at))
    })
}

impl Reading {
    fn of(source: pg_sys::Oid) -> Self {
        Self { source, at: Subtransaction::current(), tables: vec![], pages: 0, rows: 0, refused: false }
    }

    fn add(&mut self, source: &Source, feed: &Feed, table: &Relation) {
        if !self.refused {
            self.tables.push(table.oid());
            let fetches = feed.image.fetches();
            self.pages += member_rows::pages_of(table, fetches);
            self.refused = !member_rows::are_few(source, self.pages, &self.tables, fetches);
        }
        if !self.refused {
            self.rows += member_rows::write_to(feed, table, -1);
        }
    }
}
