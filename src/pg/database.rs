//! The databases of the server, as pg_database has them.

use super::catalog_table::CatalogTable;
use pgrx::pg_sys;

mod column {
    pub const OID: i16 = 1;
    pub const IS_TEMPLATE: i16 = 6;
    pub const ALLOW_CONNECTIONS: i16 = 7;
    pub const CONNECTION_LIMIT: i16 = 9;
}

/// Of a database whose DROP was interrupted.
const INVALID: i32 = -2;

/// Every database one can work in: connectable, and no template.
pub fn all() -> Vec<pg_sys::Oid> {
    let table = CatalogTable::open_for_read(pg_sys::DatabaseRelationId);
    let rows = table.all();
    let usable = rows.iter().filter(|row| {
        row.must(column::ALLOW_CONNECTIONS)
            && !row.must::<bool>(column::IS_TEMPLATE)
            && row.must::<i32>(column::CONNECTION_LIMIT) != INVALID
    });
    usable.map(|row| row.must(column::OID)).collect()
}

/// The user may change or drop the database, or copy it.
pub fn may_need_alone(database: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups.
    unsafe {
        let user = pg_sys::GetUserId();
        pg_sys::object_ownercheck(pg_sys::DatabaseRelationId, database, user) || pg_sys::have_createdb_privilege()
    }
}
