//! Names to oids, and news about them.

use super::node::{cstring, string};
use super::relation::Relation;
use super::server;
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

/// A field of a relation's pg_class row; None when there is no such relation.
fn class<R>(relid: pg_sys::Oid, read: impl FnOnce(&pg_sys::FormData_pg_class) -> R) -> Option<R> {
    // SAFETY: the row lives while it is read.
    class_row(relid, |tuple| read(unsafe { &*pg_sys::GETSTRUCT(tuple).cast() }))
}

fn class_row<R>(relid: pg_sys::Oid, read: impl FnOnce(pg_sys::HeapTuple) -> R) -> Option<R> {
    let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
    // SAFETY: the row is read before it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache, relid.into());
        if tuple.is_null() {
            return None;
        }
        let result = read(tuple);
        pg_sys::ReleaseSysCache(tuple);
        Some(result)
    }
}

fn gone<R>(relid: pg_sys::Oid) -> R {
    crate::error::cannot_happen(format!("cache lookup failed for relation {}", relid.to_u32()))
}

/// A relation's owner.
pub fn owner(relid: pg_sys::Oid) -> pg_sys::Oid {
    try_owner(relid).unwrap_or_else(|| gone(relid))
}

pub fn try_owner(relid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    class(relid, |form| form.relowner)
}

/// What a relation is: `r`, `m`, ...; None when it does not exist.
pub fn kind(relid: pg_sys::Oid) -> Option<u8> {
    class(relid, |form| form.relkind as u8)
}

pub fn is_materialized_view(relid: pg_sys::Oid) -> bool {
    kind(relid) == Some(pg_sys::RELKIND_MATVIEW)
}

pub fn is_plain_view(relid: pg_sys::Oid) -> bool {
    kind(relid) == Some(pg_sys::RELKIND_VIEW)
}

/// The type of a relation's rows; None when there is no such relation, or it has none.
pub fn row_type(relid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    class(relid, |form| form.reltype).filter(|&typid| typid != pg_sys::InvalidOid)
}

/// A materialized view holds the result of its query, if only an empty one.
pub fn is_populated(relid: pg_sys::Oid) -> bool {
    class(relid, |form| form.relispopulated).unwrap_or_else(|| gone(relid))
}

/// A relation that goes away with its session.
pub fn is_temporary(relid: pg_sys::Oid) -> bool {
    class(relid, |form| form.relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP).unwrap_or_else(|| gone(relid))
}

/// The file number of a relation with storage.
pub fn storage(relid: pg_sys::Oid) -> pg_sys::Oid {
    class(relid, |form| form.relfilenode).unwrap_or_else(|| gone(relid))
}

/// The transaction that has written a relation's row of pg_class, which what changes the row in place leaves.
pub fn class_xmin(relid: pg_sys::Oid) -> pg_sys::TransactionId {
    // SAFETY: the row lives while it is read, and has the header that it has in its table.
    let xmin = class_row(relid, |tuple| unsafe { (*(*tuple).t_data).t_choice.t_heap.t_xmin });
    xmin.unwrap_or_else(|| gone(relid))
}

/// Marks a materialized view as holding the result of its query.
pub fn set_populated(view: pg_sys::Oid) {
    let relation = Relation::open(view, pg_sys::NoLock);
    // SAFETY: an open materialized view, whose pg_class row we may update.
    unsafe { server::guarded(|| server::SetMatViewPopulatedState(relation.as_ptr(), true)) };
}

/// A relation's name as a user would write it here.
pub fn display(relid: pg_sys::Oid) -> String {
    let name = class(relid, |form| (form.relnamespace, pgrx::name_data_to_str(&form.relname).to_owned()));
    let (schema, name) = name.unwrap_or_else(|| gone(relid));
    // SAFETY: strings of the server in the current context.
    unsafe {
        let schema =
            if pg_sys::RelationIsVisible(relid) { std::ptr::null() } else { pg_sys::get_namespace_name(schema) };
        string(pg_sys::quote_qualified_identifier(schema, cstring(&name)))
    }
}

/// A name, quoted where needed.
pub fn quoted(name: &str) -> String {
    // SAFETY: strings of the server in the current context.
    unsafe { string(pg_sys::quote_identifier(cstring(name))) }
}

/// A role's name, quoted where needed.
pub fn role(oid: pg_sys::Oid) -> String {
    // SAFETY: raises when there is no such role.
    unsafe { string(pg_sys::quote_identifier(pg_sys::GetUserNameFromId(oid, false))) }
}

/// Locks a relation to the end of the transaction.
pub fn lock(relid: pg_sys::Oid, mode: u32) {
    // SAFETY: a lock by oid.
    unsafe { pg_sys::LockRelationOid(relid, mode as i32) };
}

/// Gives back a lock before the end of the transaction, which has seen nothing that it protects.
pub fn unlock(relid: pg_sys::Oid, mode: u32) {
    // SAFETY: the caller took the lock.
    unsafe { pg_sys::UnlockRelationOid(relid, mode as i32) };
}

pub fn is_index(relid: pg_sys::Oid) -> bool {
    kind(relid) == Some(pg_sys::RELKIND_INDEX)
}

/// The oid of our extension.
pub fn extension() -> pg_sys::Oid {
    // SAFETY: a look-up by name; raises when it is not installed.
    unsafe { pg_sys::get_extension_oid(cstring("pg_trickle"), false) }
}

/// The owner of an installed extension.
pub fn extension_owner(name: &str) -> Option<pg_sys::Oid> {
    let oid = 1;
    let owner = 3;
    // SAFETY: a look-up by name.
    let extension = valid(unsafe { pg_sys::get_extension_oid(cstring(name), true) })?;
    let table = super::catalog_table::CatalogTable::open_for_read(pg_sys::ExtensionRelationId);
    table.get(pg_sys::ExtensionOidIndexId.into(), oid, extension).map(|row| row.must(owner))
}

/// The table of an index.
pub fn table_of_index(index: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a catalog look-up.
    valid(unsafe { pg_sys::IndexGetRelation(index, true) })
}

/// A function's owner.
pub fn function_owner(function: pg_sys::Oid) -> pg_sys::Oid {
    let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
    // SAFETY: the row is read before it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache, function.into());
        if tuple.is_null() {
            crate::error::cannot_happen(format!("cache lookup failed for function {}", function.to_u32()));
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>()).proowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

/// Whether a schema is a member of the extension.
pub fn is_member_of(schema: pg_sys::Oid, extension: &str) -> bool {
    // SAFETY: catalog look-ups.
    unsafe {
        let extension = pg_sys::get_extension_oid(cstring(extension), true);
        extension != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(pg_sys::NamespaceRelationId, schema) == extension
    }
}

type Listener = (fn(), fn(pg_sys::Oid));

thread_local!(static LISTENER: Cell<Option<Listener>> = const { Cell::new(None) });

/// Calls `schema` whenever a schema or an extension was created, dropped or changed (ALTER EXTENSION UPDATE), and `relation`
/// whenever that relation was, or, with InvalidOid, any may have been. One listener.
pub fn on_change(schema: fn(), relation: fn(pg_sys::Oid)) {
    use pg_sys::SysCacheIdentifier::{EXTENSIONNAME, NAMESPACEOID};
    LISTENER.set(Some((schema, relation)));
    let none = pg_sys::Datum::from(0usize);
    // SAFETY: the callbacks live as long as the library.
    unsafe {
        pg_sys::CacheRegisterSyscacheCallback(NAMESPACEOID as i32, Some(schema_changed), none);
        pg_sys::CacheRegisterSyscacheCallback(EXTENSIONNAME as i32, Some(schema_changed), none);
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
    }
}

#[pgrx::pg_guard]
extern "C-unwind" fn schema_changed(_arg: pg_sys::Datum, _cache: std::ffi::c_int, _hash: u32) {
    if let Some((forget, _)) = LISTENER.get() {
        forget();
    }
}

#[pgrx::pg_guard]
extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relid: pg_sys::Oid) {
    if let Some((_, forget)) = LISTENER.get() {
        forget(relid);
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

    /// `name`, `schema.name`, quoted where needed.
    pub fn parse(text: &str) -> Self {
        // SAFETY: nodes in the current context; raises on bad syntax.
        unsafe {
            let names = pg_sys::stringToQualifiedNameList(cstring(text), std::ptr::null_mut());
            Self(pg_sys::makeRangeVarFromNameList(names))
        }
    }

    pub fn as_ptr(self) -> *mut pg_sys::RangeVar {
        self.0
    }

    /// The error for a name nothing has.
    pub fn missing(self) -> crate::error::Report {
        // SAFETY: strings of the name.
        let (schema, name) = unsafe { (string((*self.0).schemaname), string((*self.0).relname)) };
        let full = if schema.is_empty() { name } else { format!("{schema}.{name}") };
        crate::error::error(
            pgrx::PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("stream table \"{full}\" does not exist"),
        )
        .hint("SELECT * FROM pgtrickle.pgt_status() lists the stream tables of this database.")
    }

    /// The relation the search path finds, not locked.
    pub fn find(self) -> Option<pg_sys::Oid> {
        let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
        // SAFETY: a look-up by name.
        valid(unsafe {
            pg_sys::RangeVarGetRelidExtended(self.0, pg_sys::NoLock as i32, missing_ok, None, std::ptr::null_mut())
        })
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
unsafe extern "C-unwind" fn owns(
    name: *const pg_sys::RangeVar,
    relid: pg_sys::Oid,
    old: pg_sys::Oid,
    arg: *mut std::ffi::c_void,
) {
    // SAFETY: passes its arguments on.
    unsafe { pg_sys::RangeVarCallbackOwnsRelation(name, relid, old, arg) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn maintains(
    name: *const pg_sys::RangeVar,
    relid: pg_sys::Oid,
    old: pg_sys::Oid,
    arg: *mut std::ffi::c_void,
) {
    // SAFETY: passes its arguments on.
    unsafe { pg_sys::RangeVarCallbackMaintainsTable(name, relid, old, arg) }
}
