//! Object locks on a source's place in our catalog, held to the end of the transaction.
//!
//! Taken after locks on the tables, so that DDL, which comes with its table locked, cannot deadlock with us; except
//! `keep`, for which nobody waits but others that were granted it before.
//!
//! | lock | who | excludes |
//! |---|---|---|
//! | keep | who begins to use a source | narrow |
//! | alter | who adds to its row (columns, members, the active segment) | alter, narrow |
//! | narrow | who takes something away | everybody; never waited for |

use crate::catalog::SOURCE;
use crate::pg::lock;
use pgrx::pg_sys;

/// Nobody takes anything away from the capture of `source` meanwhile.
pub fn keep(source: pg_sys::Oid) {
    take(source, pg_sys::AccessShareLock);
}

/// Nobody else changes the row of `source` meanwhile.
pub fn alter(source: pg_sys::Oid) {
    take(source, pg_sys::ShareUpdateExclusiveLock);
}

/// As `alter`; false when somebody else is at it.
pub fn try_alter(source: pg_sys::Oid) -> bool {
    try_take(source, pg_sys::ShareUpdateExclusiveLock)
}

/// False while anybody else uses or changes the capture of `source`.
pub fn try_narrow(source: pg_sys::Oid) -> bool {
    try_take(source, pg_sys::AccessExclusiveLock)
}

fn take(source: pg_sys::Oid, mode: u32) {
    lock::take(SOURCE.oid(), source, mode);
}

fn try_take(source: pg_sys::Oid, mode: u32) -> bool {
    lock::try_take(SOURCE.oid(), source, mode)
}
