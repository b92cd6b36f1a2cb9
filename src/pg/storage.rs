//! Files of relations.

use super::relation::Relation;
use super::{facts, list};
use pgrx::{pg_guard, pg_sys};
use std::ffi::c_void;
use std::ptr::null_mut;

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

/// Empties a TOAST table into which nothing points any more and which nobody else uses: it is locked with
/// AccessExclusiveLock, which may be given back at once.
///
/// As VACUUM goes about it, entries of the index first and then the pages of the table, since none of this is undone
/// with the transaction and it may be interrupted anywhere. (`heap_truncate_one_rel` builds the index anew in the file it
/// has: halfway, that is no index; and of one that was rolled back, other sessions do not hear.)
pub fn empty_toast(toast: &Relation) {
    let mode = pg_sys::RowExclusiveLock as i32;
    // SAFETY: the relation is open and locked; the list and the information outlive their use.
    unsafe {
        for oid in list::oids(pg_sys::RelationGetIndexList(toast.as_ptr())) {
            // What a REINDEX CONCURRENTLY that failed left behind may not even have a first page.
            if !facts::is_maintained(oid) {
                continue;
            }
            let index = pg_sys::index_open(oid, mode);
            let mut info = pg_sys::IndexVacuumInfo {
                index,
                heaprel: toast.as_ptr(),
                estimated_count: true,
                message_level: pg_sys::DEBUG2 as i32,
                ..Default::default()
            };
            let deleted = pg_sys::index_bulk_delete(&mut info, null_mut(), Some(is_dead), null_mut());
            pg_sys::index_vacuum_cleanup(&mut info, deleted);
            pg_sys::index_close(index, mode);
        }
        pg_sys::RelationTruncate(toast.as_ptr(), 0);
    }
}

/// Every entry of the index is.
#[pg_guard]
extern "C-unwind" fn is_dead(_entry: pg_sys::ItemPointer, _state: *mut c_void) -> bool {
    true
}
