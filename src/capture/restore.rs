//! Capture triggers while pg_upgrade restores a database's schema, so that no write to the new cluster is missed.
//!
//! pg_dump leaves internal triggers out, for pg_upgrade too. The rows of our own catalog come with their data files, after
//! the schema is restored: until then nothing but the views' definitions says what will be captured. So a table gets
//! triggers here if a stream table's query reads it, directly, through plain views or in row security policies, and so do
//! its partitions and children, in whatever order the dump attaches them. pg_upgrade restores a database in one session,
//! which is why the session can remember what it has seen.
//!
//! Which level the catalog names for a source is not known either, and may depend on what is restored later. A trigger
//! that no source needs captures nothing, and one that a source needs is there:
//! * row triggers are on every table with rows;
//! * statement triggers are on the whole family of every source whose level is `Statement` as the schema stands, and
//!   that is checked again after every statement that changes a family. What the schema does not say, that a subscription
//!   feeds a table, only ever calls for row triggers.
//!
//! What is too much goes with the first look at capture (repair.rs).

use super::{family, install, triggers};
use crate::catalog::source::Level;
use crate::pg::names;
use crate::pg::query::{self, Query};
use crate::pg::relation::Relation;
use hashbrown::{HashMap, HashSet};
use pgrx::pg_sys;
use std::cell::RefCell;

#[derive(Default)]
struct Restored {
    views: Vec<pg_sys::Oid>,
    /// What they read, with the level at which it has triggers.
    sources: HashMap<pg_sys::Oid, Level>,
    /// Created or altered since the last look.
    noted: Vec<pg_sys::Oid>,
}

thread_local!(static RESTORED: RefCell<Restored> = RefCell::default());

/// A stream table was restored.
pub fn note_view(view: pg_sys::Oid) {
    RESTORED.with_borrow_mut(|restored| {
        restored.views.push(view);
        restored.noted.push(view);
    });
}

/// A table was attached to another or got a policy, or a plain view its query.
pub fn note(relid: pg_sys::Oid) {
    RESTORED.with_borrow_mut(|restored| {
        if !restored.views.is_empty() {
            restored.noted.push(relid);
        }
    });
}

pub fn pending() -> bool {
    RESTORED.with_borrow(|restored| !restored.noted.is_empty())
}

/// At the end of a statement. A view may be restored before the trigger function, if another function needs its type: then
/// this is left to the end of a later statement.
pub fn settle() {
    if triggers::try_function().is_none() {
        return;
    }
    let mut restored = RESTORED.take();
    for relid in lowest(std::mem::take(&mut restored.noted)) {
        match names::kind(relid) {
            Some(pg_sys::RELKIND_MATVIEW) => restored.follow(&[relid]),
            Some(pg_sys::RELKIND_VIEW) => restored.follow(&restored.views.clone()),
            Some(_) => restored.joined(relid),
            None => (),
        }
    }
    RESTORED.set(restored);
}

/// Without those of which another one is a partition or child.
fn lowest(noted: Vec<pg_sys::Oid>) -> Vec<pg_sys::Oid> {
    if noted.len() == 1 {
        return noted;
    }
    let ancestors: Vec<_> = noted.iter().map(|&relid| (relid, family::ancestors(relid))).collect();
    let above = |relid| ancestors.iter().any(|(other, above)| *other != relid && above.contains(&relid));
    noted.iter().copied().filter(|&relid| !above(relid)).collect()
}

impl Restored {
    /// These views' queries, or policies of these tables, may read tables that have no triggers yet.
    fn follow(&mut self, readers: &[pg_sys::Oid]) {
        for table in tables_read(readers) {
            if !self.sources.contains_key(&table) {
                self.sources.insert(table, level(table));
                self.arm(table);
            }
        }
    }

    /// A table may have become part of a source's family.
    fn joined(&mut self, table: pg_sys::Oid) {
        let above = family::ancestors(table);
        let sources: Vec<_> = above.into_iter().filter(|relid| self.sources.contains_key(relid)).collect();
        if sources.is_empty() {
            return;
        }
        self.arm(table);
        for &source in &sources {
            let level = level(source);
            if self.sources.insert(source, level) != Some(level) {
                self.arm(source);
            }
        }
        self.follow(&sources);
    }

    /// Makes the triggers of a table and everything below it.
    fn arm(&self, table: pg_sys::Oid) {
        for member in install::exclude_writers(table) {
            let Some(kind) = names::kind(member) else { continue };
            if [pg_sys::RELKIND_RELATION, pg_sys::RELKIND_PARTITIONED_TABLE].contains(&kind) {
                let levels =
                    family::ancestors(member).into_iter().filter_map(|relid| self.sources.get(&relid).copied());
                let statement = levels.into_iter().any(|level| level == Level::Statement);
                triggers::reconcile_with(member, triggers::kinds(kind, statement, true));
            }
        }
    }
}

fn level(source: pg_sys::Oid) -> Level {
    // The same as `family::level`, without a look at every partition whenever one is attached.
    let routed = Relation::open(source, pg_sys::AccessShareLock).is_of_partitioned();
    if routed { Level::Row } else { family::level(&family::members(source, pg_sys::AccessShareLock)) }
}

/// The tables that these relations are or read, through plain views and policies.
fn tables_read(readers: &[pg_sys::Oid]) -> Vec<pg_sys::Oid> {
    let mut queue = readers.to_vec();
    let mut seen: HashSet<pg_sys::Oid> = queue.iter().copied().collect();
    let mut tables = vec![];
    while let Some(relid) = queue.pop() {
        let Some(kind) = names::kind(relid) else { continue };
        let relation = Relation::open(relid, pg_sys::AccessShareLock);
        let queries: Vec<Query> = match kind {
            pg_sys::RELKIND_VIEW => query::of_view(&relation).into_iter().collect(),
            pg_sys::RELKIND_MATVIEW if readers.contains(&relid) => query::of_view(&relation).into_iter().collect(),
            pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => {
                tables.push(relid);
                query::in_policies(&relation)
            }
            // A stream table's own refreshes capture it.
            _ => vec![],
        };
        let levels = queries.into_iter().flat_map(Query::nest);
        let read = levels.flat_map(|level| level.entries()).map(|entry| entry.get().relid);
        queue.extend(read.filter(|relid| *relid != pg_sys::InvalidOid && seen.insert(*relid)));
    }
    tables
}
