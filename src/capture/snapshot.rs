//! The frontier a server snapshot stands for.

use super::frontier::{Frontier, Unreadable};
use crate::error::cannot_happen;
use crate::pg::snapshot::WaveSnapshot;
use pgrx::pg_sys;

impl Frontier {
    /// What a view computed at this snapshot contains.
    pub fn now(snapshot: WaveSnapshot) -> Self {
        // SAFETY: the active snapshot is an MVCC snapshot.
        unsafe { Self::of(snapshot.as_ptr()) }
    }

    /// It was taken in the current transaction, after that had written something.
    pub fn is_of_this_transaction(&self) -> bool {
        // SAFETY: asks for this transaction's id.
        let xid = unsafe { pg_sys::GetTopFullTransactionIdIfAny() }.value;
        xid != 0 && self.own_xid() == Some(xid)
    }

    /// It names transactions that this server has yet to begin: pg_resetwal has set their ids back.
    pub fn is_of_the_future(&self) -> bool {
        // SAFETY: reads a counter.
        let next = unsafe { pg_sys::ReadNextFullTransactionId() }.value;
        self.ends_after(next)
    }

    /// Whether a snapshot taken now might see more: REPEATABLE READ and above keep the transaction's first.
    pub fn is_outdated(&self) -> bool {
        // SAFETY: a backend variable; a valid MVCC snapshot, used at once.
        unsafe {
            pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32
                && !Self::of(pg_sys::GetLatestSnapshot()).precedes(self)
        }
    }

    /// What `snapshot` (an MVCC snapshot, usually the active one) sees. Of the current transaction, if it has an id by
    /// now, that is what its commands before the snapshot's did.
    ///
    /// # Safety
    /// `snapshot` is a live MVCC snapshot of this database.
    unsafe fn of(snapshot: pg_sys::Snapshot) -> Self {
        // SAFETY: xip has xcnt entries; outside recovery it holds all running top-level transactions.
        unsafe {
            let snapshot = &*snapshot;
            let next = pg_sys::ReadNextFullTransactionId().value;
            let running = (0..snapshot.xcnt as usize).map(|i| widen(next, *snapshot.xip.add(i)));
            let own = pg_sys::GetTopFullTransactionIdIfAny().value;
            let own = (own != 0).then_some((own, snapshot.curcid));
            Self::new(widen(next, snapshot.xmin), widen(next, snapshot.xmax), running, own)
        }
    }

    /// As it stands in the catalog; `nothing` when another release wrote it, which makes a recompute due.
    pub fn stored(bytes: &[u8]) -> Self {
        Self::readable(bytes).unwrap_or_else(Self::nothing)
    }

    /// As it stands in the catalog; None when it is of a format that this release does not know.
    pub fn readable(bytes: &[u8]) -> Option<Self> {
        match Self::from_bytes(bytes) {
            Ok(frontier) => Some(frontier),
            Err(Unreadable::Format(_)) => None,
            Err(Unreadable::Malformed) => cannot_happen("a stored frontier is malformed"),
        }
    }

    /// Also seen: everything this transaction has done up to and including the current command, whose number no later
    /// command will share.
    pub fn with_own_so_far(&self) -> Self {
        // SAFETY: assigns a transaction id if there is none; marks the current command id as used.
        unsafe { self.with_own(pg_sys::GetTopFullTransactionId().value, pg_sys::GetCurrentCommandId(true) + 1) }
    }
}

/// A 32-bit xid of a live snapshot, which lies less than 2^31 below the next one, in 64 bits.
fn widen(next: u64, xid: pg_sys::TransactionId) -> u64 {
    let behind = (next as u32).wrapping_sub(xid.into_inner());
    next - u64::from(behind)
}
