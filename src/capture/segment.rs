//! The two heaps of a change buffer: made, dropped, kept from being truncated.
//!
//! They are members of the extension, owned by its owner, and never vacuumed as a matter of routine: nothing in them is
//! updated or deleted, and they are truncated as a whole.

use crate::catalog::{self, SOURCE};
use crate::pg::relation::Relation;
use crate::pg::server;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::{CStr, CString, c_char};

/// Makes the segments of `source`.
pub fn create(source: pg_sys::Oid) -> [pg_sys::Oid; 2] {
    let segments = ["a", "b"].map(|name| create_heap(&format!("changes_{}_{name}", source.to_u32())));
    crate::pg::catalog_table::command_counter_increment();
    for segment in segments {
        // SAFETY: the heap is ours and visible; toast options are the defaults.
        unsafe {
            let none = pg_sys::Datum::from(0usize);
            let lock = pg_sys::AccessExclusiveLock as i32;
            server::guarded(|| server::NewHeapCreateToastTable(segment, none, lock, pg_sys::InvalidOid));
        }
    }
    crate::pg::catalog_table::command_counter_increment();
    segments
}

fn create_heap(name: &str) -> pg_sys::Oid {
    let owner = Relation::open(SOURCE.oid(), pg_sys::AccessShareLock).form().relowner;
    let name = CString::new(name).expect("a name without NUL");
    let options = vec!["autovacuum_enabled=false".to_owned()].into_datum().expect("an array");
    // SAFETY: as DefineRelation makes a plain permanent heap.
    unsafe {
        let relid = pg_sys::heap_create_with_catalog(
            name.as_ptr(),
            catalog::schema(),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            owner,
            pg_sys::HEAP_TABLE_AM_OID,
            descriptor(),
            std::ptr::null_mut(),
            pg_sys::RELKIND_RELATION as c_char,
            pg_sys::RELPERSISTENCE_PERMANENT as c_char,
            false,
            false,
            pg_sys::OnCommitAction::ONCOMMIT_NOOP,
            options,
            false,
            false,
            true,
            pg_sys::InvalidOid,
            std::ptr::null_mut(),
        );
        make_member(relid);
        relid
    }
}

/// The columns that buffer.rs describes.
fn descriptor() -> pg_sys::TupleDesc {
    const COLUMNS: [(&CStr, pg_sys::Oid, u8); 4] = [
        (c"xid", pg_sys::XID8OID, pg_sys::TYPSTORAGE_PLAIN),
        (c"cid", pg_sys::INT4OID, pg_sys::TYPSTORAGE_PLAIN),
        (c"rows", pg_sys::BYTEAOID, pg_sys::TYPSTORAGE_PLAIN),
        (c"wide", pg_sys::BYTEAOID, pg_sys::TYPSTORAGE_EXTENDED),
    ];
    // SAFETY: attribute numbers 1..=4 of a template of four.
    unsafe {
        let desc = pg_sys::CreateTemplateTupleDesc(COLUMNS.len() as i32);
        for (i, (name, typid, storage)) in COLUMNS.into_iter().enumerate() {
            pg_sys::TupleDescInitEntry(desc, i as i16 + 1, name.as_ptr(), typid, -1, 0);
            (*pg_sys::TupleDescAttr(desc, i as i32)).attstorage = storage as c_char;
        }
        desc
    }
}

/// Records `relid` as a member of the extension.
fn make_member(relid: pg_sys::Oid) {
    // SAFETY: catalog look-up and update by values.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"pg_trickle".as_ptr(), false);
        let member = address(pg_sys::RelationRelationId, relid);
        let extension = address(pg_sys::ExtensionRelationId, extension);
        pg_sys::recordDependencyOn(&raw const member, &raw const extension, pg_sys::DependencyType::DEPENDENCY_EXTENSION);
    }
}

fn address(class: pg_sys::Oid, object: pg_sys::Oid) -> pg_sys::ObjectAddress {
    pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 }
}

/// Drops the segments. Waits for transactions that have written to them.
pub fn drop(segments: [pg_sys::Oid; 2]) {
    for segment in segments {
        let flags = pg_sys::PERFORM_DELETION_INTERNAL | pg_sys::PERFORM_DELETION_SKIP_EXTENSIONS;
        // SAFETY: a deletion by address, our own member of the extension.
        unsafe {
            let segment = address(pg_sys::RelationRelationId, segment);
            pg_sys::performDeletion(&raw const segment, pg_sys::DropBehavior::DROP_RESTRICT, flags as i32);
        }
    }
}

/// Keeps the segments from being truncated until the end of the transaction.
pub fn pin(segments: [pg_sys::Oid; 2]) {
    for segment in segments {
        // SAFETY: a lock by oid; conflicts with truncation only.
        unsafe { pg_sys::LockRelationOid(segment, pg_sys::AccessShareLock as i32) };
    }
}

/// Makes every backend forget what it knows about the sources that write to these segments.
pub fn invalidate(segments: [pg_sys::Oid; 2]) {
    for segment in segments {
        // SAFETY: the segment exists.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(segment) };
    }
}
