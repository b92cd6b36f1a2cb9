//! Who may run an aggregate: the current user the aggregate, its owner the support functions, as for nodeAgg.

use super::definition::Definition;
use crate::pg::names;
use pgrx::pg_sys;

/// Raises unless the aggregate may be run.
pub fn check(definition: &Definition) {
    // SAFETY: the Aggref is live; catalog look-ups.
    unsafe {
        let aggregate = (*definition.aggref).aggfnoid;
        require(aggregate, pg_sys::GetUserId(), pg_sys::ObjectType::OBJECT_AGGREGATE);
        let owner = names::function_owner(aggregate);
        let functions = &definition.functions;
        let all = [
            functions.transition,
            functions.inverse,
            functions.finish,
            functions.serialize,
            functions.deserialize,
            functions.combine,
        ];
        for function in all.into_iter().filter(|&function| function != pg_sys::InvalidOid) {
            require(function, owner, pg_sys::ObjectType::OBJECT_FUNCTION);
        }
    }
}

unsafe fn require(function: pg_sys::Oid, user: pg_sys::Oid, kind: pg_sys::ObjectType::Type) {
    // SAFETY: catalog look-ups; aclcheck_error raises unless told that all is well.
    unsafe {
        let result = pg_sys::object_aclcheck(
            pg_sys::ProcedureRelationId,
            function,
            user,
            pg_sys::ACL_EXECUTE as pg_sys::AclMode,
        );
        if result != pg_sys::AclResult::ACLCHECK_OK {
            pg_sys::aclcheck_error(result, kind, pg_sys::get_func_name(function));
        }
    }
}
