//! The one snapshot of a wave.

use crate::capture::frontier::Frontier;
use pgrx::pg_sys;

/// The active snapshot of a wave. Its xids are fixed; its command id follows what the wave itself wrote, so that a view
/// sees the new contents of the stream tables below it.
#[derive(Clone, Copy)]
pub struct RefreshSnapshot(());

impl RefreshSnapshot {
    pub fn as_ptr(self) -> pg_sys::Snapshot {
        // SAFETY: pushed by `with_refresh_snapshot` for the duration of the wave.
        unsafe { pg_sys::GetActiveSnapshot() }
    }

    /// What a view computed at this snapshot contains.
    pub fn frontier(self) -> Frontier {
        // SAFETY: the active snapshot is an MVCC snapshot.
        unsafe { Frontier::now(self.as_ptr()) }
    }

    /// Makes everything this transaction has written so far visible to the rest of the wave.
    pub fn advance(self) {
        // SAFETY: the active snapshot is a private copy.
        unsafe {
            pg_sys::CommandCounterIncrement();
            pg_sys::UpdateActiveSnapshotCommandId();
        }
    }
}

/// What the transaction's own snapshot contains.
pub fn of_transaction() -> Frontier {
    // SAFETY: a valid MVCC snapshot, used at once.
    unsafe { Frontier::now(pg_sys::GetTransactionSnapshot()) }
}

/// Runs `work` under a fresh snapshot, or the transaction's own in REPEATABLE READ and above. With `fresh` always a fresh
/// one: a first population must see what was committed before capture began, which may be after the transaction's
/// snapshot, and so must what follows it in the same transaction.
pub fn with_refresh_snapshot<R>(fresh: bool, work: impl FnOnce(RefreshSnapshot) -> R) -> R {
    // SAFETY: push and pop are paired; after an error the transaction's abort pops.
    unsafe {
        pg_sys::CommandCounterIncrement();
        let base = if fresh { pg_sys::GetLatestSnapshot() } else { pg_sys::GetTransactionSnapshot() };
        pg_sys::PushCopiedSnapshot(base);
        pg_sys::UpdateActiveSnapshotCommandId();
        let result = work(RefreshSnapshot(()));
        pg_sys::PopActiveSnapshot();
        result
    }
}
