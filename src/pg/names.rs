//! Names to oids, and news about them.

use super::node::cstring;
use pgrx::pg_sys;
use std::cell::Cell;

fn valid(oid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// A schema's oid.
pub fn schema(name: &str) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache look-up by name.
    valid(unsafe { pg_sys::get_namespace_oid(cstring(name), true) })
}

/// A relation's oid in a schema.
pub fn relation_in(schema: pg_sys::Oid, name: &str) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache look-up by name.
    valid(unsafe { pg_sys::get_relname_relid(cstring(name), schema) })
}

/// A relation's owner.
pub fn owner(relid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: the copied form of a pg_class row; released before returning.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, relid.into());
        if tuple.is_null() {
            crate::error::cannot_happen(format!("cache lookup failed for relation {}", relid.to_u32()));
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

/// Whether a schema is a member of the extension.
pub fn is_member_of(schema: pg_sys::Oid, extension: &str) -> bool {
    // SAFETY: catalog look-ups.
    unsafe {
        let extension = pg_sys::get_extension_oid(cstring(extension), true);
        extension != pg_sys::InvalidOid && pg_sys::getExtensionOfObject(pg_sys::NamespaceRelationId, schema) == extension
    }
}

thread_local!(static ON_SCHEMA_CHANGE: Cell<Option<fn()>> = const { Cell::new(None) });

/// Calls `forget` whenever a schema was created, dropped or changed. One listener.
pub fn on_schema_change(forget: fn()) {
    ON_SCHEMA_CHANGE.set(Some(forget));
    let cache = pg_sys::SysCacheIdentifier::NAMESPACEOID as i32;
    // SAFETY: the callback lives as long as the library.
    unsafe { pg_sys::CacheRegisterSyscacheCallback(cache, Some(schema_changed), pg_sys::Datum::from(0usize)) };
}

#[pgrx::pg_guard]
extern "C-unwind" fn schema_changed(_arg: pg_sys::Datum, _cache: std::ffi::c_int, _hash: u32) {
    if let Some(forget) = ON_SCHEMA_CHANGE.get() {
        forget();
    }
}
