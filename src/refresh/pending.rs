//! What has changed in a view's sources since a frontier.

use crate::capture::Pending;
use crate::capture::frontier::{Beginning, Frontier};
use crate::catalog::recompute_reason::RecomputeReason;
use crate::pg::snapshot::WaveSnapshot;
use crate::plan::cache::Entry;
use pgrx::pg_sys;
use smallvec::SmallVec;

/// Row versions per source.
pub type Versions = SmallVec<[(pg_sys::Oid, u64); 8]>;

/// What is pending for a view.
pub struct PendingChanges {
    pub versions: Versions,
    /// How many of all these are removals.
    removals: u64,
    /// Why they cannot be read, if they cannot.
    pub unreadable: Option<RecomputeReason>,
    /// Of the frontier after it (Frontier::horizon).
    horizon: u64,
    beginnings: Vec<Beginning>,
}

impl PendingChanges {
    /// What came after `frontier` and `snapshot` sees.
    pub fn since(frontier: &Frontier, entry: &Entry, snapshot: WaveSnapshot) -> Self {
        let mut found =
            Self { versions: SmallVec::new(), removals: 0, unreadable: None, horizon: u64::MAX, beginnings: vec![] };
        let xmin = Frontier::now(snapshot).xmin();
        for source in entry.circuit.sources.iter().filter(|source| source.capturable) {
            let pending = Pending::count(source.relid, frontier, snapshot.as_ptr(), xmin);
            found.versions.push((source.relid, pending.versions));
            found.removals += pending.removals;
            found.unreadable = found.unreadable.or_else(|| unreadable(&pending));
            found.horizon = found.horizon.min(pending.horizon);
            found.beginnings.extend(pending.beginnings);
        }
        if found.versions.is_empty() {
            found.horizon = 0;
        }
        found
    }

    pub fn is_empty(&self) -> bool {
        self.versions.iter().all(|&(_, versions)| versions == 0)
    }

    /// The share of removals among the versions.
    pub fn removed(&self) -> f64 {
        let versions: u64 = self.versions.iter().map(|(_, versions)| versions).sum();
        self.removals as f64 / versions.max(1) as f64
    }

    /// The frontier behind these changes, with what looking for them has told about the buffers.
    pub fn behind(self, frontier: Frontier) -> Frontier {
        frontier.with_horizon(self.horizon).with_beginnings(self.beginnings)
    }
}

fn unreadable(pending: &Pending) -> Option<RecomputeReason> {
    match () {
        () if pending.unreadable => Some(RecomputeReason::FormatChanged),
        () if !pending.has_values() => Some(RecomputeReason::ValuesMoved),
        () => None,
    }
}
