//! Members that leave a source with their rows: DETACH PARTITION, NO INHERIT, DROP TABLE.
//!
//! Before the server executes such a statement, `expect` notes which tables it names and what they contribute to the
//! fingerprints of their sources. The server then locks, checks permissions, fires event triggers. At the moment it takes a table out of
//! the inheritance tree its object access hook tells us, and the rows are read (`member_rows.rs`, which has the proof):
//!
//! | statement | the hook | locks by then |
//! |---|---|---|
//! | DETACH PARTITION, NO INHERIT | the row of pg_inherits has just been deleted | AccessExclusiveLock on the table; the tables below it are locked now |
//! | DROP TABLE | a toast index is about to be deleted, or the table if it has none | AccessExclusiveLock on all that is dropped |
//!
//! What depends on a table is dropped before it, its toast table too: by the time of the table itself long values would be out of
//! reach. Between the hook and the deletion, or the end of the tree's change, no user's code runs, so nothing changes the rows any more.
//! After it the table feeds the source no longer: its pg_inherits row is gone, and the caches of who writes to it are told.
//!
//! At the end of the statement `ddl.rs` finds that members have left. If all of their rows were `taken` along, no recompute is
//! ordered. Whatever does not fit leads to the recompute: a table that was not named (DROP SCHEMA, DROP OWNED), one that stays a member
//! through another parent, several subcommands in one ALTER TABLE (an altered column is not rewritten yet when the tree
//! changes), rows that are too many, an error in between.

use super::fingerprint;
use super::{family, member_rows};
use crate::catalog::source::{self, Source};
use crate::pg::catalog_table::Rows;
use crate::pg::names;
use crate::pg::relation::Relation;
use crate::pg::xact::Subtransaction;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::Rc;

/// How members leave.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// With DROP TABLE.
    Dropped,
    /// With DETACH PARTITION or NO INHERIT.
    Detached,
}

/// Tables that are to leave a source.
struct Departure {
    source: pg_sys::Oid,
    how: How,
    /// The table that the statement names.
    top: pg_sys::Oid,
    members: Vec<Member>,
    /// All tables that the statement takes from the source, and whether that is cheap enough, once we know.
    moving: Rc<[pg_sys::Oid]>,
    cheap: Option<bool>,
    /// They stay behind by our decision or for want of knowledge: the views are recomputed.
    refused: bool,
    /// Sums of what the members contribute to the source's fingerprints.
    shape: i64,
    proofs: i64,
}

struct Member {
    relid: pg_sys::Oid,
    toast: pg_sys::Oid,
    /// The rows taken along, and in which subtransaction: they may have been taken back with another one.
    taken: Option<(u64, Subtransaction)>,
}

/// What a statement has taken along of one source.
#[derive(Default)]
pub struct Taken {
    pub members: Vec<pg_sys::Oid>,
    pub rows: u64,
    /// Sums of what they contributed to its fingerprints.
    pub shape: i64,
    pub proofs: i64,
}

thread_local! {
    /// Those of the statement in progress. What a statement that failed has left is for tables that are there again, taken in a
    /// subtransaction that is over; the next statement of these kinds replaces it.
    static EXPECTED: RefCell<Vec<Departure>> = const { RefCell::new(Vec::new()) };
}

/// To be called before a statement that drops or detaches these tables, and with none before any other DROP or ALTER TABLE.
pub fn expect(how: How, tops: &[pg_sys::Oid]) {
    let expected = if tops.is_empty() { Vec::new() } else { departures(how, tops) };
    EXPECTED.set(expected);
}

fn departures(how: How, tops: &[pg_sys::Oid]) -> Vec<Departure> {
    let sources = source::all();
    let known = |top: &pg_sys::Oid| sources.iter().any(|source| source.members.contains(top) && source.relid != *top);
    let tops: Vec<pg_sys::Oid> = tops.iter().copied().filter(known).collect();
    let trees: Vec<_> = tops.iter().map(|&top| (top, family::members(top, pg_sys::NoLock))).collect();
    let goes = |relid: pg_sys::Oid| trees.iter().any(|(_, tree)| tree.contains(&relid));
    let mut departures = Vec::new();
    for source in sources.iter().filter(|source| !goes(source.relid)) {
        let moving: Rc<[_]> = source.members.iter().copied().filter(|member| goes(*member)).collect();
        for (top, tree) in trees.iter().filter(|(top, _)| moving.contains(top)) {
            let none = Departure {
                source: source.relid,
                how,
                top: *top,
                members: vec![],
                moving: moving.clone(),
                cheap: None,
                refused: false,
                shape: 0,
                proofs: 0,
            };
            departures.extend(none.of(source, tree));
        }
    }
    departures
}

impl Departure {
    /// With these members; None when one of the tables has just been dropped, or is a foreign one, which we do not read.
    fn of(mut self, source: &Source, tree: &[pg_sys::Oid]) -> Option<Self> {
        briefly(source.relid, |parent| {
            for &relid in tree {
                let ours = briefly(relid, |member| {
                    let share = fingerprint::share_of_shape(&source.columns, parent, member);
                    self.shape = self.shape.wrapping_add(share);
                    self.members.push(Member { relid, toast: member.form().reltoastrelid, taken: None });
                    member.form().relkind as u8 != pg_sys::RELKIND_FOREIGN_TABLE
                })?;
                if !ours {
                    return None;
                }
                self.proofs = self.proofs.wrapping_add(fingerprint::share_of_proofs(relid));
            }
            Some(self)
        })?
    }

    /// All that the statement takes from the source is locked.
    fn is_cheap(&mut self, source: &Source) -> bool {
        let moving = &self.moving;
        *self.cheap.get_or_insert_with(|| member_rows::is_cheap(source, moving))
    }
}

/// Looks at a table without keeping a lock: the statement takes its own, stronger one, and nobody may wait for us meanwhile.
fn briefly<R>(relid: pg_sys::Oid, look: impl FnOnce(&Relation) -> R) -> Option<R> {
    let relation = Relation::try_open(relid, pg_sys::AccessShareLock)?;
    let result = look(&relation);
    drop(relation);
    // SAFETY: taken above; what the transaction holds besides, it keeps.
    unsafe { pg_sys::UnlockRelationOid(relid, pg_sys::AccessShareLock as i32) };
    Some(result)
}

/// The object access hook: a relation is about to be deleted, by a statement that holds every lock it needs.
pub fn on_drop(relid: pg_sys::Oid) {
    if EXPECTED.with_borrow(Vec::is_empty) {
        return;
    }
    let toast = if names::is_index(relid) { names::table_of_index(relid) } else { None };
    each(How::Dropped, |departure, source| {
        let concerned = |member: &Member| member.relid == relid || toast == Some(member.toast);
        let Some(at) = departure.members.iter().position(concerned) else { return };
        if departure.members[at].taken.is_some() {
            return;
        }
        // Its toast table is another one than when we looked, and gone already.
        let late = toast.is_none() && toast_of(relid) != pg_sys::InvalidOid;
        departure.refused |= late || !departure.is_cheap(source);
        if !departure.refused {
            departure.members[at].take(source);
        }
    });
}

fn toast_of(relid: pg_sys::Oid) -> pg_sys::Oid {
    Relation::open(relid, pg_sys::AccessShareLock).form().reltoastrelid
}

/// The object access hook: a table has got another parent, or one less.
pub fn on_inheritance(child: pg_sys::Oid) {
    if EXPECTED.with_borrow(Vec::is_empty) {
        return;
    }
    each(How::Detached, |departure, source| {
        if departure.top != child {
            return;
        }
        let tree = family::members(child, pg_sys::ShareRowExclusiveLock);
        let same = tree.iter().eq(departure.members.iter().map(|member| &member.relid));
        departure.refused |= !same || !family::is_closed(child, &tree, Rows::Latest);
        departure.refused |= !departure.refused && !departure.is_cheap(source);
        if !departure.refused {
            departure.members.iter_mut().for_each(|member| member.take(source));
        }
        // Who writes to them looks again what they feed.
        // SAFETY: they exist, and are locked.
        tree.into_iter().for_each(|member| unsafe { pg_sys::CacheInvalidateRelcacheByRelid(member) });
    });
}

/// Visits the expected departures that are still possible, with their sources.
fn each(how: How, mut visit: impl FnMut(&mut Departure, &Source)) {
    // After an error in between nothing is expected any more.
    let mut expected = EXPECTED.take();
    for departure in expected.iter_mut().filter(|departure| departure.how == how && !departure.refused) {
        match source::get(departure.source) {
            Some(source) => visit(departure, &source),
            None => departure.refused = true,
        }
    }
    EXPECTED.set(expected);
}

impl Member {
    fn take(&mut self, source: &Source) {
        self.taken = Some((member_rows::write(source, self.relid, -1), Subtransaction::current()));
    }
}

/// What the statement that is ending has taken along of a source; it is not told again.
pub fn taken(source: pg_sys::Oid) -> Taken {
    let mut taken = Taken::default();
    EXPECTED.with_borrow_mut(|expected| {
        expected.iter().filter(|departure| departure.source == source).for_each(|departure| taken.add(departure));
        expected.retain(|departure| departure.source != source);
    });
    taken
}

impl Taken {
    fn add(&mut self, departure: &Departure) {
        let now = Subtransaction::current();
        let in_time = |member: &&Member| member.taken.is_some_and(|(_, at)| at == now);
        let members: Vec<&Member> = departure.members.iter().filter(in_time).collect();
        self.rows += members.iter().filter_map(|member| member.taken).map(|(rows, _)| rows).sum::<u64>();
        self.members.extend(members.iter().map(|member| member.relid));
        if members.len() == departure.members.len() {
            self.shape = self.shape.wrapping_add(departure.shape);
            self.proofs = self.proofs.wrapping_add(departure.proofs);
        }
    }
}
