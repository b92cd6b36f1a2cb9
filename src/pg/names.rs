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

/// A relation's name as a statement spells it.
#[derive(Clone, Copy)]
pub struct RangeVar(*mut pg_sys::RangeVar);

/// Who may lock a relation found by name.
#[derive(Clone, Copy)]
pub enum Permission {
    Owner,
    Maintain,
}

impl RangeVar {
    /// # Safety
    /// `name` is alive as long as this handle is used.
    pub unsafe fn new(name: *mut pg_sys::RangeVar) -> Self {
        Self(name)
    }

    /// The relation the search path finds, not locked.
    pub fn find(self) -> Option<pg_sys::Oid> {
        let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
        // SAFETY: a look-up by name.
        valid(unsafe { pg_sys::RangeVarGetRelidExtended(self.0, pg_sys::NoLock as i32, missing_ok, None, std::ptr::null_mut()) })
    }

    /// The relation in the schema CREATE would put it in.
    pub fn find_where_created(self) -> Option<pg_sys::Oid> {
        // SAFETY: a look-up by name; raises as CREATE itself would when there is no such schema.
        unsafe { valid(pg_sys::get_relname_relid((*self.0).relname, pg_sys::RangeVarGetCreationNamespace(self.0))) }
    }

    /// Locks the relation, once the user is known to be allowed to; raises the server's errors.
    pub fn lock(self, mode: u32, permission: Permission) -> pg_sys::Oid {
        // SAFETY: the callbacks are the server's own.
        unsafe {
            let callback: pg_sys::RangeVarGetRelidCallback = match permission {
                Permission::Owner => Some(owns),
                Permission::Maintain => Some(maintains),
            };
            pg_sys::RangeVarGetRelidExtended(self.0, mode as i32, 0, callback, std::ptr::null_mut())
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn owns(name: *const pg_sys::RangeVar, relid: pg_sys::Oid, old: pg_sys::Oid, arg: *mut std::ffi::c_void) {
    // SAFETY: passes its arguments on.
    unsafe { pg_sys::RangeVarCallbackOwnsRelation(name, relid, old, arg) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn maintains(name: *const pg_sys::RangeVar, relid: pg_sys::Oid, old: pg_sys::Oid, arg: *mut std::ffi::c_void) {
    // SAFETY: passes its arguments on.
    unsafe { pg_sys::RangeVarCallbackMaintainsTable(name, relid, old, arg) }
}
