//! Whether a statement in progress in this session has changes of a source that are not captured yet.
//!
//! Statement triggers fire when their statement ends. A refresh running inside it (a function called by an UPDATE, a
//! user's trigger) would see the table's new rows but not their delta: it must be refused.

use crate::catalog::source;
use pgrx::pg_sys;

/// To be asked before the refresh opens any source.
pub fn in_use(relid: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in this backend's own state; a transaction without an id has written nothing.
    unsafe {
        pg_sys::GetTopFullTransactionIdIfAny().value != 0
            && source::get(relid).is_some_and(|source| {
                source.members.into_iter().any(|member| is_being_written(member) || has_queued_events(member))
            })
    }
}

/// Open and locked for writing. May also be true of a cursor on a table written before: refused as well.
unsafe fn is_being_written(relid: pg_sys::Oid) -> bool {
    // SAFETY: the lock keeps the relation from going away; the reference is returned at once.
    unsafe {
        if !pg_sys::CheckRelationOidLockedByMe(relid, pg_sys::RowExclusiveLock as i32, true) {
            return false;
        }
        let relation = pg_sys::RelationIdGetRelation(relid);
        if relation.is_null() {
            return false;
        }
        let references = (*relation).rd_refcnt;
        pg_sys::RelationClose(relation);
        references > 1
    }
}

/// Inside a trigger, events of the outer statement may still be queued although its table is closed: foreign-key actions
/// close it. Outside of triggers only deferred constraints are queued, which do not concern us.
unsafe fn has_queued_events(relid: pg_sys::Oid) -> bool {
    // SAFETY: pg_trigger_depth takes no arguments.
    unsafe {
        pg_sys::pg_trigger_depth(std::ptr::null_mut()).value() as i32 > 0 && pg_sys::AfterTriggerPendingOnRel(relid)
    }
}
