//! pg_depend: who uses what.

use super::catalog_table::CatalogTable;
use pgrx::pg_sys;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    pub class: pg_sys::Oid,
    pub object: pg_sys::Oid,
}

/// Catalogs by their fixed oids.
mod catalog {
    use pgrx::pg_sys::Oid;
    pub const DEPEND: Oid = Oid::from_u32(2608);
    pub const DEPEND_BY_REFERENCE: Oid = Oid::from_u32(2674);
    pub const REWRITE: Oid = Oid::from_u32(2618);
    pub const REWRITE_BY_OID: Oid = Oid::from_u32(2692);
    pub const DEFAULT: Oid = Oid::from_u32(2604);
    pub const DEFAULT_BY_OID: Oid = Oid::from_u32(2657);
}
pub const TEXT_SEARCH_DICTIONARY: pg_sys::Oid = pg_sys::Oid::from_u32(3600);
pub const TEXT_SEARCH_CONFIGURATION: pg_sys::Oid = pg_sys::Oid::from_u32(3602);

mod column {
    pub const CLASS: i16 = 1;
    pub const OBJECT: i16 = 2;
    pub const REF_CLASS: i16 = 4;
    pub const REF_OBJECT: i16 = 5;
}

/// Column `oid` of every catalog is its first.
const OID: i16 = 1;
const REWRITE_RELATION: i16 = 3;
const DEFAULT_RELATION: i16 = 2;

/// The objects that depend directly on `used`.
pub fn users_of(used: Object) -> Vec<Object> {
    let table = CatalogTable::open_for_read(catalog::DEPEND);
    let key = [(column::REF_CLASS, used.class), (column::REF_OBJECT, used.object)];
    let rows = table.find_pair(catalog::DEPEND_BY_REFERENCE, key);
    rows.iter().map(|row| Object { class: row.must(column::CLASS), object: row.must(column::OBJECT) }).collect()
}

/// The relation a rule or default belongs to; any other object itself.
pub fn owner(object: Object) -> Object {
    let relation = match object.class {
        catalog::REWRITE => read(object, catalog::REWRITE_BY_OID, REWRITE_RELATION),
        catalog::DEFAULT => read(object, catalog::DEFAULT_BY_OID, DEFAULT_RELATION),
        _ => None,
    };
    relation.map_or(object, |relid| Object { class: pg_sys::RelationRelationId, object: relid })
}

fn read(object: Object, index: pg_sys::Oid, attno: i16) -> Option<pg_sys::Oid> {
    CatalogTable::open_for_read(object.class).get(index, OID, object.object).map(|row| row.must(attno))
}
