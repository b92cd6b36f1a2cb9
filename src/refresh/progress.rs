//! Which view this process is refreshing: what a failure is put down to.

use pgrx::pg_sys;
use std::cell::Cell;

thread_local!(static CURRENT: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) });

/// Work on this view begins, be it waiting for its locks.
pub fn set(view: pg_sys::Oid) {
    CURRENT.set(view);
}

/// The view last worked on.
pub fn current() -> pg_sys::Oid {
    CURRENT.get()
}
