//! Inheritance and partitioning: whose rows are a source's rows, and which statements change them.
//!
//! A source's *members* are itself and everything below it. A statement fires the statement triggers of its target
//! only, in the target's format, so statement triggers on the members see every change of the source's rows if and only
//! if every possible target, that is every ancestor of a member, is a member too. Otherwise (a partition used directly,
//! a child of two parents), and where rows arrive without statements (replication), row triggers on the members do. They
//! also serve a family with a foreign table: it cannot be captured, but with transition tables statements would fail.
//!
//! Partitioned tables always have row triggers: the server's transition tables are wrong for rows it routes. It puts such
//! a row there as it was before the partition computed stored generated columns (ExecPrepareTupleRouting), and an UPDATE
//! that follows an INSERT in one MERGE there appears with the inserted row as its new one (tcs_original_insert_tuple).

use crate::catalog::source::Level;
use crate::pg::catalog_table::{CatalogTable, Rows};
use crate::pg::relation::Relation;
use crate::pg::{facts, list, server};
use pgrx::pg_sys;

/// Catalogs by their fixed oids, and the attributes looked up in them.
mod inherits {
    pub const RELATION: u32 = 2611;
    pub const BY_CHILD: u32 = 2680;
    pub const CHILD: i16 = 1;
    pub const PARENT: i16 = 2;
    pub const DETACH_PENDING: i16 = 4;
}

mod subscription_rel {
    pub const RELATION: u32 = 6102;
    pub const BY_RELATION: u32 = 6117;
    pub const SRRELID: i16 = 2;
}

/// `relid` and everything below it, ascending; `relid` is locked already, the others are now.
pub fn members(relid: pg_sys::Oid, lock: u32) -> Vec<pg_sys::Oid> {
    // SAFETY: a guarded catalog look-up; the list lives in the current context.
    let mut members: Vec<pg_sys::Oid> = unsafe {
        let found = server::guarded(|| server::find_all_inheritors(relid, lock as i32, std::ptr::null_mut()));
        list::oids(found).collect()
    };
    members.sort_unstable_by_key(|oid| oid.to_u32());
    members
}

/// A partition is being detached concurrently, from the table or from a partition of it. Its rows are no longer the table's,
/// but changes of them may still come in, from transactions that were writing when it began; it ends after them.
pub fn is_detaching(relid: pg_sys::Oid) -> bool {
    let Some(table) = Relation::try_open(relid, pg_sys::AccessShareLock) else { return false };
    if table.form().relkind as u8 != pg_sys::RELKIND_PARTITIONED_TABLE {
        return false;
    }
    // SAFETY: the table is open, and so is what its descriptor says while the names are read.
    let (detaching, parents) = unsafe {
        let partitions = &*pg_sys::RelationGetPartitionDesc(table.as_ptr(), false);
        let all = (0..partitions.nparts as usize).filter(|&i| !*partitions.is_leaf.add(i));
        (partitions.detached_exist, all.map(|i| *partitions.oids.add(i)).collect::<Vec<_>>())
    };
    detaching || parents.into_iter().any(is_detaching)
}

/// `relid` and everything above it, ascending. A partition being detached has left its parent.
pub fn ancestors(relid: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    closure(vec![relid])
}

/// Whoever leaves the parent of `top` with the tables below it leaves all that is above: `tree`, these tables with `top`, has no
/// other parents than one of `top` and those inside.
pub fn is_closed(top: pg_sys::Oid, tree: &[pg_sys::Oid], rows: Rows) -> bool {
    let inherits = CatalogTable::open_for_read(inherits::RELATION.into());
    tree.iter().all(|&member| {
        let parents = inherits.find(inherits::BY_CHILD.into(), inherits::CHILD, member, rows);
        let outside = parents.iter().filter(|row| !tree.contains(&row.must(inherits::PARENT))).count();
        outside <= usize::from(member == top)
    })
}

/// `members` and all their ancestors, ascending.
fn closure(members: Vec<pg_sys::Oid>) -> Vec<pg_sys::Oid> {
    let inherits = CatalogTable::open_for_read(inherits::RELATION.into());
    let mut found = members;
    let mut next = 0;
    while next < found.len() {
        let rows = inherits.find(inherits::BY_CHILD.into(), inherits::CHILD, found[next], Rows::Latest);
        for row in rows.iter().filter(|row| !row.must::<bool>(inherits::DETACH_PENDING)) {
            let parent = row.must(inherits::PARENT);
            if !found.contains(&parent) {
                found.push(parent);
            }
        }
        next += 1;
    }
    found.sort_unstable_by_key(|oid| oid.to_u32());
    found
}

/// The triggers that see every change of the rows of `members` (a whole family, ascending).
pub fn level(members: &[pg_sys::Oid]) -> Level {
    let targets = closure(members.to_vec());
    let special =
        |&relid: &pg_sys::Oid| is_subscribed(relid) || facts::relation_kind(relid).0 == pg_sys::RELKIND_FOREIGN_TABLE;
    let routed = |&relid: &pg_sys::Oid| {
        Relation::try_open(relid, pg_sys::AccessShareLock).is_some_and(|r| r.is_of_partitioned())
    };
    if targets == members && !targets.iter().any(special) && !members.iter().any(routed) {
        Level::Statement
    } else {
        Level::Row
    }
}

/// A logical-replication subscription feeds the table.
fn is_subscribed(relid: pg_sys::Oid) -> bool {
    let table = CatalogTable::open_for_read(subscription_rel::RELATION.into());
    table.get(subscription_rel::BY_RELATION.into(), subscription_rel::SRRELID, relid).is_some()
}
