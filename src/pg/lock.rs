//! Locks on objects that are not relations: a pair of a catalog and an oid in it, which only we lock. And locks on relations
//! that are only tried.

use pgrx::pg_sys;

/// Waits for the lock and keeps it to the end of the transaction.
pub fn take(class: pg_sys::Oid, object: pg_sys::Oid, mode: u32) {
    // SAFETY: a lock by oids.
    unsafe { pg_sys::LockDatabaseObject(class, object, 0, mode as i32) };
}

/// As `take` if nobody is in the way; else false.
pub fn try_take(class: pg_sys::Oid, object: pg_sys::Oid, mode: u32) -> bool {
    // SAFETY: a lock by oids.
    unsafe { pg_sys::ConditionalLockDatabaseObject(class, object, 0, mode as i32) }
}

/// Takes back one `take` or `try_take`; what the transaction took before it keeps.
pub fn give_back(class: pg_sys::Oid, object: pg_sys::Oid, mode: u32) {
    // SAFETY: the server warns about a lock that is not held.
    unsafe { pg_sys::UnlockDatabaseObject(class, object, 0, mode as i32) };
}

/// As `try_take`, of a relation.
pub fn try_take_relation(relid: pg_sys::Oid, mode: u32) -> bool {
    // SAFETY: a lock by oid.
    unsafe { pg_sys::ConditionalLockRelationOid(relid, mode as i32) }
}
