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

/// The active snapshot of a wave. Its xids are fixed; its command id follows what the wave itself wrote, so that a view
/// sees the new contents of the stream tables below it.
#[derive(Clone, Copy)]
pub struct WaveSnapshot(());

impl WaveSnapshot {
    pub fn as_ptr(self) -> pg_sys::Snapshot {
        // SAFETY: pushed by `with_wave` for as long as there are handles.
        unsafe { pg_sys::GetActiveSnapshot() }
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

/// The transaction has one snapshot for all its statements: REPEATABLE READ and above.
pub fn is_kept() -> bool {
    // SAFETY: as IsolationUsesXactSnapshot.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Runs `work` under a fresh snapshot, or the transaction's own in REPEATABLE READ and above.
pub fn with_wave<R>(work: impl FnOnce(WaveSnapshot) -> R) -> R {
    // SAFETY: push and pop are paired; after an error the transaction's abort pops.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushCopiedSnapshot(pg_sys::GetTransactionSnapshot());
        pg_sys::UpdateActiveSnapshotCommandId();
        let result = work(WaveSnapshot(()));
        pg_sys::PopActiveSnapshot();
        result
    }
}

/// Runs `work` under a snapshot of this moment, whatever the transaction's isolation level.
pub fn with_latest<R>(work: impl FnOnce(WaveSnapshot) -> R) -> R {
    // SAFETY: push and pop are paired; after an error the transaction's abort pops.
    unsafe {
        pg_sys::PushCopiedSnapshot(pg_sys::GetLatestSnapshot());
        let result = work(WaveSnapshot(()));
        pg_sys::PopActiveSnapshot();
        result
    }
}
