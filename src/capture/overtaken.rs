//! Whether a refresh may have read a source with other members than those its snapshot knows.
//!
//! Members are found when a plan is made, in the catalog as it is then; rows are read at the snapshot of the refresh. The change
//! that rows of a member make by coming or going is in a buffer, and counts when the snapshot sees it. So what was computed must
//! be computed once more if the plan had
//!
//! 1. a member that came after the snapshot was taken, and whose rows it sees: the change will be seen by the next refresh. An empty
//!    table that the snapshot does not know does no harm. One with rows may: those of COPY FREEZE are visible to every snapshot;
//! 2. not a member that left after a snapshot that the transaction keeps;
//! 3. not a member that the snapshot knows as one, since the plan is older.
//!
//! The same goes for a table with another file than the snapshot knows (`is_rewritten`), which only a snapshot can know that the
//! transaction keeps: the others are younger than the locks. ALTER TABLE that rewrites a table, TRUNCATE and what COPY FREEZE puts into
//! such a file are not MVCC-safe: at that snapshot the table is empty, or has rows that are not there yet.

use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::source;
use crate::pg::catalog_table::{CatalogTable, Row, Rows};
use crate::pg::names;
use crate::pg::relation::Relation;
use pgrx::pg_sys;

/// Columns of pg_class.
const CLASS_OID: i16 = 1;
const RELFILENODE: i16 = 8;

/// To be asked at the end of a refresh, whose snapshot is the active one and whose plans know these relations.
pub fn overtaken(relid: pg_sys::Oid, planned: impl Fn(pg_sys::Oid) -> bool) -> Option<RecomputeReason> {
    let (Some(seen), Some(now)) = (source::seen(relid), source::get(relid)) else { return None };
    let went = seen.members.iter().any(|member| !now.members.contains(member));
    let mut came = now.members.iter().filter(|member| !seen.members.contains(member));
    if went {
        Some(RecomputeReason::MemberDetached)
    } else if came.any(|&member| is_known(member) || planned(member) && has_rows(member))
        || seen.members.iter().any(|&member| !planned(member))
    {
        Some(RecomputeReason::MemberAttached)
    } else {
        None
    }
}

/// The active snapshot knows this table, which is locked, with another file than it has now.
pub fn is_rewritten(relid: pg_sys::Oid) -> bool {
    let file = |row: Row| row.must::<pg_sys::Oid>(RELFILENODE);
    seen(relid).map(file).is_some_and(|file| file != names::storage(relid))
}

/// The active snapshot sees the table.
fn is_known(relid: pg_sys::Oid) -> bool {
    seen(relid).is_some()
}

fn seen(relid: pg_sys::Oid) -> Option<Row> {
    let classes = CatalogTable::open_for_read(pg_sys::RelationRelationId);
    classes.find(pg_sys::ClassOidIndexId.into(), CLASS_OID, relid, Rows::Active).pop()
}

fn has_rows(relid: pg_sys::Oid) -> bool {
    let table = Relation::try_open(relid, pg_sys::AccessShareLock);
    table.is_some_and(|table| table.form().relkind as u8 == pg_sys::RELKIND_RELATION && table.blocks() > 0)
}
