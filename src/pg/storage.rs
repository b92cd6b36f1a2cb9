//! Files of relations.

use super::relation::Relation;
use pgrx::pg_sys;

/// Bytes of a table's main fork and its TOAST table's, which is locked to the end of the transaction. Does not wait: None
/// when somebody else has locked it against that, or it is gone.
pub fn bytes_now(relid: pg_sys::Oid) -> Option<u64> {
    // SAFETY: a lock by oid.
    let locked = unsafe { pg_sys::ConditionalLockRelationOid(relid, pg_sys::AccessShareLock as i32) };
    if locked { bytes_of(Relation::try_open(relid, pg_sys::NoLock)?) } else { None }
}

fn bytes_of(table: Relation) -> Option<u64> {
    // Relations without storage of their own have none.
    let blocks =
        |relation: &Relation| if relation.form().relfilenode == pg_sys::InvalidOid { 0 } else { relation.blocks() };
    let toast = match table.form().reltoastrelid {
        pg_sys::InvalidOid => 0,
        toast => blocks(&Relation::try_open(toast, pg_sys::AccessShareLock)?),
    };
    Some(u64::from(blocks(&table) + toast) * u64::from(pg_sys::BLCKSZ))
}
