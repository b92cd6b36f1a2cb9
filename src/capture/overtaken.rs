//! Whether a refresh may have read a source with other members than those its snapshot knows.
//!
//! Members are found when a plan is made, in the catalog as it is then; rows are read at the snapshot of the refresh. The change
//! that rows of a member make by coming or going is in a buffer, and counts when the snapshot sees it. So what was computed must
//! be computed once more if the plan had
//!
//! 1. a member that came after the snapshot was taken, and whose rows it sees: the change will be seen by the next refresh. A table that
//!    the snapshot does not know has no rows for it, so a partition that was just created does no harm;
//! 2. not a member that left after a snapshot that the transaction keeps;
//! 3. not a member that the snapshot knows as one, since the plan is older.

use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::source;
use crate::pg::catalog_table::{CatalogTable, Rows};
use pgrx::pg_sys;

const CLASS_OID: i16 = 1;

/// To be asked at the end of a refresh, whose snapshot is the active one and whose plans know these relations.
pub fn overtaken(relid: pg_sys::Oid, planned: impl Fn(pg_sys::Oid) -> bool) -> Option<RecomputeReason> {
    let (Some(seen), Some(now)) = (source::seen(relid), source::get(relid)) else { return None };
    let went = seen.members.iter().any(|member| !now.members.contains(member));
    let mut came = now.members.iter().filter(|member| !seen.members.contains(member));
    if went {
        Some(RecomputeReason::MemberDetached)
    } else if came.any(|&member| is_known(member)) || seen.members.iter().any(|&member| !planned(member)) {
        Some(RecomputeReason::MemberAttached)
    } else {
        None
    }
}

/// The active snapshot sees the table.
fn is_known(relid: pg_sys::Oid) -> bool {
    let classes = CatalogTable::open_for_read(pg_sys::RelationRelationId);
    !classes.find(pg_sys::ClassOidIndexId.into(), CLASS_OID, relid, Rows::Active).is_empty()
}
