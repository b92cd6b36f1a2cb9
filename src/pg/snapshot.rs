//! Snapshots of our own making.

use pgrx::pg_sys;

/// Runs `work` with an active snapshot: the one there is or, where a statement has ended its transaction on the way
/// (.. CONCURRENTLY), a new one.
pub fn with_active<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: push and pop are paired; after an error the transaction's abort pops.
    unsafe {
        let missing = !pg_sys::ActiveSnapshotSet();
        if missing {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let result = work();
        if missing {
            pg_sys::PopActiveSnapshot();
        }
        result
    }
}
