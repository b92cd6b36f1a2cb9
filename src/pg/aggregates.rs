//! Aggregates as pg_aggregate has them, which is read here and nowhere else.

use super::server;
use super::{interrupt, node::string, relation::Relation};
use pgrx::pg_sys;

/// AGGMODIFY_READ_ONLY.
const READ_ONLY: u8 = b'r';

/// A row of pg_aggregate. Functions, operators and types are InvalidOid where there is none.
pub struct Aggregate {
    pub plain: Form,
    /// The form that can remove values.
    pub moving: Option<Form>,
    pub serialize: pg_sys::Oid,
    pub deserialize: pg_sys::Oid,
    pub combine: pg_sys::Oid,
    pub sort_operator: pg_sys::Oid,
}

/// One of the two ways in which an aggregate can be computed.
pub struct Form {
    pub transition: pg_sys::Oid,
    /// Only of a moving form.
    pub inverse: pg_sys::Oid,
    pub finish: pg_sys::Oid,
    /// The final function gets NULLs in place of the arguments.
    pub final_extra: bool,
    /// The final function may change the transition value.
    pub final_modifies: bool,
    /// The declared type of the transition value, which may be polymorphic.
    pub transtype: pg_sys::Oid,
    /// The transition value before any row, as text; None: NULL.
    pub initial: Option<String>,
}

impl Form {
    /// Goes through the same transition values as another form, one of another aggregate, say.
    pub fn has_transition_of(&self, other: &Self) -> bool {
        let of = |form: &Self| (form.transition, form.transtype);
        of(self) == of(other) && self.initial == other.initial
    }
}

/// What pg_aggregate says of a function, which is an aggregate.
pub fn read(aggregate: pg_sys::Oid) -> Aggregate {
    let cache = pg_sys::SysCacheIdentifier::AGGFNOID as i32;
    // SAFETY: the row is read before it is released; the columns named are text.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache, aggregate.into());
        if tuple.is_null() {
            crate::error::cannot_happen(format!("cache lookup failed for aggregate {}", aggregate.to_u32()));
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<server::FormData_pg_aggregate>();
        let text = |column: u32| {
            let mut is_null = false;
            let value = pg_sys::SysCacheGetAttr(cache, tuple, column as i16, &mut is_null);
            (!is_null).then(|| string(pg_sys::text_to_cstring(value.cast_mut_ptr())))
        };
        let read = Aggregate {
            plain: Form {
                transition: form.aggtransfn,
                inverse: pg_sys::InvalidOid,
                finish: form.aggfinalfn,
                final_extra: form.aggfinalextra,
                final_modifies: form.aggfinalmodify as u8 != READ_ONLY,
                transtype: form.aggtranstype,
                initial: text(server::Anum_pg_aggregate_agginitval),
            },
            moving: (form.aggmtransfn != pg_sys::InvalidOid).then(|| Form {
                transition: form.aggmtransfn,
                inverse: form.aggminvtransfn,
                finish: form.aggmfinalfn,
                final_extra: form.aggmfinalextra,
                final_modifies: form.aggmfinalmodify as u8 != READ_ONLY,
                transtype: form.aggmtranstype,
                initial: text(server::Anum_pg_aggregate_aggminitval),
            }),
            serialize: form.aggserialfn,
            deserialize: form.aggdeserialfn,
            combine: form.aggcombinefn,
            sort_operator: form.aggsortop,
        };
        pg_sys::ReleaseSysCache(tuple);
        read
    }
}

/// A declared transition type with polymorphic ones resolved for actual argument types.
pub fn transition_type(aggregate: pg_sys::Oid, declared: pg_sys::Oid, arguments: &[pg_sys::Oid]) -> pg_sys::Oid {
    let mut arguments = arguments.to_vec();
    let (pointer, count) = (arguments.as_mut_ptr(), arguments.len() as i32);
    // SAFETY: the array outlives the call, which only reads it; nothing with a destructor is in the closure.
    unsafe { server::guarded(|| server::resolve_aggregate_transtype(aggregate, declared, pointer, count)) }
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
