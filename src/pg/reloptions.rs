//! Storage parameters of a relation as `pg_class` keeps them: `name=value` each, ours among the server's.

use super::catalog_table::command_counter_increment;
use super::relation::Relation;
use pgrx::{FromDatum, IntoDatum, pg_sys};

/// All options of a relation, as stored.
pub fn read(relid: pg_sys::Oid) -> Vec<String> {
    // SAFETY: the attribute is detoasted and copied before the row is released.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, relid.into());
        if tuple.is_null() {
            return Vec::new();
        }
        let mut null = false;
        let datum = pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_class_reloptions as i16, &mut null);
        let options = Vec::<String>::from_datum(datum, null).unwrap_or_default();
        pg_sys::ReleaseSysCache(tuple);
        options
    }
}

/// Replaces all options. The server validates names only in ALTER ... SET, which our hook keeps from seeing ours.
pub fn write(relid: pg_sys::Oid, options: Vec<String>) {
    let pg_class = Relation::open(pg_sys::RelationRelationId, pg_sys::RowExclusiveLock);
    let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
    let column = pg_sys::Anum_pg_class_reloptions as i32;
    let null = options.is_empty();
    // SAFETY: the locked-copy protocol keeps in-place updates of the row out until UnlockTuple.
    unsafe {
        let tuple = pg_sys::SearchSysCacheLockedCopy1(cache, relid.into());
        if tuple.is_null() {
            crate::error::cannot_happen(format!("cache lookup failed for relation {}", relid.to_u32()));
        }
        let datum = options.into_datum().unwrap_or(pg_sys::Datum::from(0usize));
        let mut position = (*tuple).t_self;
        let new = pg_sys::heap_modify_tuple_by_cols(tuple, pg_class.tuple_desc(), 1, &column, &datum, &null);
        pg_sys::CatalogTupleUpdate(pg_class.as_ptr(), &mut position, new);
        pg_sys::UnlockTuple(pg_class.as_ptr(), &mut position, pg_sys::ExclusiveLock as i32);
    }
    command_counter_increment();
}
