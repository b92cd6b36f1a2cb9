//! The two heaps of a change buffer: made, dropped, kept from being truncated.
//!
//! They are not vacuumed as a matter of routine: nothing in them is updated or deleted, and they are truncated as a
//! whole.

use crate::catalog;
use crate::pg::internal_table::{self, Column};
use pgrx::pg_sys;

/// Makes the segments of `source`, with the columns that buffer.rs describes.
pub fn create(source: pg_sys::Oid) -> [pg_sys::Oid; 2] {
    ["a", "b"].map(|letter| {
        let name = format!("changes_{}_{letter}", source.to_u32());
        let columns = [
            Column::new("xid", pg_sys::XID8OID),
            Column::new("cid", pg_sys::INT4OID),
            Column { storage: Some(pg_sys::TYPSTORAGE_PLAIN), ..Column::new("rows", pg_sys::BYTEAOID) },
            Column { storage: Some(pg_sys::TYPSTORAGE_EXTERNAL), ..Column::new("wide", pg_sys::BYTEAOID) },
        ];
        internal_table::create(catalog::schema(), &name, &columns, ("autovacuum_enabled", "false"))
    })
}

/// Drops the segments. Waits for transactions that have written to them.
pub fn drop(segments: [pg_sys::Oid; 2]) {
    segments.into_iter().for_each(internal_table::drop);
}

/// Keeps the segments from being truncated until the end of the transaction.
pub fn pin(segments: [pg_sys::Oid; 2]) {
    for segment in segments {
        // SAFETY: a lock by oid; conflicts with truncation only.
        unsafe { pg_sys::LockRelationOid(segment, pg_sys::AccessShareLock as i32) };
    }
}

/// Makes every backend forget what it knows about the source that writes to these segments.
pub fn invalidate(segments: [pg_sys::Oid; 2]) {
    for segment in segments {
        // SAFETY: the segment exists.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(segment) };
    }
}
