//! Looking for aggregates by what they do.

use super::server;
use super::{interrupt, node::string, relation::Relation};
use pgrx::pg_sys;

/// How an aggregate's state begins and goes on.
#[derive(PartialEq, Eq)]
pub struct Transition {
    pub function: pg_sys::Oid,
    state: pg_sys::Oid,
    initial: Option<String>,
}

/// The plain or the moving transition of an aggregate.
pub fn transition(aggregate: pg_sys::Oid, moving: bool) -> Transition {
    let form = super::facts::aggregate(aggregate);
    let (function, state, initial) = match moving {
        true => (form.aggmtransfn, form.aggmtranstype, server::Anum_pg_aggregate_aggminitval),
        false => (form.aggtransfn, form.aggtranstype, server::Anum_pg_aggregate_agginitval),
    };
    Transition { function, state, initial: text(aggregate, initial as i16) }
}

/// A text column of an aggregate's row.
fn text(aggregate: pg_sys::Oid, column: i16) -> Option<String> {
    let cache = pg_sys::SysCacheIdentifier::AGGFNOID as i32;
    // SAFETY: the row, which exists, is read before it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache, aggregate.into());
        let mut is_null = false;
        let value = pg_sys::SysCacheGetAttr(cache, tuple, column, &mut is_null);
        let text = (!is_null).then(|| string(pg_sys::text_to_cstring(value.cast_mut_ptr())));
        pg_sys::ReleaseSysCache(tuple);
        text
    }
}

/// Ordinary aggregates with this plain transition function.
pub fn with_transition(function: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let relation = Relation::open(server::AggregateRelationId.into(), pg_sys::AccessShareLock);
    let mut found = Vec::new();
    // SAFETY: a scan of a catalog without keys; rows are read while it is open.
    unsafe {
        let none = std::ptr::null_mut();
        let scan =
            pg_sys::systable_beginscan(relation.as_ptr(), pg_sys::InvalidOid, false, none, 0, std::ptr::null_mut());
        loop {
            interrupt::check();
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let form = &*pg_sys::GETSTRUCT(tuple).cast::<server::FormData_pg_aggregate>();
            if form.aggtransfn == function && form.aggkind as u8 == b'n' {
                found.push(form.aggfnoid);
            }
        }
        pg_sys::systable_endscan(scan);
    }
    found
}

/// Declared argument types of a function.
pub fn argument_types(function: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let (mut types, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: a palloc'd array of that many oids.
    unsafe {
        pg_sys::get_func_signature(function, &mut types, &mut count);
        std::slice::from_raw_parts(types, count as usize).to_vec()
    }
}
