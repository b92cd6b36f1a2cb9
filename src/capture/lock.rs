//! Object locks on a source's place in our catalog, held to the end of the transaction.
//!
//! | lock | who | excludes |
//! |---|---|---|
//! | keep | who begins to use a source | narrow |
//! | alter | who adds to its row (columns, members, the active segment) | alter, narrow |
//! | narrow | who takes something away | everybody; never waited for |
//!
//! Lock order: tables (of several sources those with the smaller oid first, each before its members), then these locks, then the
//! segments. A refresh holds none of these locks while it runs, so nobody waits for one here:
//!
//! 1. Only `keep` and `alter` are ever waited for. `narrow` is only tried, and so is the `alter` of a flip, which is taken
//!    just before a transaction commits (trim.rs) and waits for nothing after that.
//! 2. So who is waited for is DDL, which came with a lock on the table, or a commit.
//! 3. DDL takes `alter` of a source when it holds a lock on the source, or on a member that came or went, which most other DDL
//!    of the source conflicts with: of two such statements the second waits for the table. Where it does not (an index on one
//!    partition, while another is being attached), the first has all the locks it wants of this source by then.
//! 4. What is left are transactions that change several tables each, in different orders: they are in a deadlock over the
//!    tables themselves.

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
