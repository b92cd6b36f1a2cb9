//! Sequences.

use super::server;
use pgrx::pg_sys;

/// The next value, without a permission check.
pub fn next(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: nothing with a destructor crosses the call.
    unsafe { server::guarded(|| server::nextval_internal(sequence, false)) }
}
