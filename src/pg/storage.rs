//! Files of relations.

use super::relation::Relation;
use pgrx::pg_sys;

/// Bytes of a table's main fork and its TOAST table's.
pub fn bytes(relid: pg_sys::Oid) -> u64 {
    let main = |relid| Relation::open(relid, pg_sys::AccessShareLock);
    let table = main(relid);
    let toast = table.form().reltoastrelid;
    let blocks = table.blocks() + if toast == pg_sys::InvalidOid { 0 } else { main(toast).blocks() };
    u64::from(blocks) * u64::from(pg_sys::BLCKSZ)
}
