//! Keeping change buffers short without deleting rows and without waiting.
//!
//! Writers append to the *active* segment. When it has grown and the other is empty they change places. When every view
//! has seen all that is in the inactive one, it is truncated: no dead rows, no vacuum. State of a segment:
//!
//! ```text
//! active, growing --(flip: grown, other empty)--> inactive, being consumed --(all seen: truncate)--> empty --> active
//! ```
//!
//! Truncation is not transactional, so what counts as seen are committed frontiers, and rows of transactions in progress
//! must be excluded: their locks on the segment make ours fail, and then there is always another time.
//!
//! Races this must survive:
//! * a writer that still takes the segment for active: its rows are found when all of it is checked under ShareLock;
//! * a view being created or populated, whose frontier nobody sees yet: it pins the segments (install, pin);
//! * a refresh in progress: its committed frontier still is the old one;
//! * this very transaction having moved a frontier, which it may yet roll back: then nothing is truncated.

use super::buffer::StoredRow;
use super::frontier::Frontier;
use super::{cache, lock, segment};
use crate::catalog::source::{self, Source};
use crate::catalog::{dependency, stream_table};
use crate::error::cannot_happen;
use crate::pg::relation::Relation;
use crate::pg::server;
use pgrx::pg_sys;
use std::ptr::null_mut;

/// Size from which the active segment is worth replacing. A refresh may find that many pages of rows already seen in
/// its way; a truncation flushes WAL and searches the buffer pool once (docs: measured figures).
const FLIP_BLOCKS: u32 = 64;

/// Does what can be done at once; only looks when there is nothing to do. To be called with the source locked (in any
/// mode), before the current transaction moves a frontier.
pub fn trim(relid: pg_sys::Oid) {
    let Some(segments) = cache::segments(relid) else { return };
    let segments = segments.map(|segment| Relation::open(segment, pg_sys::AccessShareLock));
    let blocks = segments.each_ref().map(Relation::blocks);
    let idle = blocks.contains(&0) && blocks.iter().all(|&blocks| blocks < FLIP_BLOCKS);
    let Some(source) = (!idle).then(|| source::get(relid)).flatten() else { return };
    let (active, inactive) = (source.active, 1 - source.active);
    if blocks[inactive] > 0 {
        truncate_if_seen(&source, &segments[inactive]);
    }
    if blocks[active] >= FLIP_BLOCKS && segments[inactive].blocks() == 0 {
        flip(relid);
    }
}

/// Lets writers use the other segment from now on.
fn flip(relid: pg_sys::Oid) {
    if lock::try_alter(relid)
        && let Some(mut source) = source::get(relid)
    {
        source.active = 1 - source.active;
        source::update(&source);
        segment::invalidate(source.segments);
    }
}

fn truncate_if_seen(source: &Source, segment: &Relation) {
    let Some(frontiers) = committed_frontiers(source.relid) else { return };
    let Some(_no_writers) = Held::take(segment, pg_sys::ShareLock) else { return };
    if all_seen(segment, &frontiers)
        && let Some(_nobody) = Held::take(segment, pg_sys::AccessExclusiveLock)
    {
        truncate(segment);
    }
}

/// The frontiers of all views that have one; None when this transaction has moved one of them.
fn committed_frontiers(relid: pg_sys::Oid) -> Option<Vec<Frontier>> {
    let mut frontiers = Vec::new();
    for view in dependency::dependants_of(relid) {
        let view = stream_table::get(view)?;
        if view.is_own {
            return None;
        }
        frontiers.extend(view.frontier.filter(|_| view.captured).map(|bytes| match Frontier::from_bytes(&bytes) {
            Ok(frontier) => frontier,
            Err(_) => cannot_happen("malformed frontier"),
        }));
    }
    Some(frontiers)
}

/// Looks at the newest rows first: they are the ones not seen, if any.
fn all_seen(segment: &Relation, frontiers: &[Frontier]) -> bool {
    // SAFETY: the snapshot is registered during the scan; nothing in the closure has a destructor or panics.
    unsafe {
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE;
        let scan = pg_sys::heap_beginscan(segment.as_ptr(), snapshot, 0, null_mut(), null_mut(), flags);
        let all = server::guarded(|| {
            loop {
                let tuple = server::heap_getnext(scan, pg_sys::ScanDirection::BackwardScanDirection);
                if tuple.is_null() {
                    return true;
                }
                let row = StoredRow::of(tuple);
                if !frontiers.iter().all(|frontier| frontier.covers(row.xid(), row.cid())) {
                    return false;
                }
            }
        });
        pg_sys::heap_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        all
    }
}

/// Truncates the segment and, if used, its toast table.
fn truncate(segment: &Relation) {
    // SAFETY: we hold AccessExclusiveLock; rows not seen by the check are dead.
    unsafe {
        let toast = segment.form().reltoastrelid;
        if Relation::open(toast, pg_sys::AccessShareLock).blocks() == 0 {
            pg_sys::RelationTruncate(segment.as_ptr(), 0);
        } else {
            pg_sys::heap_truncate_one_rel(segment.as_ptr());
        }
    }
}

/// A lock taken without waiting and given back early: what it protected is done, not pending until commit.
struct Held {
    relid: pg_sys::Oid,
    mode: i32,
}

impl Held {
    /// None when somebody is in the way, this transaction's own writes included.
    fn take(segment: &Relation, mode: u32) -> Option<Self> {
        let (relid, mode) = (segment.oid(), mode as i32);
        // SAFETY: a conditional lock.
        unsafe {
            let wrote = pg_sys::CheckRelationOidLockedByMe(relid, pg_sys::RowExclusiveLock as i32, false);
            (!wrote && pg_sys::ConditionalLockRelationOid(relid, mode)).then_some(Self { relid, mode })
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: taken by `take`.
            unsafe { pg_sys::UnlockRelationOid(self.relid, self.mode) };
        }
    }
}
